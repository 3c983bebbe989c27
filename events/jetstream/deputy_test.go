package jetstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/orlog-io/orlog/events"
)

// prize is what an attacker would like the server to send a message to.
var prize = []string{
	"orlog.desired.core.secrets.kube-system.x.-", "orlog.observed.core.pods.default.web.node-2", "orlog-volatile.desired.coordination_k8s_io.leases.kube-node-lease.node-2.-",
	"$JS.API.STREAM.DELETE.ORLOG", "$JS.API.STREAM.PURGE.ORLOG", "$JS.API.STREAM.UPDATE.ORLOG", "$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.RESTORE.ORLOG", "$JS.API.STREAM.MSG.DELETE.ORLOG",
	"orlog-tunnel.node-2.dial", "orlog-tunnel.node-2.x.n", "orlog-live.desired.x", "_INBOX.victim", "orlog-deliver.node_node-2._INBOX.victim", "orlog-confined.node_node-2.CONSUMER.CREATE.ORLOG",
}

// TestServerIsNobodysDeputy: the log and its API take nothing from a node or a reader, neither sent by
// itself, nor by the server on its behalf: as an answer, or as what a consumer delivers.
func TestServerIsNobodysDeputy(t *testing.T) {
	for _, name := range []string{thisNode, "reader"} {
		t.Run(name, func(t *testing.T) {
			g := startGuarded(t)
			bait(t, g)
			js, err := natsjs.New(g.raw(t, "services"))
			if err != nil {
				t.Fatal(err)
			}
			before, heard := streams(t, js), eavesdrop(t, g)
			attacker := g.raw(t, name)
			for _, subject := range prize {
				byItself(t, attacker, subject)
				byAnswer(t, attacker, subject)
				byConsumer(t, attacker, subject)
			}
			if err := attacker.Flush(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond) // what should not come gives no sign
			if after := streams(t, js); !reflect.DeepEqual(before, after) {
				t.Errorf("the streams were\n%v, are\n%v", before, after)
			}
			for victim, sub := range heard {
				if n, _, err := sub.Pending(); err != nil || n != 0 {
					m, _ := sub.NextMsg(time.Second)
					t.Errorf("%s got %d messages, %v, the first on %s from %s: %s", victim, n, err, m.Subject, m.Reply, m.Data)
				}
			}
		})
	}
}

// TestNobodyDestroysTheLog: no user may delete, empty, change or overwrite a stream, or a single event of it; the
// control plane may not either.
func TestNobodyDestroysTheLog(t *testing.T) {
	for _, name := range []string{"services", thisNode, otherNode, "reader"} {
		t.Run(name, func(t *testing.T) {
			g := startGuarded(t)
			mustAppend(t, g.log, unguarded("a", 1), unguarded("a", 2))
			before := streamsOf(t, g)
			denied := make(chan error, 64)
			key, err := nats.NkeyOptionFromSeed(g.credentials(name))
			if err != nil {
				t.Fatal(err)
			}
			nc, err := nats.Connect(g.url, key, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			for _, stream := range []string{"ORLOG", "ORLOG_VOLATILE"} {
				for call, body := range map[string]string{"DELETE": "", "PURGE": "{}", "RESTORE": `{"config":{"name":"ORLOG"}}`, "MSG.DELETE": `{"seq":1}`,
					"UPDATE": `{"name":"` + stream + `","subjects":["x"],"max_msgs":1}`} {
					subject := "$JS.API.STREAM." + call + "." + stream
					if err := nc.PublishRequest(subject, nc.NewInbox(), []byte(body)); err != nil {
						t.Fatal(err)
					}
					select {
					case err := <-denied:
						if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject) {
							t.Errorf("%s: %v", subject, err)
						}
					case <-time.After(10 * time.Second):
						t.Errorf("%s was not refused", subject)
					}
				}
			}
			if after := streamsOf(t, g); !reflect.DeepEqual(before, after) {
				t.Errorf("the streams were\n%v, are\n%v", before, after)
			}
			if last, err := g.log.Last(t.Context()); err != nil || last != 2 {
				t.Errorf("the log ends at %d, %v", last, err)
			}
		})
	}
}

func streamsOf(t *testing.T, g *guardedServer) any {
	t.Helper()
	js, err := natsjs.New(g.raw(t, "services"))
	if err != nil {
		t.Fatal(err)
	}
	return streams(t, js)
}

