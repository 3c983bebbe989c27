package serviceaccount

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Names that every namespace has.
const (
	accountName = "default"
	rootCAName  = "kube-root-ca.crt"
	rootCAField = "ca.crt"
)

const (
	describedAt = "kubernetes.io/description"
	description = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// Accounts makes the default ServiceAccount of each namespace.
type Accounts struct{}

// Spec declares what the reconciler reads and writes.
func (Accounts) Spec() loop.Spec {
	return loop.Spec{
		Name:     "serviceaccount",
		Identity: loop.ServiceAccount("service-account-controller"),
		Inputs: []loop.Input{
			{Resource: "namespaces", Keys: loop.Itself},
			{Resource: "serviceaccounts", Keys: inNamespace(accountName)},
		},
		Outputs: []loop.Output{{Resource: "serviceaccounts", Shared: true}},
		Workers: 2,
	}
}

// inNamespace maps the object of a name to its namespace.
func inNamespace(name string) func(*loop.View, loop.Change) []events.Key {
	return func(_ *loop.View, c loop.Change) []events.Key {
		if c.Next.Key.Name != name {
			return nil
		}
		return []events.Key{loop.Namespaces.Key("", c.Next.Key.Namespace)}
	}
}

// Decide decides about one namespace.
func (Accounts) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	if !alive(v, key) || loop.ServiceAccounts.Get(v, key.Name, accountName) != nil {
		return d
	}
	d.Do(loop.ServiceAccounts.Create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: accountName}}))
	return d
}

func alive(v *loop.View, key events.Key) bool {
	ns := loop.Namespaces.At(v, key)
	return ns != nil && ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating
}

// RootCA publishes the certificate authority of the API in each namespace.
type RootCA struct {
	// PEM is the bundle.
	PEM []byte
}

// Spec declares what the reconciler reads and writes.
func (RootCA) Spec() loop.Spec {
	return loop.Spec{
		Name:     "rootca",
		Identity: loop.ServiceAccount("root-ca-cert-publisher"),
		Inputs: []loop.Input{
			{Resource: "namespaces", Keys: loop.Itself},
			{Resource: "configmaps", Keys: inNamespace(rootCAName)},
		},
		Outputs: []loop.Output{{Resource: "configmaps", Shared: true}},
		Workers: 2,
	}
}

// Decide decides about one namespace.
func (r RootCA) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	if !alive(v, key) {
		return d
	}
	switch have := loop.ConfigMaps.Get(v, key.Name, rootCAName); {
	case have == nil:
		d.Do(loop.ConfigMaps.Create(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: rootCAName, Annotations: map[string]string{describedAt: description}},
			Data:       map[string]string{rootCAField: string(r.PEM)},
		}))
	case len(have.Data) != 1 || have.Data[rootCAField] != string(r.PEM) || len(have.BinaryData) > 0:
		next := have.DeepCopy()
		next.Data, next.BinaryData = map[string]string{rootCAField: string(r.PEM)}, nil
		d.Do(loop.ConfigMaps.Update(next))
	}
	return d
}
