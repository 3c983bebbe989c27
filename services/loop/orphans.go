package loop

import (
	"bytes"
	"cmp"
	"slices"
	"sync"

	"github.com/orlog-io/orlog/events"
)

// orphanIndex knows which objects have no controller, so that a controller which looks for something to
// adopt need not read a whole namespace each time. It may run ahead of or behind a view: what it names is
// checked against the view, and what it does not name yet makes its adopters dirty when it arrives.
type orphanIndex struct {
	mu   sync.RWMutex
	keys map[events.Key]map[events.Key]bool // by group, resource and namespace
}

// adoptable are the resources that controllers adopt.
var adoptable = map[string]bool{"pods": true, "replicasets": true, "controllerrevisions": true}

// controlled marks an owner reference of a controller. Inside a JSON string the quotes would be escaped.
var controlled = []byte(`"controller":true`)

func orphaned(s events.State) bool { return s.Exists() && !bytes.Contains(s.Object, controlled) }

func newOrphanIndex() *orphanIndex { return &orphanIndex{keys: map[events.Key]map[events.Key]bool{}} }

func place(group, resource, namespace string) events.Key {
	return events.Key{Group: group, Resource: resource, Namespace: namespace}
}

// note takes up a change.
func (x *orphanIndex) note(c Change) {
	k := c.Next.Key
	if !adoptable[k.Resource] {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	at := place(k.Group, k.Resource, k.Namespace)
	if !orphaned(c.Next) {
		delete(x.keys[at], k)
		return
	}
	if x.keys[at] == nil {
		x.keys[at] = map[events.Key]bool{}
	}
	x.keys[at][k] = true
}

func (x *orphanIndex) in(group, resource, namespace string) []events.Key {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []events.Key
	for k := range x.keys[place(group, resource, namespace)] {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b events.Key) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
