package main

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/services/gateway"
)

// logCertificate is the name of the log server's certificate in data-dir/pki.
const logCertificate = "log"

// startServer starts the NATS inside orlogd. Its port stays closed until it is known who may come in: see
// doorman.
func (l *logs) startServer(o options, logger *slog.Logger) error {
	authority, err := gateway.OpenAuthority(o.dataDir)
	if err != nil {
		return err
	}
	if l.made, err = makeCredentials(o, authority.Bundle()); err != nil {
		return err
	}
	advertised := o.advertised()
	serve, err := authority.Serve(logCertificate, o.natsNames(advertised))
	if err != nil {
		return err
	}
	l.clients = &gateway.LogClients{URL: natsURL(o.natsHost, advertised, o.natsPort), Authority: string(authority.Bundle())}
	l.server, err = jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(o.dataDir, "log"), Host: o.natsHost, Port: o.natsPort,
		TLS: serve, Closed: true, Access: &jetstream.Access{Services: l.made.services}, Logger: logger})
	return err
}

// localNATS is where clients on this machine reach the NATS inside orlogd.
func (o options) localNATS() string { return natsURL(o.natsHost, "127.0.0.1", o.natsPort) }

// natsURL is the host's URL, or the other's where the host stands for all of the machine's addresses.
func natsURL(host, other string, port int) string {
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = other
	}
	return "tls://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// advertised is the address at which other machines reach this one, or loopback's where it has none.
func (o options) advertised() string {
	if o.advertiseAddress != "" {
		return o.advertiseAddress
	}
	if ip, err := gateway.HostAddress(); err == nil {
		return ip.String()
	}
	return "127.0.0.1"
}

// natsNames are the names for the certificate: how clients on this machine and elsewhere call it.
func (o options) natsNames(advertised string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, name := range []string{advertised, o.natsHost} {
		if ip := net.ParseIP(name); name != "" && (ip == nil || !ip.IsUnspecified() && !ip.IsLoopback()) {
			names = append(names, name)
		}
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	return names
}
