package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/orlog-io/orlog/events"
)

// The two streams. LiveRoot is where every appended event is published once more, without persistence, for
// readers that only care about the present.
const (
	StreamName         = "ORLOG"
	VolatileStreamName = "ORLOG_VOLATILE"
	LiveRoot           = "orlog-live"

	volatileRoot = "orlog-volatile"
	// dedupe is how long the server recognises a message ID by itself. Past it, appends that no guard protects are
	// looked up before they are tried again.
	dedupe = 2 * time.Minute
)

// Log opens the log, creating its stream where there is none (see Options.MustExist).
func (c *Conn) Log(ctx context.Context) (events.Log, error) {
	info, err := c.openStream(ctx, c.config(), c.opts.MustExist || c.opts.MinSequence > 0)
	if err != nil {
		return nil, err
	}
	if last := events.Sequence(info.State.LastSeq); last < c.opts.MinSequence {
		return nil, fmt.Errorf("%w: stream %s ends at sequence %d, but %d has been seen here: its tail is lost. "+
			"Do not append to it. Restore the server's directory (or the stream) from a backup or a replica that reaches %[4]d, "+
			"or, to accept the loss, delete the local projections and the notary's folder, which are ahead of it", events.ErrGap, StreamName, last, c.opts.MinSequence)
	}
	if s := info.State; s.NumDeleted > 0 || s.Msgs > 0 && s.FirstSeq != 1 {
		return nil, fmt.Errorf("%w: stream %s holds %d of the sequences 1 to %d (first %d, %d deleted): events are missing. "+
			"Restore the stream from a backup", events.ErrGap, StreamName, s.Msgs, s.LastSeq, s.FirstSeq, s.NumDeleted)
	}
	l := c.open(StreamName, events.SubjectRoot, info.Config.Replicas, true)
	if err := l.checkEnds(ctx, events.Sequence(info.State.LastSeq)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// checkEnds looks whether the first and the newest event are there. A server whose index says so believes in
// events that its files no longer hold, and a reader would wait for them for ever.
func (l *log) checkEnds(ctx context.Context, last events.Sequence) error {
	if last == 0 {
		return nil
	}
	for _, seq := range []events.Sequence{1, last} {
		if _, err := l.Get(ctx, seq); errors.Is(err, events.ErrNotFound) {
			return fmt.Errorf("%w: stream %s says that it holds the sequences 1 to %d, but event %d is missing: its files are damaged. "+
				"Stop, and restore the stream from a backup", events.ErrGap, l.stream, last, seq)
		} else if err != nil {
			return fmt.Errorf("stream %s: looking at its ends: %w", l.stream, err)
		}
	}
	return nil
}

// Volatile opens the log of volatile objects: the same interface, but only the newest event on each subject
// is kept, so gaps in sequences are normal there.
func (c *Conn) Volatile(ctx context.Context) (events.Log, error) {
	info, err := c.openStream(ctx, c.volatileConfig(), false)
	if err != nil {
		return nil, err
	}
	return c.open(VolatileStreamName, volatileRoot, info.Config.Replicas, false), nil
}

func (c *Conn) config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               StreamName,
		Description:        "Orlog: every event of the cluster, for ever",
		Subjects:           []string{events.SubjectRoot + ".desired.>", events.SubjectRoot + ".observed.>"},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           max(c.opts.Replicas, 1),
		Duplicates:         c.opts.dedupe,
		Compression:        jetstream.S2Compression,
		DenyDelete:         true,
		DenyPurge:          true,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		RePublish:          &jetstream.RePublish{Source: events.SubjectRoot + ".>", Destination: LiveRoot + ".>"},
	}
}

func (c *Conn) volatileConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               VolatileStreamName,
		Description:        "Orlog: the newest event of each volatile object (leases)",
		Subjects:           []string{volatileRoot + ".desired.>", volatileRoot + ".observed.>"},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           max(c.opts.Replicas, 1),
		Duplicates:         c.opts.dedupe,
		MaxMsgsPerSubject:  1,
		Discard:            jetstream.DiscardOld,
		DenyDelete:         true,
		DenyPurge:          true,
		AllowDirect:        true,
		AllowAtomicPublish: true,
	}
}

