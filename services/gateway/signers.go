package gateway

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapiserver "k8s.io/apiserver/pkg/server"
	certificatesinformers "k8s.io/client-go/informers/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/controller/certificates/signer"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
)

// newSigner is how upstream makes the controller of one signer.
type newSigner func(ctx context.Context, client kubernetes.Interface, requests certificatesinformers.CertificateSigningRequestInformer,
	caFile, caKeyFile string, lifetime time.Duration) (*signer.CSRSigningController, error)

// addSigners issues certificates for approved requests to Kubernetes' own signers: clients of the API
// (kube-apiserver-client), nodes (kube-apiserver-client-kubelet) and nodes' servers (kubelet-serving). Approving
// is a person's: nothing is approved by itself. They work under the identity that upstream's bootstrap policy
// has for them.
func (g *Gateway) addSigners(server *controlplaneapiserver.Server, c *controlplaneapiserver.CompletedConfig) error {
	config := rest.CopyConfig(c.Generic.LoopbackClientConfig)
	config.Impersonate = rest.ImpersonationConfig{UserName: systemControllers + "certificate-controller",
		Groups: []string{serviceaccount.AllServiceAccountsGroup, serviceaccount.MakeNamespaceGroupName(metav1.NamespaceSystem), user.AllAuthenticated}}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("gateway: signers: %w", err)
	}
	requests := c.VersionedInformers.Certificates().V1().CertificateSigningRequests()
	var controllers []*signer.CSRSigningController
	for _, make := range []newSigner{signer.NewKubeAPIServerClientCSRSigningController, signer.NewKubeletClientCSRSigningController, signer.NewKubeletServingCSRSigningController} {
		controller, err := make(context.Background(), client, requests, g.pki.file(caName, ".crt"), g.pki.file(caName, ".key"), leafLife)
		if err != nil {
			return fmt.Errorf("gateway: signers: %w", err)
		}
		controllers = append(controllers, controller)
	}
	return server.GenericAPIServer.AddPostStartHook("start-certificate-signers", func(hook genericapiserver.PostStartHookContext) error {
		for _, controller := range controllers {
			go controller.Run(hook, 1)
		}
		return nil
	})
}
