//go:build system

package systemtest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// startKube starts the peer of the API's benchmarks on loopback, as it comes, with RBAC: the etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler of bin/tools (deploy/checks/etcd and kubernetes). It returns how to reach
// it as an administrator.
func startKube(b *testing.B) apiConfig {
	b.Helper()
	etcd, dir := startEtcd(b), b.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	address, token := freeAddress(b), rand.Text()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		b.Fatal(err)
	}
	keyFile, tokenFile, kubeconfig := filepath.Join(dir, "key.pem"), filepath.Join(dir, "tokens"), filepath.Join(dir, "kubeconfig")
	access := clientcmdapi.Config{Clusters: map[string]*clientcmdapi.Cluster{"kube": {Server: "https://" + address, InsecureSkipTLSVerify: true}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"bench": {Token: token}}, CurrentContext: "kube",
		Contexts: map[string]*clientcmdapi.Context{"kube": {Cluster: "kube", AuthInfo: "bench"}}}
	if err := clientcmd.WriteToFile(access, kubeconfig); err != nil {
		b.Fatal(err)
	}
	for file, content := range map[string][]byte{
		keyFile:   pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		tokenFile: []byte(token + ",bench,bench,system:masters\n"),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	startPeer(b, "kube-apiserver", "--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--advertise-address", "192.0.2.1", "--secure-port", port,
		"--cert-dir", dir, "--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC", "--token-auth-file", tokenFile,
		"--service-account-issuer", "https://bench", "--service-account-key-file", keyFile, "--service-account-signing-key-file", keyFile)
	config := func(contentType string) *rest.Config {
		c := &rest.Config{Host: "https://" + address, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
		if c.ContentType = contentType; contentType != "" {
			c.AcceptContentTypes = contentType + ",application/json"
		}
		return c
	}
	c := apiConfig(config).clientset(b, "")
	if err := the.await(time.Minute, "kube-apiserver", func() error {
		return c.RESTClient().Get().AbsPath("/readyz").Do(context.Background()).Error()
	}); err != nil {
		b.Fatal(err)
	}
	startPeer(b, "kube-controller-manager", "--kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port=0", "--service-account-private-key-file", keyFile)
	startPeer(b, "kube-scheduler", "--kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port=0")
	return config
}

// startEtcd starts the etcd of bin/tools (deploy/checks/etcd) on loopback, as it comes: every write is fsynced.
func startEtcd(b *testing.B) (endpoint string) {
	b.Helper()
	client, peer := "http://"+freeAddress(b), "http://"+freeAddress(b)
	startPeer(b, "etcd", "--data-dir", b.TempDir(), "--log-level", "error", "--listen-client-urls", client,
		"--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	return client
}

// startPeer starts a program of bin/tools that ends with the benchmark.
func startPeer(b *testing.B, name string, args ...string) {
	b.Helper()
	cmd := exec.Command(filepath.Join(the.bin, "tools", name), args...)
	said, err := os.Create(filepath.Join(b.TempDir(), name))
	if err != nil {
		b.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		b.Fatalf("%s (deploy/checks fetches it): %v", name, err)
	}
	b.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			b.Error(err)
		}
		_ = cmd.Wait() // says that it was killed
		if b.Failed() {
			if last, err := os.ReadFile(said.Name()); err == nil {
				b.Logf("%s said: ... %s", name, last[max(0, len(last)-2000):])
			}
		}
	})
}

func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// apiConfig is how to reach an API with connections of its own and no limit on requests, speaking a content type; ""
// is JSON.
type apiConfig func(contentType string) *rest.Config

// clientset fails the benchmark where there is none.
func (config apiConfig) clientset(b *testing.B, contentType string) *kubernetes.Clientset {
	b.Helper()
	c, err := kubernetes.NewForConfig(config(contentType))
	if err != nil {
		b.Fatal(fmt.Errorf("client: %w", err))
	}
	return c
}
