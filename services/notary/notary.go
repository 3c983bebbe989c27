package notary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/orlog-io/orlog/events"
)

// Options say where the notary keeps its evidence and how often it signs.
type Options struct {
	// Dir is the notary's folder.
	Dir string
	// Origin names the log in checkpoints and in the key: no spaces, no "+", for example
	// "orlog.example.com/production".
	Origin string
	// Interval is how long a new event waits for its checkpoint at most (default 1 s), MaxPending how many
	// new events do (default 10,000).
	Interval   time.Duration
	MaxPending int
	// Copies are files that each signed checkpoint is written to as well, best on another machine's disk: who
	// holds a copy can tell whether the log was rewritten, even by who owns the server.
	Copies []string
	// Now is the clock of the checkpoints; nil: time.Now. Logger takes warnings; nil: slog.Default().
	Now    func() time.Time
	Logger *slog.Logger
	// Registry gets the notary's metrics; nil: none.
	Registry prometheus.Registerer
}

// Notary keeps the tree. Its methods may be called from many goroutines; one Run at a time.
type Notary struct {
	o      Options
	signer note.Signer
	public string
	tree   *hashes // Run's alone; readers go to the file below the checkpoint

	mu     sync.Mutex
	signed []byte
	last   Checkpoint
}

// Open opens the notary's folder, or makes it with a new key. Hashes past the last checkpoint are cut off;
// hashes that do not lead to it are dropped, to be made again from the log by Run.
func Open(o Options) (*Notary, error) {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.MaxPending <= 0 {
		o.MaxPending = 10000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	n := &Notary{o: o}
	if err := n.open(); err != nil {
		return nil, fmt.Errorf("notary in %s: %w", o.Dir, err)
	}
	if err := n.measure(o.Registry); err != nil {
		return nil, errors.Join(fmt.Errorf("notary in %s: metrics: %w", o.Dir, err), n.tree.file.Close())
	}
	return n, nil
}

func (n *Notary) open() error {
	if err := os.MkdirAll(n.o.Dir, 0o700); err != nil {
		return err
	}
	if err := sweep(n.o.Dir); err != nil {
		return err
	}
	signed, err := readIfAny(n.path(checkpointFile))
	if err != nil {
		return err
	}
	if n.signer, n.public, err = loadKey(n.o.Dir, n.o.Origin, signed == nil); err != nil {
		return err
	}
	if signed != nil {
		if n.last, err = ParseCheckpoint(n.public, signed); err != nil {
			return err
		}
		n.signed = signed
	}
	if n.tree, err = openHashes(n.path(hashesFile)); err != nil {
		return err
	}
	if err := n.adopt(); err != nil {
		return errors.Join(err, n.tree.file.Close())
	}
	return nil
}

func (n *Notary) adopt() error {
	if n.last.Size == 0 {
		return n.tree.reset()
	}
	ok, err := n.tree.adopt(int64(n.last.Size), n.last.Root)
	if err != nil || ok {
		return err
	}
	n.o.Logger.Warn("the notary's hashes do not lead to its last checkpoint: making them again from the log",
		"dir", n.o.Dir, events.LogSequence, n.last.Size)
	return n.tree.reset()
}

func (n *Notary) path(name string) string { return filepath.Join(n.o.Dir, name) }

// Close closes the folder. Run must have ended.
func (n *Notary) Close() error { return n.tree.file.Close() }

// PublicKey is the text of key.pub: what checkpoints and proofs are verified against.
func (n *Notary) PublicKey() string { return n.public }

// Checkpoint returns the last checkpoint, and as it was signed; nil before the first.
func (n *Notary) Checkpoint() (Checkpoint, []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last, n.signed
}

// CheckLog refuses a log that cannot be the one that was signed: one that ends before the last checkpoint,
// or whose event there is another one. It is quick; [Audit] looks at every event. Call it at start-up,
// before anybody appends.
func (n *Notary) CheckLog(ctx context.Context, log events.Log) error {
	c, _ := n.Checkpoint()
	if c.Size == 0 {
		return nil
	}
	last, err := log.Last(ctx)
	if err != nil {
		return fmt.Errorf("notary in %s: asking the log for its end: %w", n.o.Dir, err)
	}
	if last < c.Size {
		return fmt.Errorf("notary in %s signed %d events, but the log ends at %d: restore the log from a backup or a replica: %w", n.o.Dir, c.Size, last, ErrTampered)
	}
	if !n.tree.holds(int64(c.Size)) { // being made again: Run compares the whole root
		return nil
	}
	e, err := log.Get(ctx, c.Size)
	if errors.Is(err, events.ErrNotFound) {
		return fmt.Errorf("notary in %s signed event %d, which the log no longer holds: restore the log from a backup or a replica: %w", n.o.Dir, c.Size, ErrTampered)
	}
	if err != nil {
		return fmt.Errorf("notary in %s: reading event %d: %w", n.o.Dir, c.Size, err)
	}
	return n.checkLeaf(e)
}

func (n *Notary) checkLeaf(e events.Event) error {
	got, err := leafHash(e)
	if err != nil {
		return err
	}
	want, err := fileReader{n.tree.file}.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(e.Sequence)-1)})
	if err != nil {
		return fmt.Errorf("notary in %s: %w", n.o.Dir, err)
	}
	if got != want[0] {
		return fmt.Errorf("notary in %s: event %d about %s is not the one that was signed: restore the log from a backup or a replica: %w", n.o.Dir, e.Sequence, e.Subject.Key, ErrTampered)
	}
	return nil
}

