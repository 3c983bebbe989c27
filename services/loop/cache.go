package loop

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"github.com/orlog-io/orlog/events"
)

// Cache holds decoded objects by key and revision, so that a decision over thousands of objects does not
// decode them again. It keeps the newest revision of each key and, of few keys, the one before: a change is
// looked at by many deciders, each of which compares the two. All methods may be called at once.
type Cache struct {
	limit int
	mu    sync.RWMutex
	rows  map[events.Key]row
	past  map[events.Key]row // at most mostPast
}

const mostPast = 256

// row is one object, decoded as the one type that its resource is read as.
type row struct {
	revision events.Sequence
	typ      reflect.Type
	object   any
}

// NewCache makes a cache of at most limit objects (0: 100,000).
func NewCache(limit int) *Cache {
	if limit <= 0 {
		limit = 100_000
	}
	return &Cache{limit: limit, rows: map[events.Key]row{}, past: map[events.Key]row{}}
}

func (c *Cache) get(key events.Key, revision events.Sequence, typ reflect.Type) any {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if r, ok := c.rows[key]; ok && r.revision == revision && r.typ == typ {
		return r.object
	}
	if r, ok := c.past[key]; ok && r.revision == revision && r.typ == typ {
		return r.object
	}
	return nil
}

func (c *Cache) put(key events.Key, r row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, known := c.rows[key]
	if known && old.revision > r.revision {
		c.putPast(key, r) // a reader of the past does not push out the present
		return
	}
	if known && old.revision < r.revision {
		c.putPast(key, old)
	}
	if !known && len(c.rows) >= c.limit {
		for victim := range c.rows { // any one will do: it is decoded again when it is needed
			delete(c.rows, victim)
			break
		}
	}
	c.rows[key] = r
}

// putPast keeps an older revision. c.mu is held.
func (c *Cache) putPast(key events.Key, r row) {
	if len(c.past) >= mostPast {
		clear(c.past) // few are looked at twice, and soon
	}
	c.past[key] = r
}

// drop forgets a deleted object.
func (c *Cache) drop(key events.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rows, key)
	delete(c.past, key)
}

// decode returns the state's object as *T with its resourceVersion set, shared and read-only.
func decode[T any](c *Cache, s events.State) (*T, error) {
	typ := reflect.TypeFor[T]()
	if hit := c.get(s.Key, s.Revision, typ); hit != nil {
		return hit.(*T), nil
	}
	out := new(T)
	if err := json.Unmarshal(s.Object, out); err != nil {
		// A node may report what it likes about its own pods. The object is read as the gateway reads it.
		without, ok := events.WithoutStatus(s.Object)
		if out = new(T); !ok || json.Unmarshal(without, out) != nil {
			return nil, fmt.Errorf("decoding %s at revision %d: %w", s.Key, s.Revision, err)
		}
	}
	if m, ok := any(out).(interface{ SetResourceVersion(string) }); ok {
		m.SetResourceVersion(s.Revision.String())
	}
	c.put(s.Key, row{s.Revision, typ, out})
	return out, nil
}
