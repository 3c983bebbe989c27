package gateway

import (
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/orlog-io/orlog/services/access/request"
)

// Names for WriteKubeconfig.
const (
	// AdminUser with MastersGroup may do everything.
	AdminUser    = "admin"
	MastersGroup = "system:masters"
	// NodeUserPrefix and a node's name, with NodesGroup, is that node's agent.
	NodeUserPrefix = "system:node:"
	NodesGroup     = "system:nodes"
)

// WriteKubeconfig writes a kubeconfig, mode 0600, with a client certificate for the user and groups, and the
// address under which this machine reaches the gateway.
func (g *Gateway) WriteKubeconfig(path, user string, groups ...string) error {
	return g.WriteKubeconfigFor(path, g.settings.address(), user, groups...)
}

// Record makes the request that records the certificate which WriteKubeconfig writes for a user and groups.
func (g *Gateway) Record(user string, groups ...string) (*certificatesv1.CertificateSigningRequest, error) {
	cert, _, err := g.pki.client(user, groups)
	if err != nil {
		return nil, err
	}
	key, err := readKey(g.pki.file(filepath.Join(clientsDir, fileName(user)), ".key"))
	if err != nil {
		return nil, err
	}
	return request.ForRecord(pkix.Name{CommonName: user, Organization: groups}, key, cert)
}

// WriteKubeconfigFor is WriteKubeconfig for clients that reach the gateway under another URL, such as
// AdvertiseURL. Its host must be among the serving certificate's names: see Options.ExtraSANs.
func (g *Gateway) WriteKubeconfigFor(path, server, user string, groups ...string) error {
	cert, key, err := g.pki.client(user, groups)
	if err != nil {
		return err
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["orlog"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: g.pki.bundle()}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	c.Contexts["orlog"] = &clientcmdapi.Context{Cluster: "orlog", AuthInfo: user}
	c.CurrentContext = "orlog"
	b, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("gateway: kubeconfig %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("gateway: kubeconfig: %w", err)
	}
	return writePrivate(path, b)
}
