package agent

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/orlog-io/orlog/node/runc"
)

// Operations of the runtime, as metrics name them.
const (
	openSandbox     = "open_sandbox"
	runContainer    = "run_container"
	askStatus       = "status"
	listSandboxes   = "list_sandboxes"
	sendSignal      = "signal"
	removeContainer = "remove_container"
	updateSandbox   = "update_sandbox"
	updateContainer = "update_container"
	closeSandbox    = "close_sandbox"
)

var runtimeOperations = []string{openSandbox, runContainer, askStatus, listSandboxes, sendSignal, removeContainer, updateSandbox, updateContainer, closeSandbox}

// measuredRuntime measures what the runtime does. That something is gone already is no failure of the runtime's.
type measuredRuntime struct {
	Runtime
	m *metrics
}

func (r measuredRuntime) did(operation string, began time.Time, err error) {
	r.m.runtime.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, runc.ErrNotFound) && !errors.Is(err, runc.ErrNotRunning) && !errors.Is(err, context.Canceled) {
		r.m.runtimeNo.WithLabelValues(operation).Inc()
	}
}

// OpenSandbox implements Runtime.
func (r measuredRuntime) OpenSandbox(ctx context.Context, s runc.Sandbox) (err error) {
	defer func(began time.Time) { r.did(openSandbox, began, err) }(time.Now())
	return r.Runtime.OpenSandbox(ctx, s)
}

// Run implements Runtime.
func (r measuredRuntime) Run(ctx context.Context, sandboxID string, c runc.Container) (st runc.Status, err error) {
	defer func(began time.Time) { r.did(runContainer, began, err) }(time.Now())
	return r.Runtime.Run(ctx, sandboxID, c)
}

// Status implements Runtime.
func (r measuredRuntime) Status(ctx context.Context, sandboxID string) (list []runc.Status, err error) {
	defer func(began time.Time) { r.did(askStatus, began, err) }(time.Now())
	return r.Runtime.Status(ctx, sandboxID)
}

// Sandboxes implements Runtime.
func (r measuredRuntime) Sandboxes(ctx context.Context) (list []runc.Sandbox, err error) {
	defer func(began time.Time) { r.did(listSandboxes, began, err) }(time.Now())
	return r.Runtime.Sandboxes(ctx)
}

// Signal implements Runtime.
func (r measuredRuntime) Signal(ctx context.Context, sandboxID, containerID string, sig syscall.Signal) (err error) {
	defer func(began time.Time) { r.did(sendSignal, began, err) }(time.Now())
	return r.Runtime.Signal(ctx, sandboxID, containerID, sig)
}

// Remove implements Runtime.
func (r measuredRuntime) Remove(ctx context.Context, sandboxID, containerID string) (err error) {
	defer func(began time.Time) { r.did(removeContainer, began, err) }(time.Now())
	return r.Runtime.Remove(ctx, sandboxID, containerID)
}

// UpdateSandbox implements Runtime.
func (r measuredRuntime) UpdateSandbox(ctx context.Context, sandboxID string, to runc.Resources) (err error) {
	defer func(began time.Time) { r.did(updateSandbox, began, err) }(time.Now())
	return r.Runtime.UpdateSandbox(ctx, sandboxID, to)
}

// UpdateContainer implements Runtime.
func (r measuredRuntime) UpdateContainer(ctx context.Context, sandboxID, containerID string, to runc.Resources) (err error) {
	defer func(began time.Time) { r.did(updateContainer, began, err) }(time.Now())
	return r.Runtime.UpdateContainer(ctx, sandboxID, containerID, to)
}

// CloseSandbox implements Runtime.
func (r measuredRuntime) CloseSandbox(ctx context.Context, sandboxID string) (err error) {
	defer func(began time.Time) { r.did(closeSandbox, began, err) }(time.Now())
	return r.Runtime.CloseSandbox(ctx, sandboxID)
}
