//go:build system

package durability

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/jetstream/credential"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/notary"
)

// openLog serves the folder of an orlogd that has ended, as orlogd does.
func openLog(t *testing.T, dataDir string) events.Log {
	t.Helper()
	credentials := filepath.Join(t.TempDir(), "services.nats") // of this server, which speaks no TLS
	made, err := credential.Make(credentials)
	if err != nil {
		t.Fatal(err)
	}
	key, err := made.Public()
	if err != nil {
		t.Fatal(err)
	}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(dataDir, "log"), Port: -1, Access: &jetstream.Access{Services: key}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	conn, err := jetstream.Connect(t.Context(), jetstream.Options{URL: server.URL(), Credentials: credentials})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	log, err := conn.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// readAll reads the whole log: the event with sequence n is at n-1.
func readAll(t *testing.T, log events.Log) []events.Event {
	t.Helper()
	last, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sub, err := log.Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	all := make([]events.Event, 0, last)
	ids := make(map[string]events.Sequence, last)
	for events.Sequence(len(all)) < last {
		batch, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range batch {
			if want := events.Sequence(len(all)) + 1; e.Sequence != want {
				t.Fatalf("the log continues at %d where %d is due", e.Sequence, want)
			}
			if first := ids[e.ID]; first != 0 {
				t.Errorf("event %d has the ID of event %d, %s", e.Sequence, first, e.ID)
			}
			ids[e.ID] = e.Sequence
			all = append(all, e)
		}
	}
	return all
}

func tokenOf(t *testing.T, e events.Event) string {
	t.Helper()
	var obj struct{ Data map[string]string }
	if err := json.Unmarshal(e.Object, &obj); err != nil {
		t.Fatal(err)
	}
	return obj.Data["token"]
}

// compare holds the writers' notes against the log.
func compare(t *testing.T, writers []*writer, all []events.Event) {
	t.Helper()
	attempts := map[string]*deed{}  // by token
	deletions := map[string]*deed{} // by uid
	for _, w := range writers {
		for _, d := range w.deeds {
			if d.verb == "deleted" {
				if before := deletions[string(d.uid)]; before == nil || !before.answered {
					deletions[string(d.uid)] = d
				}
			} else {
				attempts[d.token] = d
			}
		}
	}
	written, deleted := map[string]events.Sequence{}, map[string]events.Sequence{}
	for _, e := range all {
		if e.Subject.Key.Namespace != namespace || e.Subject.Key.Resource != "configmaps" || e.Subject.Key.Name == "kube-root-ca.crt" {
			continue
		}
		if e.IsDeletion() {
			if d := deletions[e.UID]; d == nil || d.name != e.Subject.Key.Name {
				t.Errorf("event %d deletes %s %s, which nobody asked for", e.Sequence, e.Subject.Key, e.UID)
			}
			if first := deleted[e.UID]; first != 0 {
				t.Errorf("events %d and %d both delete %s %s", first, e.Sequence, e.Subject.Key, e.UID)
			}
			deleted[e.UID] = e.Sequence
			continue
		}
		token := tokenOf(t, e)
		if d := attempts[token]; d == nil || d.name != e.Subject.Key.Name {
			t.Errorf("event %d, %s about %s with token %q: nobody asked for it", e.Sequence, e.Type, e.Subject.Key, token)
		}
		if first := written[token]; first != 0 {
			t.Errorf("the request with token %q is on the log twice, at %d and %d", token, first, e.Sequence)
		}
		written[token] = e.Sequence
	}
	answered := 0
	for token, d := range attempts {
		if !d.answered {
			continue
		}
		answered++
		if at := written[token].String(); at != d.resourceVersion {
			t.Errorf("%s %s with token %q was acknowledged at %s; the log has it at %s (0: not at all)", d.verb, d.name, token, d.resourceVersion, at)
		}
	}
	for uid, d := range deletions {
		if d.answered && deleted[uid] == 0 {
			t.Errorf("the deletion of %s %s was acknowledged; the log does not have it", d.name, uid)
		}
		if d.answered {
			answered++
		}
	}
	t.Logf("%d events on the log; %d writes attempted, %d of them acknowledged, all there", len(all), len(attempts)+len(deletions), answered)
}

// checkProjections: what orlogd's projections hold is what anybody who folds the log from its beginning gets.
func checkProjections(t *testing.T, dataDir string, log events.Log) {
	t.Helper()
	for name, o := range map[string]projections.Options{"gateway": {History: true}, "scheduler": {}, "reconcilers": {}} {
		dir := filepath.Join(dataDir, "projections", name)
		was, rebuilt := digest(t, dir, o, log), digest(t, filepath.Join(t.TempDir(), name), o, log)
		if was != rebuilt {
			t.Errorf("projection %s: digest %s, folded anew %s", name, was, rebuilt)
		}
	}
}

func digest(t *testing.T, dir string, o projections.Options, log events.Log) string {
	t.Helper()
	s, err := projections.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckLog(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() { followed <- s.Follow(ctx, log) }()
	last, err := log.Last(ctx)
	if err == nil {
		waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
		err = s.WaitFor(waiting, last)
		cancel()
	}
	stop()
	if ferr := <-followed; err != nil || ferr != nil {
		t.Fatalf("following into %s: %v, %v", dir, err, ferr)
	}
	d, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%s", last, d)
}

// checkNotary: the signed checkpoint is one of this log, for who trusts the public key alone, and every event
// below it is the one that was hashed.
func checkNotary(t *testing.T, dataDir string, log events.Log) {
	t.Helper()
	n, err := notary.Open(notary.Options{Dir: filepath.Join(dataDir, "notary"), Origin: "orlog/orlog"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	c, signed := n.Checkpoint()
	if c.Size == 0 {
		t.Fatal("the notary signed nothing")
	}
	if _, err := notary.Audit(t.Context(), log, n.PublicKey(), signed); err != nil {
		t.Error(err)
	}
	if err := n.Audit(t.Context(), log); err != nil {
		t.Error(err)
	}
	t.Logf("the notary signed %d events", c.Size)
}
