package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A consumer sends its messages wherever its maker says, in the account that holds the stream. So that nodes
// and readers cannot have the server write to the log, to its API or to another's tunnel, their requests to
// create a consumer do not reach the server: their accounts import the API's subject from here, where the
// control plane makes the messages go to the asking account's own inboxes. They notice nothing of it.

// confining is how many requests are passed on at a time.
const confining = 32

// ServeReaders passes the requests of other accounts for consumers on to the server, until the connection is
// closed. At least one connection of the control plane must do so; of several, one takes each request.
func (c *Conn) ServeReaders() error {
	_, err := c.nc.QueueSubscribe(confineRoot+".*.CONSUMER.>", "orlog", func(m *nats.Msg) {
		select {
		case <-c.done:
			return
		case c.confining <- struct{}{}:
		}
		go func() { // ends with the request: see request, and Close waits for it
			defer func() { <-c.confining }()
			if err := m.Respond(c.confine(m)); err != nil {
				c.report(fmt.Errorf("answering a reader's request for a consumer: %w", err))
			}
		}()
	})
	return classify(err)
}

// confine passes a request on and returns the answer.
func (c *Conn) confine(m *nats.Msg) []byte {
	account, rest, _ := strings.Cut(strings.TrimPrefix(m.Subject, confineRoot+"."), ".")
	home := deliverRoot + "." + account + "."
	// Read as the server reads it and written anew: what is checked is what the server gets.
	var r server.CreateConsumerRequest
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return refusal(400, "consumer request: "+err.Error())
	}
	if to := &r.Config.DeliverSubject; *to != "" {
		if !strings.HasPrefix(*to, inboxRoot) {
			return refusal(403, fmt.Sprintf("deliver_subject %q: a reader's consumer may deliver to subjects under %s only; a pull consumer needs none", *to, inboxRoot))
		}
		*to = home + *to
	}
	r.Config.Direct, r.Config.Sourcing = false, false // between servers only
	body, err := json.Marshal(r)
	if err != nil {
		return refusal(400, "consumer request: "+err.Error())
	}
	m, err = c.request(context.Background(), &nats.Msg{Subject: apiRoot + rest, Data: body})
	if err != nil {
		return refusal(503, "passing the request on to the log's server: "+err.Error())
	}
	var answer server.JSApiConsumerCreateResponse
	if err := json.Unmarshal(m.Data, &answer); err != nil || answer.ConsumerInfo == nil || answer.Config == nil {
		return m.Data
	}
	answer.Config.DeliverSubject = strings.TrimPrefix(answer.Config.DeliverSubject, home)
	if body, err = json.Marshal(answer); err != nil {
		return m.Data
	}
	return body
}

// refusal is an answer as the server's API gives it.
func refusal(code int, why string) []byte {
	answer := server.JSApiConsumerCreateResponse{ApiResponse: server.ApiResponse{Type: server.JSApiConsumerCreateResponseType,
		Error: &server.ApiError{Code: code, Description: why}}}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil
	}
	return body
}
