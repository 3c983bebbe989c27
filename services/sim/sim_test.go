package sim

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	seed  = flag.Int64("seed", -1, "simulate this seed only")
	first = flag.Uint64("first", 0, "the first seed")
	seeds = flag.Uint64("seeds", 100, "how many seeds to simulate")

	update = flag.Bool("update", false, "write the golden history anew")
)

// TestSeeds simulates many seeds: none may violate an invariant, and all must come to rest.
func TestSeeds(t *testing.T) {
	from, n := *first, *seeds
	if *seed >= 0 {
		from, n = uint64(*seed), 1
	}
	for s := from; s < from+n; s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			r, err := Run(Options{Seed: s})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d events, %d steps, %d decisions in %s of %+v", r.Events, r.Steps, r.Decisions, r.Virtual, r.Plan)
		})
	}
}

// TestSameSeedSameHistory runs seeds twice: every byte of both logs must be the same.
func TestSameSeedSameHistory(t *testing.T) {
	for s := range uint64(3) {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			if _, err := Twice(Options{Seed: s}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestGolden tells one short history: two nodes, one Deployment, an update of its image.
func TestGolden(t *testing.T) {
	const file = "testdata/roll.txt"
	plan := Plan{Nodes: 2, Cores: 5, Deployments: 1, Length: time.Minute, Script: []Deed{{20 * time.Second, "roll"}}}
	r, err := Run(Options{Seed: 1, Plan: &plan})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, []byte(r.Story()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Story() != string(want) {
		t.Errorf("another history than %s (if it is meant to be: -update):\n%s", file, firstDifference(string(want), r.Story()))
	}
}

// TestFailureTellsHowToReplay: what is wrong, the seed, and the end of the history.
func TestFailureTellsHowToReplay(t *testing.T) {
	plan := Plan{Nodes: 1, Cores: 0, Deployments: 1, Length: time.Minute} // pods that no node can hold
	_, err := Run(Options{Seed: 7, Plan: &plan})
	var f *Failure
	if !errors.As(err, &f) || f.Seed != 7 || f.Step == 0 {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"not where it should be", "is not ready", "pod.unschedulable", "-seed=7"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the failure does not tell %q:\n%v", part, err)
		}
	}
}
