package notary

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/orlog-io/orlog/events"
)

// Inclusion proves that one event is in the log: hashes that lead from the event's leaf to the root of a
// signed checkpoint. Verify checks it, knowing nothing but the notary's public key.
type Inclusion struct {
	Sequence events.Sequence `json:"sequence"`
	// Checkpoint is the signed note, Path the hashes (base64).
	Checkpoint string           `json:"checkpoint"`
	Path       tlog.RecordProof `json:"path"`
}

// Consistency proves that the log of a later checkpoint begins with the log of an earlier one, unchanged.
type Consistency struct {
	From events.Sequence `json:"from"`
	// Checkpoint is the later one, signed.
	Checkpoint string         `json:"checkpoint"`
	Path       tlog.TreeProof `json:"path"`
}

// Prove makes the proof that the event at a sequence is under the last checkpoint. Errors: ErrNotSigned past
// it; ErrTampered where the notary's own file is damaged (then the file named hashes may be deleted: it is
// made again from the log at the next start).
func (n *Notary) Prove(seq events.Sequence) (Inclusion, error) {
	c, signed := n.Checkpoint()
	if seq == 0 || seq > c.Size {
		return Inclusion{}, fmt.Errorf("event %d: the last checkpoint is at %d: %w", seq, c.Size, ErrNotSigned)
	}
	if err := n.complete(c); err != nil {
		return Inclusion{}, err
	}
	r := fileReader{n.tree.file}
	path, err := tlog.ProveRecord(int64(c.Size), int64(seq)-1, r)
	if err != nil {
		return Inclusion{}, fmt.Errorf("notary in %s: proof of event %d: %w", n.o.Dir, seq, err)
	}
	leaf, err := r.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(seq)-1)})
	if err == nil {
		err = tlog.CheckRecord(path, int64(c.Size), c.Root, int64(seq)-1, leaf[0])
	}
	if err != nil {
		return Inclusion{}, fmt.Errorf("notary in %s: its own hashes do not prove event %d: %w: %w", n.o.Dir, seq, err, ErrTampered)
	}
	return Inclusion{Sequence: seq, Checkpoint: string(signed), Path: path}, nil
}

// ProveConsistency makes the proof that the last checkpoint continues the log of an earlier checkpoint,
// signed when it held from events. Errors: ErrNotSigned past the last checkpoint.
func (n *Notary) ProveConsistency(from events.Sequence) (Consistency, error) {
	c, signed := n.Checkpoint()
	if from == 0 || from > c.Size {
		return Consistency{}, fmt.Errorf("consistency from %d: the last checkpoint is at %d: %w", from, c.Size, ErrNotSigned)
	}
	if err := n.complete(c); err != nil {
		return Consistency{}, err
	}
	path, err := tlog.ProveTree(int64(c.Size), int64(from), fileReader{n.tree.file})
	if err != nil {
		return Consistency{}, fmt.Errorf("notary in %s: consistency from %d: %w", n.o.Dir, from, err)
	}
	return Consistency{From: from, Checkpoint: string(signed), Path: path}, nil
}

// complete says whether the hashes under a checkpoint are all there.
func (n *Notary) complete(c Checkpoint) error {
	if n.tree.holds(int64(c.Size)) {
		return nil
	}
	return fmt.Errorf("notary in %s: its hashes are being made again from the log: %w", n.o.Dir, ErrNotSigned)
}

// Verify checks that an event, as read from the log (its Sequence set), is under the proof's checkpoint,
// signed with the given public key. It returns that checkpoint; an error that matches ErrTampered means that
// the event, the proof or the signature is not genuine.
func Verify(key string, e events.Event, p Inclusion) (Checkpoint, error) {
	c, err := ParseCheckpoint(key, []byte(p.Checkpoint))
	if err != nil {
		return Checkpoint{}, err
	}
	if e.Sequence != p.Sequence || e.Sequence == 0 || e.Sequence > c.Size {
		return Checkpoint{}, fmt.Errorf("the proof is of event %d under a checkpoint at %d, the event is %d: %w", p.Sequence, c.Size, e.Sequence, ErrTampered)
	}
	leaf, err := leafHash(e)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := tlog.CheckRecord(p.Path, int64(c.Size), c.Root, int64(e.Sequence)-1, leaf); err != nil {
		return Checkpoint{}, fmt.Errorf("event %d about %s is not the one under the checkpoint at %d: %w: %w", e.Sequence, e.Subject.Key, c.Size, err, ErrTampered)
	}
	return c, nil
}

// VerifyConsistency checks that a proof's checkpoint continues an earlier one, both signed with the given
// public key. It returns the later one; an error that matches ErrTampered means that history was rewritten
// between the two, or that something is not genuine.
func VerifyConsistency(key string, earlier []byte, p Consistency) (Checkpoint, error) {
	old, err := ParseCheckpoint(key, earlier)
	if err != nil {
		return Checkpoint{}, err
	}
	now, err := ParseCheckpoint(key, []byte(p.Checkpoint))
	if err != nil {
		return Checkpoint{}, err
	}
	if p.From != old.Size || old.Size == 0 || old.Size > now.Size {
		return Checkpoint{}, fmt.Errorf("the proof leads from %d to %d, the earlier checkpoint is at %d: %w", p.From, now.Size, old.Size, ErrTampered)
	}
	if err := tlog.CheckTree(p.Path, int64(now.Size), now.Root, int64(old.Size), old.Root); err != nil {
		return Checkpoint{}, fmt.Errorf("the log at %d does not continue the log at %d: %w: %w", now.Size, old.Size, err, ErrTampered)
	}
	return now, nil
}
