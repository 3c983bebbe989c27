package notary

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/orlog-io/orlog/events"
)

var (
	// ErrTampered: the evidence does not fit together. A log, a proof or a checkpoint is not what it was.
	ErrTampered = errors.New("evidence of tampering")
	// ErrNotSigned: no checkpoint covers the sequence yet. Try again in a second.
	ErrNotSigned = errors.New("not under a checkpoint yet")
)

// Checkpoint is what the notary signs: the log's first Size events, in order, have this Root.
type Checkpoint struct {
	Origin string
	Size   events.Sequence
	Root   tlog.Hash
	// Time is when it was signed, by the notary's clock.
	Time time.Time
}

// text is the checkpoint as c2sp.org/tlog-checkpoint has it: origin, size and root, a line each, and one
// extension line with the time.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\ntime %s\n", c.Origin, c.Size, c.Root, c.Time.UTC().Format(time.RFC3339Nano))
}

func sign(c Checkpoint, signer note.Signer) ([]byte, error) {
	b, err := note.Sign(&note.Note{Text: c.text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("signing the checkpoint at %d: %w", c.Size, err)
	}
	return b, nil
}

// ParseCheckpoint reads a signed checkpoint and checks its signature against the notary's public key (the
// text of key.pub). An error matches ErrTampered where the signature is not that key's.
func ParseCheckpoint(key string, signed []byte) (Checkpoint, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("public key %q: %w: want the text of the notary's key.pub", key, err)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint is not signed by %s: %w: %w", verifier.Name(), err, ErrTampered)
	}
	c, err := parseText(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	if c.Origin != verifier.Name() {
		return Checkpoint{}, fmt.Errorf("checkpoint is about log %q, the key is for %q: %w", c.Origin, verifier.Name(), ErrTampered)
	}
	return c, nil
}

func parseText(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 5 {
		return Checkpoint{}, fmt.Errorf("%d lines, want origin, size, root and time", len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("size %q is not a number of events", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, fmt.Errorf("root %q is not a SHA-256 hash in base64", lines[2])
	}
	at, err := time.Parse("time "+time.RFC3339Nano, lines[3])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("time: %w", err)
	}
	return Checkpoint{Origin: lines[0], Size: events.Sequence(size), Root: tlog.Hash(root), Time: at}, nil
}
