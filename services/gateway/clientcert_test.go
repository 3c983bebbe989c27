package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
)

func TestCertificateMemory(t *testing.T) {
	now, asked := time.Unix(1000, 0), 0
	var refuse error
	m := newCertificateMemory(authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		asked++
		if refuse != nil {
			return nil, false, refuse
		}
		return &authenticator.Response{User: &user.DefaultInfo{Name: r.TLS.PeerCertificates[0].Subject.CommonName}}, true, nil
	}))
	m.now = func() time.Time { return now }
	request := func(name string, expires time.Time, headers ...string) *http.Request {
		c := &x509.Certificate{Raw: []byte(name), NotAfter: expires}
		c.Subject.CommonName = name
		r := &http.Request{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}, Header: http.Header{}}
		for _, h := range headers {
			r.Header[h] = []string{"x"}
		}
		return r
	}
	late := now.Add(time.Hour)
	check := func(what string, r *http.Request, wantAsked int) {
		t.Helper()
		was := asked
		resp, ok, err := m.AuthenticateRequest(r)
		if refuse != nil {
			if !errors.Is(err, refuse) || ok {
				t.Errorf("%s: %v, %v", what, ok, err)
			}
		} else if err != nil || !ok || resp.User.GetName() != r.TLS.PeerCertificates[0].Subject.CommonName {
			t.Errorf("%s: %v, %v, %v", what, resp, ok, err)
		}
		if asked-was != wantAsked {
			t.Errorf("%s: verified %d times, want %d", what, asked-was, wantAsked)
		}
	}
	check("first", request("ann", late), 1)
	check("again", request("ann", late), 0)
	check("somebody else", request("bob", late), 1)
	for _, h := range []string{"Authorization", "X-Remote-User", "x-remote-group", "Sec-Websocket-Protocol"} {
		check("with "+h, request("ann", late, h), 1)
	}
	check("short-lived", request("eve", now.Add(2*time.Second)), 1)
	now = now.Add(3 * time.Second)
	check("trusted still", request("ann", late), 0)
	check("expired meanwhile", request("eve", now.Add(-time.Second)), 1)
	now = now.Add(certificateTrust)
	refuse = errors.New("no longer trusted")
	check("looked at again", request("ann", late), 1)
	check("a refusal is not remembered", request("ann", late), 1)
}
