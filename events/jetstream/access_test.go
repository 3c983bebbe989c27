package jetstream_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
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

// selfSigned is a server's configuration for 127.0.0.1, and its certificate in PEM.
func selfSigned(t testing.TB) (*tls.Config, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "log"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}
	return &tls.Config{GetCertificate: serve, MinVersion: tls.VersionTLS12}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func trusting(authority []byte) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// tlsServer is a closed server with TLS that only the control plane may use, and a connection of it.
type tlsServer struct {
	*jetstream.Server
	services  string // public key
	authority []byte
	dir       string
	control   *jetstream.Conn
	log       events.Log
}

func startTLS(t *testing.T) *tlsServer {
	t.Helper()
	s := &tlsServer{dir: t.TempDir()}
	config, authority := selfSigned(t)
	s.authority = authority
	own := filepath.Join(s.dir, "services.nats")
	s.services = made(t, own)
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Port: -1, TLS: config, Closed: true,
		Access: &jetstream.Access{Services: s.services}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	s.Server = server
	s.control = connect(t, jetstream.Options{URL: server.URL(), Server: server, Credentials: own})
	if err := s.control.ServeReaders(); err != nil {
		t.Fatal(err)
	}
	s.log = open(t, s.control)
	if _, err := s.control.Volatile(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// hand makes a credential that holds the authority, and gives its file and public key.
func (s *tlsServer) hand(t *testing.T, name string) (file, public string) {
	t.Helper()
	c, err := credential.New(s.authority)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(s.dir, name+".nats")
	if err := credential.Write(file, c.Bytes()); err != nil {
		t.Fatal(err)
	}
	if public, err = c.Public(); err != nil {
		t.Fatal(err)
	}
	return file, public
}

func (s *tlsServer) set(t *testing.T, a jetstream.Access) {
	t.Helper()
	a.Services = s.services
	if err := s.SetAccess(&a); err != nil {
		t.Fatal(err)
	}
}

func TestClosedServerServesItsOwnProcessOnly(t *testing.T) {
	s := startTLS(t)
	mustAppend(t, s.log, unguarded("web", 1))
	file, public := s.hand(t, "reader")
	s.set(t, jetstream.Access{Readers: map[string][]string{"reader": {public}}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if c, err := jetstream.Connect(ctx, jetstream.Options{URL: s.URL(), Credentials: file}); err == nil {
		c.Close()
		t.Fatal("connected to a closed server")
	}
	for range 2 {
		if err := s.Open(); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(s.URL(), "tls://127.0.0.1:") {
		t.Errorf("URL %s", s.URL())
	}
	if last, err := open(t, connect(t, jetstream.Options{URL: s.URL(), Credentials: file, MustExist: true})).Last(t.Context()); err != nil || last != 1 {
		t.Errorf("last %d, %v", last, err)
	}
}

// TestTLSIsDemanded of everybody from outside, and checked by whoever knows the authority.
func TestTLSIsDemanded(t *testing.T) {
	s := startTLS(t)
	file, public := s.hand(t, "reader")
	s.set(t, jetstream.Access{Readers: map[string][]string{"reader": {public}}})
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	plain := strings.Replace(s.URL(), "tls://", "nats://", 1)

	// A client that speaks on without TLS is not answered.
	conn, err := net.Dial("tcp", strings.TrimPrefix(plain, "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("CONNECT {\"tls_required\":false,\"verbose\":true}\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64<<10)
	var all string
	for {
		n, err := conn.Read(said)
		if all += string(said[:n]); err != nil {
			break
		}
	}
	if !strings.Contains(all, `"tls_required":true`) || strings.Contains(all, "PONG") || strings.Contains(all, "+OK") {
		t.Errorf("without TLS the server said %q", all)
	}

	// The authority is in the credentials, or in a file of its own; without it nobody is trusted.
	for _, url := range []string{s.URL(), plain} {
		connect(t, jetstream.Options{URL: url, Credentials: file})
	}
	bare, err := credential.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	bare.Authority = nil
	seed, ca := filepath.Join(s.dir, "seed"), filepath.Join(s.dir, "ca.crt")
	if err := credential.Write(seed, bare.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, s.authority, 0o600); err != nil {
		t.Fatal(err)
	}
	connect(t, jetstream.Options{URL: s.URL(), Credentials: seed, Authority: ca})
	if _, err := jetstream.Connect(t.Context(), jetstream.Options{URL: s.URL(), Credentials: seed}); err == nil || !strings.Contains(err.Error(), "no authority that is trusted here") {
		t.Errorf("without the authority: %v", err)
	}
	if _, err := jetstream.Connect(t.Context(), jetstream.Options{URL: s.URL(), Credentials: seed, Authority: seed}); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("with an authority that is none: %v", err)
	}
	// A server without TLS is not taken for the log's.
	if _, err := jetstream.Connect(t.Context(), jetstream.Options{URL: startGuarded(t).url, Credentials: file}); err == nil || !strings.Contains(err.Error(), "offers no TLS") {
		t.Errorf("to a server without TLS: %v", err)
	}
	if _, err := jetstream.Connect(t.Context(), jetstream.Options{URL: start(t).URL(), Credentials: file}); err == nil || !strings.Contains(err.Error(), "is this the log's server") {
		t.Errorf("to a server without users: %v", err)
	}

	// An ordinary client takes the one file for both.
	key, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(plain, key, nats.RootCAs(file))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Error(err)
	}
}

// TestAccessChangesWhileRunning: who comes, comes; who goes, is cut off; the others notice nothing.
func TestAccessChangesWhileRunning(t *testing.T) {
	s := startTLS(t)
	stays, staysKey := s.hand(t, "stays")
	goes, goesKey := s.hand(t, "goes")
	node, nodeKey := s.hand(t, "node")
	s.set(t, jetstream.Access{Readers: map[string][]string{"stays": {staysKey}, "goes": {goesKey}}})
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	quiet := make(chan error, 100)
	staying := connect(t, jetstream.Options{URL: s.URL(), Credentials: stays, MustExist: true, OnError: func(err error) { quiet <- err }})
	sub, err := open(t, staying).Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	key, err := nats.NkeyOptionFromSeed(goes)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	going, err := nats.Connect(s.URL(), key, nats.RootCAs(goes), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	defer going.Close()
	js, err := natsjs.New(going)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.OrderedConsumer(t.Context(), "ORLOG", natsjs.OrderedConsumerConfig{}); err != nil {
		t.Fatal(err)
	}

	// Written all the while; the node comes and goes, and writes too.
	const n = 400
	for i := range n {
		mustAppend(t, s.log, unguarded("web", i))
		if i%40 == 10 {
			s.set(t, jetstream.Access{Readers: map[string][]string{"stays": {staysKey}, "goes": {goesKey}}, Nodes: map[string][]string{thisNode: {nodeKey}}})
			c := connect(t, jetstream.Options{URL: s.URL(), Credentials: node, MustExist: true})
			mustAppend(t, open(t, c), events.Entry{Event: observation(thisNode, "web", i)})
			if i == 10 {
				a, b := pair(t, s.control, c) // the tunnel works for a node that came later
				transfer(t, a, b, 1<<20)
			}
			c.Close()
		}
		if i%40 == 30 {
			s.set(t, jetstream.Access{Readers: map[string][]string{"stays": {staysKey}, "goes": {goesKey}}})
		}
	}
	readTo(t, sub, 1, n+n/40)
	select {
	case err := <-quiet:
		t.Errorf("a reader that stays was disturbed: %v", err)
	case <-closed:
		t.Error("a reader was cut off too early")
	default:
	}
	s.set(t, jetstream.Access{Readers: map[string][]string{"stays": {staysKey}}})
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("a reader whose access ended is still connected")
	}
	if _, err := jetstream.Connect(t.Context(), jetstream.Options{URL: s.URL(), Credentials: goes}); err == nil || !strings.Contains(err.Error(), "does not know the credentials") {
		t.Errorf("a reader whose access ended came back: %v", err)
	}
	mustAppend(t, s.log, unguarded("web", n))
	readTo(t, sub, n+n/40+1, n+n/40+1)
}