// bait appends what an attacker could have appended: bodies that the API and the log would take.
func bait(t *testing.T, g *guardedServer) {
	t.Helper()
	node := g.raw(t, thisNode)
	for _, body := range []string{"", "{}", `{"name":"ORLOG","subjects":["orlog.desired.>","orlog.observed.>"],"storage":"file","retention":"limits","num_replicas":1,"max_msgs":1,"deny_delete":true,"deny_purge":true}`} {
		m := &nats.Msg{Subject: "orlog.observed.core.pods.default.web." + events.NodeToken(thisNode), Data: []byte(body), Header: nats.Header{"ce-id": {"forged"}}}
		if _, err := node.RequestMsg(m, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// eavesdrop listens where the control plane and the other node would be reached.
func eavesdrop(t *testing.T, g *guardedServer) map[string]*nats.Subscription {
	t.Helper()
	heard := map[string]*nats.Subscription{}
	listen := func(nc *nats.Conn, who string, subjects ...string) {
		for _, s := range subjects {
			sub, err := nc.SubscribeSync(s)
			if err != nil {
				t.Fatal(err)
			}
			heard[who+" on "+s] = sub
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	listen(g.raw(t, "services"), "control plane", "orlog.>", "orlog-volatile.>", "orlog-live.>", "orlog-tunnel.*.dial", "orlog-tunnel.*.*.n", "_INBOX.victim",
		"$JS.API.STREAM.DELETE.>", "$JS.API.STREAM.PURGE.>", "$JS.API.STREAM.UPDATE.>", "$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.RESTORE.>", "$JS.API.STREAM.MSG.DELETE.>")
	listen(g.raw(t, otherNode), "other node", "orlog-tunnel.node-2.dial", "orlog-tunnel.node-2.*.n", "_INBOX.victim")
	return heard
}

func byItself(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	if err := nc.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
}

// byAnswer asks questions whose answer should go to the subject.
func byAnswer(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	ask := func(question, body string) {
		if err := nc.PublishRequest(question, subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for seq := 1; seq <= 3; seq++ {
		ask("$JS.API.DIRECT.GET.ORLOG", fmt.Sprintf(`{"seq":%d}`, seq))
	}
	ask("$JS.API.DIRECT.GET.ORLOG", `{"seq":1,"batch":10,"next_by_subj":">"}`)
	ask("$JS.API.STREAM.INFO.ORLOG", "")
	ask("$JS.API.INFO", "")
	consumer := "pull" + nats.NewInbox()[7:]
	create(t, nc, consumer, `{"stream_name":"ORLOG","config":{"name":"`+consumer+`","deliver_policy":"all","ack_policy":"none","headers_only":true,"mem_storage":true}}`)
	ask("$JS.API.CONSUMER.MSG.NEXT.ORLOG."+consumer, `{"batch":10,"no_wait":true}`)
	ask("$JS.ACK.ORLOG."+consumer+".1.1.1.1.1", "+NXT")
}

// byConsumer makes consumers that should deliver to the subject. JSON has several ways to say so.
func byConsumer(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	for i, to := range []string{`"deliver_subject":%q`, `"DELIVER_SUBJECT":%q`, `"deliver_subject":"_INBOX.a","Deliver_Subject":%q`, `"Deliver_Subject":%q,"deliver_subject":"_INBOX.a"`} {
		for _, headersOnly := range []bool{false, true} {
			name := fmt.Sprintf("push%d%v%s", i, headersOnly, nats.NewInbox()[7:])
			create(t, nc, name, fmt.Sprintf(`{"stream_name":"ORLOG","config":{"name":%q,"deliver_policy":"all","ack_policy":"none","headers_only":%v,"mem_storage":true,`+to+`}}`, name, headersOnly, subject))
		}
	}
	create(t, nc, "twice", fmt.Sprintf(`{"stream_name":"ORLOG","config":{"name":"twice","ack_policy":"none"},"Config":{"name":"twice","ack_policy":"none","mem_storage":true,"deliver_subject":%q}}`, subject))
}

// create asks for a consumer, and gets an answer of some kind.
func create(t *testing.T, nc *nats.Conn, name, body string) {
	t.Helper()
	m, err := nc.Request("$JS.API.CONSUMER.CREATE.ORLOG."+name, []byte(body), 5*time.Second)
	if err != nil {
		t.Fatalf("no answer to %s: %v", body, err)
	}
	if !json.Valid(m.Data) {
		t.Fatalf("answer to %s: %s", body, m.Data)
	}
}

// streams describes all streams but for the time and their consumers.
func streams(t *testing.T, js natsjs.JetStream) map[string]string {
	t.Helper()
	out := map[string]string{}
	list := js.ListStreams(t.Context())
	for s := range list.Info() {
		s.State.Consumers = 0
		text, err := json.Marshal([]any{s.Config, s.State})
		if err != nil {
			t.Fatal(err)
		}
		out[s.Config.Name] = string(text)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
