//go:build system

package durability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
)

const namespace = "killed"

// deed is one request of a writer, noted before it is sent.
type deed struct {
	verb  string // created, updated, deleted
	name  string
	token string // stands in the object that the request writes; deletions have none
	uid   types.UID

	answered        bool
	resourceVersion string // of the answer; a deletion's answer has none
}

// writer is the one who writes about the objects that are called after it, one request at a time.
type writer struct {
	name    string
	client  func() (*kubernetes.Clientset, error)
	random  *rand.Rand
	deeds   []*deed
	living  map[string]*corev1.ConfigMap // as the writer was told last; nil: not sure
	made    int
	answers chan<- struct{}
}

// run writes until ctx ends. What fails because orlogd is away is noted as unanswered, and looked up before
// the object is written to again.
func (w *writer) run(ctx context.Context) error {
	client, err := w.client()
	if err != nil {
		return err
	}
	maps := client.CoreV1().ConfigMaps(namespace)
	for ctx.Err() == nil {
		err := w.step(ctx, maps)
		switch {
		case err == nil:
			select {
			case w.answers <- struct{}{}:
			default:
			}
		case ctx.Err() != nil || away(err):
			sleep(ctx, 20*time.Millisecond)
		default:
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// away reports whether the answer says nothing about the request: it may have been done.
func away(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // no answer at all
	}
	code := status.Status().Code
	return code >= 500 || code == 429 || apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) // RBAC is being loaded
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *writer) note(verb, name string) *deed {
	d := &deed{verb: verb, name: name}
	if verb != "deleted" {
		d.token = fmt.Sprintf("%s-%06d", w.name, len(w.deeds))
	}
	w.deeds = append(w.deeds, d)
	return d
}

func (d *deed) done(obj *corev1.ConfigMap) *corev1.ConfigMap {
	d.answered, d.resourceVersion, d.uid = true, obj.ResourceVersion, obj.UID
	return obj
}

// step does one thing to one of a few objects.
func (w *writer) step(ctx context.Context, maps typed.ConfigMapInterface) (err error) {
	name := fmt.Sprintf("%s-%d", w.name, w.random.IntN(6))
	is, known := w.living[name]
	if known && is == nil { // the last request about it was not answered
		is, err = maps.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			delete(w.living, name)
			return nil
		}
		if err == nil {
			w.living[name] = is
		}
		return err
	}
	if known {
		w.living[name] = nil
	}
	var obj *corev1.ConfigMap
	switch dice := w.random.IntN(10); {
	case !known:
		w.living[name] = nil
		obj, err = w.create(ctx, maps, name)
	case dice < 2:
		return w.delete(ctx, maps, is)
	case dice < 6:
		obj, err = w.update(ctx, maps, is)
	default:
		obj, err = w.apply(ctx, maps, name)
	}
	if err == nil {
		w.living[name] = obj
	}
	return err
}

func (w *writer) create(ctx context.Context, maps typed.ConfigMapInterface, name string) (*corev1.ConfigMap, error) {
	if w.made++; w.made%3 == 0 {
		return w.apply(ctx, maps, name)
	}
	d := w.note("created", name)
	obj, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"token": d.token}}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return d.done(obj), nil
}

func (w *writer) update(ctx context.Context, maps typed.ConfigMapInterface, is *corev1.ConfigMap) (*corev1.ConfigMap, error) {
	d := w.note("updated", is.Name)
	want := is.DeepCopy()
	want.Data = map[string]string{"token": d.token}
	obj, err := maps.Update(ctx, want, metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	return d.done(obj), nil
}

// apply is server-side apply, which creates as well, and which no resourceVersion guards.
func (w *writer) apply(ctx context.Context, maps typed.ConfigMapInterface, name string) (*corev1.ConfigMap, error) {
	d, force := w.note("applied", name), true
	body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"token":%q}}`, name, d.token)
	obj, err := maps.Patch(ctx, name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: "killtest", Force: &force})
	if err != nil {
		return nil, err
	}
	return d.done(obj), nil
}

func (w *writer) delete(ctx context.Context, maps typed.ConfigMapInterface, is *corev1.ConfigMap) error {
	d := w.note("deleted", is.Name)
	d.uid = is.UID
	if err := maps.Delete(ctx, is.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(is.UID))}); err != nil {
		return err
	}
	d.answered = true
	delete(w.living, is.Name)
	return nil
}
