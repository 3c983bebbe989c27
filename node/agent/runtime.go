package agent

import (
	"bytes"
	"context"
	"sync"

	"github.com/orlog-io/orlog/node/network"
	"github.com/orlog-io/orlog/node/runc"
)

// execIn is the Exec of a real runtime.
func execIn(r *runc.Runtime) Exec {
	return func(ctx context.Context, sandboxID, containerID string, args []string) (int, string, error) {
		out := &head{limit: 10 << 10}
		code, err := r.Exec(ctx, sandboxID, containerID, runc.ExecOptions{Args: args, Stdout: out, Stderr: out})
		return code, out.String(), err
	}
}

// head keeps the beginning of what is written to it.
type head struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	limit int
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if room := h.limit - h.buf.Len(); room > 0 {
		h.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}

// podNetwork is a *network.Manager as a Network.
type podNetwork struct{ *network.Manager }

// Setup connects a pod.
func (n podNetwork) Setup(ctx context.Context, podUID, namespace, name string) (Attachment, error) {
	r, err := n.Manager.Setup(ctx, podUID, namespace, name)
	return Attachment{NetNS: r.NetNS, IPs: r.IPs}, err
}
