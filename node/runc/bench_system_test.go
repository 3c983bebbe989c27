//go:build system

package runc

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/orlog-io/orlog/node/shim"
)

// BenchmarkRun is one container started in an open sandbox, and removed outside the measured time.
func BenchmarkRun(tb *testing.B) {
	b := newBench(tb)
	s := b.sandbox("bench")
	i := 0
	for tb.Loop() {
		i++
		c := b.container(fmt.Sprintf("c%d", i), "sleep 1000")
		b.run(s, c)
		tb.StopTimer()
		if err := b.Remove(b.ctx, s, c.ID); err != nil {
			tb.Fatal(err)
		}
		tb.StartTimer()
	}
}

// BenchmarkPod is a pod's whole life: sandbox, one container, close.
func BenchmarkPod(tb *testing.B) {
	b := newBench(tb)
	i := 0
	for tb.Loop() {
		i++
		s := b.sandbox(fmt.Sprintf("pod%d", i))
		b.run(s, b.container("c", "sleep 1000"))
		if err := b.CloseSandbox(b.ctx, s); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkOpenAndRun is a pod from nothing to a running container.
func BenchmarkOpenAndRun(tb *testing.B) {
	b := newBench(tb)
	i := 0
	for tb.Loop() {
		i++
		s := b.sandbox(fmt.Sprintf("pod%d", i))
		b.run(s, b.container("c", "sleep 1000"))
		tb.StopTimer()
		if err := b.CloseSandbox(b.ctx, s); err != nil {
			tb.Fatal(err)
		}
		tb.StartTimer()
	}
}

// BenchmarkBareRunc is the floor: the same bundle, runc alone.
func BenchmarkBareRunc(tb *testing.B) {
	b := newBench(tb)
	s := b.sandbox("bare")
	c := b.container("c", "sleep 1000")
	b.run(s, c)
	dir := shim.ContainerDir(b.podDir(s), c.ID)
	if err := b.stop(b.ctx, s, c.ID); err != nil {
		tb.Fatal(err)
	}
	root := filepath.Join(b.podDir(s), "bare")
	for tb.Loop() {
		cmd := exec.Command(b.opts.RuncPath, "--root", root, "run", "-d", "--pid-file", filepath.Join(dir, "pid"), "-b", dir, "bare")
		if err := cmd.Run(); err != nil {
			tb.Fatal(err)
		}
		tb.StopTimer()
		exec.Command(b.opts.RuncPath, "--root", root, "delete", "-f", "bare").Run()
		tb.StartTimer()
	}
}
