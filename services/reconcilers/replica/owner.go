package replica

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Controllers are the keys of the controllers, of one resource, of objects that may be nil.
func Controllers[T any](of loop.Resource[T], objects ...metav1.Object) []events.Key {
	var out []events.Key
	for _, o := range objects {
		if o == nil || reflect.ValueOf(o).IsNil() {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(o); ref != nil && ref.Kind == of.Kind {
			out = append(out, of.Key(o.GetNamespace(), ref.Name))
		}
	}
	return out
}

// Selects says whether a selector, which must select something, matches an object.
func Selects(s *metav1.LabelSelector, o metav1.Object) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(o.GetLabels()))
}

// Deref is *p, or otherwise where p is nil.
func Deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
