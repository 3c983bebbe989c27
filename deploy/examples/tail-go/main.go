// Command tail-go follows every event of an Orlog cluster from the beginning, with nothing but the NATS client.
//
//	tail-go [URL [CREDENTIALS]]
//
// URL is that of the log (default: NATS_URL, or this machine's), CREDENTIALS the file that orlogd wrote for
// integrators, or orlog auth integrator (default: NATS_CREDENTIALS, or none). It holds the key and, beside it, the
// authority that the server's certificate is checked against.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	args := append(os.Args[1:], "", "")
	if err := tail(ctx, cmp.Or(args[0], os.Getenv("NATS_URL"), "tls://127.0.0.1:4222"), cmp.Or(args[1], os.Getenv("NATS_CREDENTIALS"))); err != nil {
		log.Fatal(err)
	}
}

// tail prints type, subject, actor and sequence of every event until ctx ends. credentials may be "": none.
func tail(ctx context.Context, url, credentials string) error {
	var options []nats.Option
	if credentials != "" {
		key, err := nats.NkeyOptionFromSeed(credentials)
		if err != nil {
			return err
		}
		options = append(options, key, nats.RootCAs(credentials))
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	events, err := js.OrderedConsumer(ctx, "ORLOG", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"orlog.>"}})
	if err != nil {
		return err
	}
	reading, err := events.Consume(func(m jetstream.Msg) {
		if meta, err := m.Metadata(); err == nil {
			h := m.Headers()
			fmt.Println(h["ce-type"][0], h["ce-subject"][0], h["ce-actor"][0], meta.Sequence.Stream)
		}
	})
	if err != nil {
		return err
	}
	defer reading.Stop()
	<-ctx.Done()
	return nil
}
