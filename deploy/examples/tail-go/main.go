// Command tail-go follows every event of an Orlog cluster from the beginning, with nothing but the NATS client.
package main

import (
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
	if err := tail(ctx, os.Getenv("NATS_URL")); err != nil {
		log.Fatal(err)
	}
}

// tail prints type, subject, actor and sequence of every event until ctx ends. url may be "": the default.
func tail(ctx context.Context, url string) error {
	if url == "" {
		url = nats.DefaultURL
	}
	nc, err := nats.Connect(url)
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
