package jetstream

import "time"

// WithDedupe makes the server forget message IDs after d, where the stream is made by this connection.
func (o Options) WithDedupe(d time.Duration) Options {
	o.dedupe = d
	return o
}
