package jetstream_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/schemas"
)

// TestForeignReader: a reader with nothing but nats.go, as in deploy/examples, finds what the published
// description says: the stream, the subjects, the headers, and the live subjects.
func TestForeignReader(t *testing.T) {
	url := start(t).URL()
	l := open(t, connect(t, jetstream.Options{URL: url}))
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	live, err := nc.SubscribeSync("orlog-live.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	e := pod(events.Desired, "web", 1)
	e.ID, e.Reason = "id-1", "100 % sure"
	mustAppend(t, l, events.Entry{Event: e})
	mustAppend(t, l, unguarded("web", 2))

	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), "ORLOG", natsjs.OrderedConsumerConfig{FilterSubjects: []string{"orlog.>"}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next(natsjs.FetchMaxWait(10 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ce-specversion": "1.0", "ce-id": "id-1", "Nats-Msg-Id": "id-1", "ce-type": "io.orlog.pod.updated", "ce-source": "/orlog/test",
		"ce-subject": "core/pods/default/web", "ce-actor": "test", "ce-reason": "100%20%25%20sure", "content-type": "application/json", "ce-dataschema": events.DataSchema} {
		if got := m.Headers()[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if m.Subject() != "orlog.desired.core.pods.default.web.-" || string(m.Data()) != `{"object":{"n":1}}` {
		t.Errorf("got %s %s", m.Subject(), m.Data())
	}
	for i, last := range []string{"0", "1"} {
		m, err := live.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject != "orlog-live.desired.core.pods.default.web.-" || m.Header.Get("Nats-Last-Sequence") != last || m.Header["ce-actor"][0] != "test" {
			t.Errorf("live event %d: %s %v", i, m.Subject, m.Header)
		}
	}
}

// TestAsyncAPIAddresses: the channels of the AsyncAPI document are the subjects that the streams take and send.
func TestAsyncAPIAddresses(t *testing.T) {
	var doc struct {
		Channels map[string]struct{ Address string }
	}
	if err := yaml.Unmarshal(schemas.AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	s := start(t)
	c := connect(t, jetstream.Options{URL: s.URL()})
	mustAppend(t, open(t, c), unguarded("a", 1))
	if _, err := c.Volatile(t.Context()); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	taken := map[string]bool{}
	for _, stream := range []string{jetstream.StreamName, jetstream.VolatileStreamName} {
		info, err := js.StreamInfo(stream)
		if err != nil {
			t.Fatal(err)
		}
		for _, subject := range info.Config.Subjects {
			taken[subject] = true
		}
		if r := info.Config.RePublish; r != nil {
			taken[strings.TrimSuffix(r.Destination, ">")+"desired.>"], taken[strings.TrimSuffix(r.Destination, ">")+"observed.>"] = true, true
		}
	}
	for name, channel := range doc.Channels {
		for _, class := range []string{"desired", "observed"} {
			address := strings.Replace(channel.Address, "{class}", class, 1)
			at := strings.Index(address, ".{group}")
			if at < 0 || strings.Count(address, ".") != 6 {
				t.Fatalf("channel %s: address %s", name, address)
			}
			if pattern := address[:at] + ".>"; !taken[pattern] {
				t.Errorf("channel %s: no stream has %s", name, pattern)
			}
		}
		for _, class := range []string{"desired", "observed"} {
			address := strings.Replace(channel.Address, "{class}", class, 1)
			before, _, _ := strings.Cut(address, ".{group}")
			delete(taken, before+".>")
		}
	}
	if len(taken) > 0 {
		t.Errorf("no channel is about %v", taken)
	}
}