// add puts an event into the tree. Where the tree is being made again it compares it, on the way, with what
// was signed.
func (n *Notary) add(e events.Event) error {
	if want := events.Sequence(n.tree.size) + 1; e.Sequence != want {
		return fmt.Errorf("event %d came, want %d: %w", e.Sequence, want, events.ErrGap)
	}
	leaf, err := leafHash(e)
	if err != nil {
		return err
	}
	if err := n.tree.add(leaf); err != nil {
		return err
	}
	if events.Sequence(n.tree.size) != n.last.Size {
		return nil
	}
	root, err := tlog.TreeHash(n.tree.size, n.tree)
	if err != nil {
		return err
	}
	if root != n.last.Root {
		return fmt.Errorf("the log's first %d events have root %s, but %s was signed at %s: the log was altered; restore it from a backup or a replica: %w",
			n.last.Size, root, n.last.Root, n.last.Time.Format(time.RFC3339), ErrTampered)
	}
	return nil
}

// commit makes the tree durable and then signs it. While it is being made again there is nothing to sign.
func (n *Notary) commit() error {
	if err := n.tree.sync(); err != nil {
		return fmt.Errorf("writing hashes: %w", err)
	}
	if events.Sequence(n.tree.size) <= n.last.Size {
		return nil
	}
	root, err := tlog.TreeHash(n.tree.size, n.tree)
	if err != nil {
		return err
	}
	c := Checkpoint{Origin: n.o.Origin, Size: events.Sequence(n.tree.size), Root: root, Time: n.o.Now().UTC()}
	signed, err := sign(c, n.signer)
	if err != nil {
		return err
	}
	if err := replace(n.path(checkpointFile), signed, 0o644); err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	n.mu.Lock()
	n.last, n.signed = c, signed
	n.mu.Unlock()
	n.copyOut(c, signed)
	return nil
}

// copyOut writes the copies. One that fails is no reason to stop signing: the next checkpoint includes it.
func (n *Notary) copyOut(c Checkpoint, signed []byte) {
	for _, path := range n.o.Copies {
		if err := replace(path, signed, 0o644); err != nil {
			n.o.Logger.Error("a copy of the checkpoint could not be written", "path", path, events.LogSequence, c.Size, events.LogError, err)
		}
	}
}
