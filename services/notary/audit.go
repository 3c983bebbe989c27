package notary

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/orlog-io/orlog/events"
)

// Audit reads a log from its beginning and checks that its first events are those of a signed checkpoint.
// It trusts nothing but the public key, least of all the server's own hashes. An error that matches
// ErrTampered means that the log was altered. It returns the checkpoint.
func Audit(ctx context.Context, log events.Log, key string, signed []byte) (Checkpoint, error) {
	c, err := ParseCheckpoint(key, signed)
	if err != nil {
		return Checkpoint{}, err
	}
	last, err := log.Last(ctx)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("audit: asking the log for its end: %w", err)
	}
	if last < c.Size {
		return Checkpoint{}, fmt.Errorf("audit: %d events were signed, but the log ends at %d: %w", c.Size, last, ErrTampered)
	}
	var t edge
	if err := read(ctx, log, c.Size, t.add); err != nil {
		return Checkpoint{}, fmt.Errorf("audit: %w", err)
	}
	if got := t.root(); got != c.Root {
		return Checkpoint{}, fmt.Errorf("audit: the log's first %d events have root %s, signed was %s: %w", c.Size, got, c.Root, ErrTampered)
	}
	return c, nil
}

// Audit compares every event under the last checkpoint with the notary's own hashes, and names the first
// that was altered. It says where; the package's Audit says whether, trusting the signature alone.
func (n *Notary) Audit(ctx context.Context, log events.Log) error {
	c, _ := n.Checkpoint()
	return read(ctx, log, c.Size, n.checkLeaf)
}

// read passes on the log's events 1..size, without a gap.
func read(ctx context.Context, log events.Log, size events.Sequence, each func(events.Event) error) (err error) {
	sub, err := log.Subscribe(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sub.Close()) }()
	for next := events.Sequence(1); next <= size; {
		batch, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range batch {
			if e.Sequence != next {
				return fmt.Errorf("event %d came, want %d: %w", e.Sequence, next, events.ErrGap)
			}
			if next > size {
				return nil
			}
			if err := each(e); err != nil {
				return err
			}
			next++
		}
	}
	return nil
}

// edge is a tree of which only the right edge is kept: the roots of its complete subtrees, the largest first.
type edge struct {
	roots []subtree
}

type subtree struct {
	level int
	hash  tlog.Hash
}

func (t *edge) add(e events.Event) error {
	leaf, err := leafHash(e)
	if err != nil {
		return err
	}
	t.roots = append(t.roots, subtree{hash: leaf})
	for len(t.roots) > 1 && t.roots[len(t.roots)-1].level == t.roots[len(t.roots)-2].level {
		left, right := t.roots[len(t.roots)-2], t.roots[len(t.roots)-1]
		t.roots = append(t.roots[:len(t.roots)-2], subtree{left.level + 1, tlog.NodeHash(left.hash, right.hash)})
	}
	return nil
}

// root is the hash of the whole tree; it is not asked of an empty one.
func (t *edge) root() (h tlog.Hash) {
	for i := len(t.roots) - 1; i >= 0; i-- {
		if i == len(t.roots)-1 {
			h = t.roots[i].hash
		} else {
			h = tlog.NodeHash(t.roots[i].hash, h)
		}
	}
	return h
}
