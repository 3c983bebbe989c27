package gateway

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/services/access/request"
)

// asks makes a request for a certificate of Kubernetes' own kind, and gives its key in PEM.
func asks(t *testing.T, client kubernetes.Interface, name, signer string, subject pkix.Name) (*certificatesv1.CertificateSigningRequest, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: signer, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}}
	if csr, err = client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), csr, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return csr, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// decide adds a condition by the subresource approval.
func decide(t *testing.T, client kubernetes.Interface, name string, condition certificatesv1.RequestConditionType) {
	t.Helper()
	requests := client.CertificatesV1().CertificateSigningRequests()
	csr, err := requests.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: condition, Status: corev1.ConditionTrue, Reason: "Test"})
	if _, err := requests.UpdateApproval(t.Context(), name, csr, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// certificateOf waits for what the signer issues.
func certificateOf(t *testing.T, client kubernetes.Interface, name string) (certificate []byte) {
	t.Helper()
	eventually(t, "the certificate of "+name, func() error {
		csr, err := client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && len(csr.Status.Certificate) == 0 {
			err = errors.New("not issued yet")
		}
		if err == nil {
			certificate = csr.Status.Certificate
		}
		return err
	})
	return certificate
}

// testCertificates: approved requests to Kubernetes' signers are issued, and others are not; who is revoked is out
// at once, with every connection.
func testCertificates(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	_, _ = asks(t, client, "waits", certificatesv1.KubeAPIServerClientSignerName, pkix.Name{CommonName: "waits"})
	_, key := asks(t, client, "carol", certificatesv1.KubeAPIServerClientSignerName, pkix.Name{CommonName: "carol", Organization: []string{"system:authenticated", "readers"}})
	decide(t, client, "carol", certificatesv1.CertificateApproved)
	carol := rest.AnonymousClientConfig(c.admin(t))
	carol.CertData, carol.KeyData, carol.QPS = certificateOf(t, client, "carol"), key, -1
	code, who := do(t, carol, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)
	if code != http.StatusCreated || !strings.Contains(who, `"carol"`) || !strings.Contains(who, `"readers"`) {
		t.Errorf("%d: %s", code, who)
	}
	asks(t, client, "impostor", certificatesv1.KubeAPIServerClientKubeletSignerName, pkix.Name{CommonName: "no-node"})
	decide(t, client, "impostor", certificatesv1.CertificateApproved)
	eventually(t, "the refusal of a node's certificate for what is no node", func() error {
		csr, err := client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "impostor", metav1.GetOptions{})
		for _, c := range csr.Status.Conditions {
			if c.Type == certificatesv1.CertificateFailed {
				return nil
			}
		}
		return errors.Join(err, errors.New("no such condition"))
	})
	if csr, err := client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "waits", metav1.GetOptions{}); err != nil || len(csr.Status.Certificate) > 0 {
		t.Errorf("issued without approval: %v", err)
	}

	// A connection is open when the certificate is revoked: it is cut.
	open := dialAs(t, carol)
	defer open.Close()
	if _, err := io.WriteString(open, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(open)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("healthz: %q, %v", line, err)
	}
	decide(t, client, "carol", request.Revoked)
	if _, err := io.Copy(io.Discard, answers); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection of a revoked client stays open")
	}
	eventually(t, "the end of carol's access", func() error {
		if code, _ := getAs(t, carol, "/api"); code != http.StatusUnauthorized {
			return errors.New(http.StatusText(code))
		}
		return nil
	})
	if err := client.CertificatesV1().CertificateSigningRequests().Delete(t.Context(), "carol", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if code, _ := getAs(t, carol, "/api"); code != http.StatusUnauthorized {
		t.Errorf("when the request is deleted, the revoked certificate gives %d", code)
	}
	if code, body := getAs(t, c.admin(t), "/orlog/v1/log"); code != http.StatusNotImplemented || !strings.Contains(body, "operator") {
		t.Errorf("/orlog/v1/log of a gateway that knows no clients of the log: %d: %s", code, body)
	}
}

// dialAs opens a connection as a client, for half a minute.
func dialAs(t *testing.T, config *rest.Config) net.Conn {
	t.Helper()
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	secure.NextProtos = nil
	conn, err := tls.Dial("tcp", strings.TrimPrefix(config.Host, "https://"), secure)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// testAdminRevoked: orlogd's own kubeconfigs are recorded, and what is revoked is not handed out again.
func testAdminRevoked(t *testing.T, c *cluster, client *kubernetes.Clientset) {
	path := t.TempDir() + "/kubeconfig"
	if err := c.WriteKubeconfig(path, "dora", "ops"); err != nil {
		t.Fatal(err)
	}
	first, err := c.Record("dora", "ops")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CertificatesV1().CertificateSigningRequests().Create(t.Context(), first, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	decide(t, client, first.Name, request.Revoked)
	eventually(t, "another certificate", func() error {
		second, err := c.Record("dora", "ops")
		if err == nil && second.Name == first.Name {
			err = errors.New("still the old one")
		}
		return err
	})
}

func TestAuthorityServes(t *testing.T) {
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a.pki.now = func() time.Time { return now }
	config, err := a.Serve("log", []string{"127.0.0.1", "log.example"})
	if err != nil {
		t.Fatal(err)
	}
	leaf := func() *x509.Certificate {
		t.Helper()
		c, err := config.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.Bundle())
	first := leaf()
	for _, name := range []string{"127.0.0.1", "log.example"} {
		if _, err := first.Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err != nil {
			t.Error(err)
		}
	}
	now = now.Add(lookAgain + time.Second)
	if !leaf().Equal(first) {
		t.Error("a young certificate was replaced")
	}
	now = now.Add(leafLife - renewBefore)
	if renewed := leaf(); renewed.Equal(first) || !renewed.NotAfter.After(first.NotAfter) {
		t.Error("an old certificate is served on")
	}
}