// openStream finds the stream or creates it. It never updates one: an update of a stream that the server
// failed to load deletes its files.
func (c *Conn) openStream(ctx context.Context, want jetstream.StreamConfig, mustExist bool) (*jetstream.StreamInfo, error) {
	var info *jetstream.StreamInfo
	err := c.retry(ctx, func(ctx context.Context, _ int) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		var err error
		info, err = c.streamInfo(ctx, want.Name)
		if errors.Is(err, errStreamNotFound) {
			if mustExist {
				return fmt.Errorf("%w: the server at %s has no stream %s, but this log has been used here before. It is not created anew, "+
					"as that would hide the loss. Start the server on the right directory (and key), or restore the stream from a backup; "+
					"to begin an empty cluster, delete the local projections and the notary's folder as well", events.ErrGap, c.nc.ConnectedUrl(), want.Name)
			}
			stream, err := c.js.CreateStream(ctx, want)
			if err != nil {
				return streamError(err)
			}
			info = stream.CachedInfo()
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return info, checkConfig(info.Config, want)
}

// streamInfo asks for a stream. nats.go's own way would not say what is forbidden.
func (c *Conn) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	m, err := c.request(ctx, &nats.Msg{Subject: apiRoot + "STREAM.INFO." + name})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error *apiError `json:"error"`
		*jetstream.StreamInfo
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return nil, transient(fmt.Errorf("its description: %w", err))
	case answer.Error != nil && answer.Error.Code == errNoStream:
		return nil, errStreamNotFound
	case answer.Error != nil || answer.StreamInfo == nil:
		return nil, answer.Error.of("its description")
	}
	return answer.StreamInfo, nil
}

var errStreamNotFound = errors.New("the server has no such stream")

func streamError(err error) error {
	var api jetstream.JetStreamError
	if errors.As(err, &api) && api.APIError() != nil && api.APIError().Code < 500 {
		return err
	}
	return classify(err)
}

// checkConfig refuses a stream that was made by other hands in a way that breaks what a log promises.
func checkConfig(is, want jetstream.StreamConfig) error {
	for _, f := range []struct {
		name string
		ok   bool
		fix  string
	}{
		{"subjects", slices.Equal(is.Subjects, want.Subjects), fmt.Sprint(want.Subjects)},
		{"storage", is.Storage == want.Storage, "file"},
		{"retention", is.Retention == jetstream.LimitsPolicy, "limits"},
		{"max_msgs", is.MaxMsgs <= 0, "unlimited"},
		{"max_bytes", is.MaxBytes <= 0, "unlimited"},
		{"max_age", is.MaxAge == 0, "unlimited"},
		{"max_msgs_per_subject", max(is.MaxMsgsPerSubject, 0) == want.MaxMsgsPerSubject, fmt.Sprint(want.MaxMsgsPerSubject)},
		{"max_msg_size", is.MaxMsgSize <= 0 || is.MaxMsgSize >= events.MaxEventBytes+events.MaxHeaderBytes, "unlimited"},
		{"allow_rollup_hdrs", !is.AllowRollup, "off"},
		{"allow_msg_ttl", !is.AllowMsgTTL, "off"},
		{"allow_direct", is.AllowDirect, "on"},
		{"allow_atomic", is.AllowAtomicPublish, "on"},
		{"no_ack", !is.NoAck, "off"},
		{"persist_mode", is.PersistMode == want.PersistMode, "default: an acknowledged event must be on disk"},
		{"sealed", !is.Sealed, "off"},
	} {
		if !f.ok {
			return fmt.Errorf("%w: stream %s: %s is not as a log needs it; set it to: %s", events.ErrInvalid, want.Name, f.name, f.fix)
		}
	}
	return nil
}
