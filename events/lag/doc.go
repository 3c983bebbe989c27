// Package lag tells Prometheus how far the readers of a log are behind it, in events and in seconds.
//
// It asks when it is asked: each scrape reads the log's last sequence once, every reader's position, and, for a
// reader that is behind, the first event that it has not taken in yet, whose age is the lag in seconds. Nothing is
// counted on the way of the events themselves.
package lag
