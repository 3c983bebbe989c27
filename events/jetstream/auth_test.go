package jetstream_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/jetstream/credential"
)

// guardedServer is a server with users: the control plane, the nodes node-1.example and node-2, a reader.
type guardedServer struct {
	url, dir, streams string
	control           *jetstream.Conn
	log               events.Log
}

const thisNode, otherNode = "node-1.example", "node-2"

func startGuarded(t *testing.T) *guardedServer {
	t.Helper()
	return startGuardedOn(t, t.TempDir())
}

// settle waits until the server has cleared away the batches of which a part was refused: it does so on its
// own time, even past its shutdown.
func (g *guardedServer) settle(t *testing.T) {
	t.Helper()
	mustAppend(t, g.log, unguarded("settled", 1)) // the server has got to what came before
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left, err := filepath.Glob(filepath.Join(g.streams, "jetstream", "*", "streams", "*", "batches", "*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("batches that were not cleared away: %v", left)
			return
		}
	}
}

// startGuardedOn starts a server on a directory.
func startGuardedOn(t *testing.T, dir string) *guardedServer {
	t.Helper()
	g := &guardedServer{dir: t.TempDir(), streams: dir}
	key := func(name string) string {
		return made(t, g.credentials(name))
	}
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1, Logger: slog.New(slog.DiscardHandler), Access: &jetstream.Access{Services: key("services"),
		Nodes: map[string][]string{thisNode: {key(thisNode)}, otherNode: {key(otherNode)}}, Readers: map[string][]string{"reader": {key("reader")}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	g.url = s.URL()
	g.control = g.as(t, "services")
	if err := g.control.ServeReaders(); err != nil {
		t.Fatal(err)
	}
	g.log = open(t, g.control)
	if _, err := g.control.Volatile(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// made gives the public key of the credentials in a file, which it makes.
func made(t *testing.T, path string) string {
	t.Helper()
	c, err := credential.Make(path)
	if err != nil {
		t.Fatal(err)
	}
	public, err := c.Public()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func (g *guardedServer) credentials(name string) string { return filepath.Join(g.dir, name+".nats") }

func (g *guardedServer) as(t *testing.T, name string) *jetstream.Conn {
	t.Helper()
	return connect(t, jetstream.Options{URL: g.url, Name: name, Credentials: g.credentials(name), MustExist: name != "services"})
}

// raw is a connection of a foreign client.
func (g *guardedServer) raw(t *testing.T, name string) *nats.Conn {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(g.credentials(name))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(g.url, key, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// observation is what a node may append: an observed event under its name.
func observation(node, name string, n int) events.Event {
	e := pod(events.Observed, name, n)
	e.Subject.Node = node
	return e
}

// forbidden checks that an error says what was not permitted.
func forbidden(t *testing.T, err error, subject string) {
	t.Helper()
	if !errors.Is(err, jetstream.ErrForbidden) || !strings.Contains(err.Error(), subject) {
		t.Errorf("got %v; want ErrForbidden about %s", err, subject)
	}
}

func TestNobodyWithoutCredentials(t *testing.T) {
	g := startGuarded(t)
	_, err := jetstream.Connect(t.Context(), jetstream.Options{URL: g.url})
	if err == nil || !strings.Contains(err.Error(), "asks for credentials") {
		t.Errorf("without credentials: %v", err)
	}
	stranger := filepath.Join(t.TempDir(), "stranger.nats")
	made(t, stranger)
	if _, err = jetstream.Connect(t.Context(), jetstream.Options{URL: g.url, Credentials: stranger}); err == nil || !strings.Contains(err.Error(), "does not know the credentials in "+stranger) {
		t.Errorf("with a stranger's credentials: %v", err)
	}
	if _, err = jetstream.Connect(t.Context(), jetstream.Options{URL: g.url, Credentials: "/no/such/file"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

func TestAccessRefusesNames(t *testing.T) {
	key := made(t, filepath.Join(t.TempDir(), "a.nats"))
	for want, a := range map[string]jetstream.Access{
		"no public key":           {Services: "SUASECRET"},
		"key of node_n":           {Services: key, Nodes: map[string][]string{"n": {""}}},
		"letters, digits, dots":   {Services: key, Nodes: map[string][]string{`n"}`: {key}}},
		"node \"\\\\u0022\"":      {Services: key, Nodes: map[string][]string{`\u0022`: {key}}},
		"reader \"a$b\": access:": {Services: key, Readers: map[string][]string{"a$b": {key}}},
	} {
		s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Port: -1, Access: &a})
		if err == nil {
			s.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", a, err, want)
		}
	}
}

// TestUsersComeLater: a log that was used without users goes on when there are some.
func TestUsersComeLater(t *testing.T) {
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	before := connect(t, jetstream.Options{URL: s.URL()})
	mustAppend(t, open(t, before), unguarded("web", 1))
	before.Close()
	s.Shutdown()
	g := startGuardedOn(t, dir)
	if last, err := g.log.Last(t.Context()); err != nil || last != 1 {
		t.Errorf("the log ends at %d, %v; want 1", last, err)
	}
}

func TestNodeAppendsItsOwnOnly(t *testing.T) {
	g := startGuarded(t)
	node := g.as(t, thisNode)
	l := open(t, node)
	mustAppend(t, g.log, unguarded("web", 1))

	e := observation(thisNode, "web", 1)
	e.ID = "first"
	entry := events.Entry{Event: e, Expect: events.ExpectClass(e.Subject, 0)}
	seqs := mustAppend(t, l, entry)
	if again := mustAppend(t, l, entry); again[0] != seqs[0] {
		t.Errorf("the retry is at %d, the append at %d", again[0], seqs[0])
	}
	mustAppend(t, l, events.Entry{Event: observation(thisNode, "web", 2), Expect: events.ExpectClass(e.Subject, seqs[0])},
		events.Entry{Event: observation(thisNode, "db", 1)})
	var conflict *events.ConflictError
	if _, err := l.Append(t.Context(), events.Entry{Event: observation(thisNode, "web", 3), Expect: events.ExpectClass(e.Subject, seqs[0])}); !errors.As(err, &conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	if got, err := l.Get(t.Context(), seqs[0]); err != nil || got.ID != "first" || got.Subject != e.Subject {
		t.Errorf("got %+v, %v", got, err)
	}

	last, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // an error at once, not after Patience
	defer cancel()
	for _, other := range []events.Event{pod(events.Desired, "web", 2), pod(events.Observed, "web", 2), observation(otherNode, "web", 2)} {
		_, err := l.Append(ctx, events.Entry{Event: other})
		forbidden(t, err, other.Subject.String())
		_, err = l.Append(ctx, events.Entry{Event: observation(thisNode, "db", 2)}, events.Entry{Event: other}, events.Entry{Event: observation(thisNode, "cache", 2)})
		forbidden(t, err, other.Subject.String())
	}
	if now, err := g.log.Last(t.Context()); err != nil || now != last {
		t.Errorf("the log ends at %d, %v; it did at %d", now, err, last)
	}
	g.settle(t)
}

// TestForbiddenAppendHarmsNoOther: appends that share a batch with one that is refused are appended.
func TestForbiddenAppendHarmsNoOther(t *testing.T) {
	g := startGuarded(t)
	l := open(t, g.as(t, thisNode))
	const writers = 40
	errs := make([]error, writers)
	done := make(chan int)
	for i := range writers {
		go func() {
			node := thisNode
			if i%10 == 3 {
				node = otherNode
			}
			_, errs[i] = l.Append(t.Context(), events.Entry{Event: observation(node, "p"+string(rune('a'+i)), i)})
			done <- i
		}()
	}
	for range writers {
		if i := <-done; (i%10 == 3) != errors.Is(errs[i], jetstream.ErrForbidden) || i%10 != 3 && errs[i] != nil {
			t.Errorf("writer %d: %v", i, errs[i])
		}
	}
	g.settle(t)
}

func TestNodeReadsAll(t *testing.T) {
	g := startGuarded(t)
	l := open(t, g.as(t, thisNode))
	for i := range 300 {
		mustAppend(t, g.log, unguarded("web", i))
	}
	sub, err := l.Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	readTo(t, sub, 1, 300)
	mustAppend(t, l, events.Entry{Event: observation(thisNode, "web", 1)})
	mustAppend(t, g.log, unguarded("web", 301))
	readTo(t, sub, 301, 302)
	some, err := l.Subscribe(t.Context(), 1, "orlog.observed.>", "orlog.desired.core.pods.*.none.*")
	if err != nil {
		t.Fatal(err)
	}
	defer some.Close()
	readTo(t, some, 301, 301)
}

// TestNodeKeepsItsLeaseOnly on the volatile log.
func TestNodeKeepsItsLeaseOnly(t *testing.T) {
	g := startGuarded(t)
	volatile, err := g.as(t, thisNode).Volatile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lease := func(node string) events.Event {
		e := pod(events.Desired, node, 1)
		e.Subject.Key = events.Key{Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: node}
		return e
	}
	own := lease(thisNode)
	seqs := mustAppend(t, volatile, events.Entry{Event: own, Expect: events.ExpectClass(own.Subject, 0)})
	mustAppend(t, volatile, events.Entry{Event: own, Expect: events.ExpectClass(own.Subject, seqs[0])})
	if last, err := volatile.LastOn(t.Context(), own.Subject.AnyNode()); err != nil || last.Sequence != 2 {
		t.Errorf("the lease: %+v, %v", last, err)
	}
	_, err = volatile.Append(t.Context(), events.Entry{Event: lease(otherNode)})
	forbidden(t, err, "leases.kube-node-lease.node-2")
}

func TestTunnelIsTheNodesOwn(t *testing.T) {
	g := startGuarded(t)
	node := g.as(t, thisNode)
	a, b := pair(t, g.control, node)
	transfer(t, a, b, 3<<20)
	transfer(t, b, a, 3<<20)

	if _, err := node.Tunnel().Listen(otherNode); err == nil {
		t.Error("a node listens in another's place")
	} else {
		forbidden(t, err, "orlog-tunnel.node-2.dial")
	}
	// A node that is not known, and one that does not listen, are noticed at once as ever.
	for _, name := range []string{"node-3", otherNode} {
		if _, err := g.control.Tunnel().Dial(t.Context(), name); !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("dialling %s: %v", name, err)
		}
	}
	other := g.as(t, otherNode)
	ln, err := other.Tunnel().Listen(otherNode)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, name := range []string{otherNode, thisNode} {
		_, err = node.Tunnel().Dial(t.Context(), name)
		forbidden(t, err, "orlog-tunnel."+events.NodeToken(name)+".dial")
	}
	_, err = g.as(t, "reader").Tunnel().Dial(t.Context(), otherNode)
	forbidden(t, err, "orlog-tunnel.node-2.dial")
}

// TestReader: an integrator's client reads all that the log holds and what is new, by each kind of consumer,
// and writes nothing.
func TestReader(t *testing.T) {
	g := startGuarded(t)
	for i := range 1000 {
		mustAppend(t, g.log, unguarded("web", i))
	}
	nc := g.raw(t, "reader")
	live, err := nc.SubscribeSync("orlog-live.desired.>")
	if err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumers := map[string]natsjs.Consumer{}
	for name, filters := range map[string][]string{"all": nil, "one filter": {"orlog.>"}, "two filters": {"orlog.desired.core.>", "orlog.observed.>"}} {
		c, err := js.OrderedConsumer(t.Context(), "ORLOG", natsjs.OrderedConsumerConfig{FilterSubjects: filters})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		consumers[name] = c
	}
	if consumers["durable"], err = js.CreateOrUpdateConsumer(t.Context(), "ORLOG", natsjs.ConsumerConfig{Durable: "billing", AckPolicy: natsjs.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, g.log, unguarded("web", 1000))
	if m, err := live.NextMsg(10 * time.Second); err != nil || m.Header.Get("Nats-Sequence") != "1001" {
		t.Errorf("live: %v, %v", m, err)
	}
	for name, c := range consumers {
		all, err := c.Messages()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for want := uint64(1); want <= 1001; want++ {
			m, err := all.Next(natsjs.NextMaxWait(10 * time.Second))
			if err != nil {
				t.Fatalf("%s: at %d: %v", name, want, err)
			}
			if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream != want {
				t.Fatalf("%s: got %+v, %v; want %d", name, meta, err, want)
			}
			if name == "durable" {
				if err := m.DoubleAck(t.Context()); err != nil {
					t.Fatalf("%s: acknowledging %d: %v", name, want, err)
				}
			}
		}
		all.Stop()
	}
	legacy, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := legacy.SubscribeSync("orlog.>", nats.BindStream("ORLOG"), nats.OrderedConsumer())
	if err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 1001; want++ {
		if _, err := pushed.NextMsg(10 * time.Second); err != nil {
			t.Fatalf("push consumer: at %d: %v", want, err)
		}
	}
	_, err = open(t, g.as(t, "reader")).Append(t.Context(), unguarded("web", 1))
	forbidden(t, err, "orlog.desired.core.pods.default.web.-")
	_, err = g.as(t, "reader").Volatile(t.Context())
	forbidden(t, err, "ORLOG_VOLATILE")
}
