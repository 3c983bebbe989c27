package main

import "testing"

func TestPaceFollowsTheWork(t *testing.T) {
	var p pace
	steps := []struct {
		allocated uint64
		times     int
		changes   int
		working   bool
	}{
		{1 << 20, 30, 0, false},
		{workBytes, 1, 1, true},
		{workBytes * 4, 5, 0, true},
		{0, restAfter - 1, 0, true},
		{workBytes, 1, 0, true}, // calm begins anew
		{0, restAfter - 1, 0, true},
		{0, 1, 1, false},
		{0, 30, 0, false},
	}
	for i, s := range steps {
		changes := 0
		for range s.times {
			if p.next(s.allocated) {
				changes++
			}
		}
		if changes != s.changes || p.working != s.working {
			t.Errorf("step %d: %d changes and working=%v, want %d and %v", i, changes, p.working, s.changes, s.working)
		}
	}
}
