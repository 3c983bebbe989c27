package storage

import (
	"runtime"
	"sync"
)

// parallel calls f with 0 to n-1 on all processors, and returns when all have. A goroutine is not worth a
// few calls.
func parallel(n int, f func(i int)) {
	workers := max(min(runtime.GOMAXPROCS(0), n/8), 1)
	var group sync.WaitGroup
	for w := 1; w < workers; w++ {
		group.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	for i := 0; i < n; i += workers {
		f(i)
	}
	group.Wait()
}
