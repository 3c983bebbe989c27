package shim

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pause is the life of the first process of a PID namespace that a pod's containers share: it collects orphans
// until SIGTERM. It runs as a container of its own, which holds nothing but this binary.
func Pause() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGCHLD, unix.SIGTERM)
	for sig := range ch {
		if sig == unix.SIGTERM {
			return
		}
		for {
			var ws syscall.WaitStatus
			if pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
				break
			}
		}
	}
}
