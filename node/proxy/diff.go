package proxy

import (
	"maps"
	"slices"
	"time"

	"sigs.k8s.io/knftables"
)

// present says what the table is known to hold, besides what a Ruleset tells: the names that a listing gave. Their
// content is unknown and gets written anew.
type present struct {
	chains, sets, maps []string
}

// difference appends to tx what turns the content of the table from prev into next. A nil prev means an unknown
// content of the named objects; sets that the kernel fills keep their elements in that case too, so that clients stay
// with their endpoints when the agent restarts.
//
// The order matters: an object must exist before something refers to it, and may go only after nothing does.
func difference(tx *knftables.Transaction, prev, next *Ruleset, have present) {
	if prev == nil {
		prev = assumed(next, have)
		tx.Add(&knftables.Table{})
	}
	for _, name := range sorted(next.sets) {
		if prev.sets[name] == nil {
			addSet(tx, name, next.sets[name])
		}
	}
	for _, name := range sorted(next.chains) {
		if prev.chains[name] == nil {
			addChain(tx, name, next.chains[name])
		}
	}
	for _, name := range sorted(prev.sets) {
		if after := next.sets[name]; after != nil {
			removeElements(tx, name, prev.sets[name], after)
		}
	}
	for _, name := range sorted(next.chains) {
		before, after := prev.chains[name], next.chains[name]
		if before != nil && slices.Equal(before.rules, after.rules) {
			continue
		}
		if before != nil {
			tx.Flush(&knftables.Chain{Name: name})
		}
		for _, rule := range after.rules {
			tx.Add(&knftables.Rule{Chain: name, Rule: rule})
		}
	}
	for _, name := range sorted(next.sets) {
		addElements(tx, name, prev.sets[name], next.sets[name])
	}
	removeObjects(tx, prev, next)
}

// removeObjects removes chains and sets that next no longer has. Emptied first, they hold no references to each other.
func removeObjects(tx *knftables.Transaction, prev, next *Ruleset) {
	var chains []string
	for _, name := range sorted(prev.chains) {
		if next.chains[name] == nil {
			chains = append(chains, name)
			tx.Flush(&knftables.Chain{Name: name})
		}
	}
	var sets []string
	for _, name := range sorted(prev.sets) {
		if s := prev.sets[name]; next.sets[name] == nil {
			sets = append(sets, name)
			flushSet(tx, name, s)
		}
	}
	for _, name := range chains {
		tx.Delete(&knftables.Chain{Name: name})
	}
	for _, name := range sets {
		if prev.sets[name].isMap() {
			tx.Delete(&knftables.Map{Name: name})
		} else {
			tx.Delete(&knftables.Set{Name: name})
		}
	}
}

// unknown stands for rules and elements that nobody wrote down: equal to nothing that Compute makes.
const unknown = "\x00"

// assumed is the ruleset that a listing of names stands for.
func assumed(next *Ruleset, have present) *Ruleset {
	r := &Ruleset{chains: map[string]*chain{}, sets: map[string]*set{}}
	for _, name := range have.chains {
		r.chains[name] = &chain{rules: []string{unknown}}
	}
	for _, name := range have.sets {
		r.sets[name] = &set{elements: map[string]string{unknown: ""}}
		if s := next.sets[name]; s != nil {
			r.sets[name].timeout = s.timeout
		}
	}
	for _, name := range have.maps {
		r.sets[name] = &set{kind: ":", elements: map[string]string{unknown: ""}}
	}
	return r
}

func addSet(tx *knftables.Transaction, name string, s *set) {
	if s.isMap() {
		tx.Add(&knftables.Map{Name: name, Type: s.kind})
		return
	}
	set := &knftables.Set{Name: name, Type: s.kind}
	if s.timeout > 0 {
		set.Flags = []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag}
		set.Timeout = knftables.PtrTo[time.Duration](s.timeout)
	}
	tx.Add(set)
}

func addChain(tx *knftables.Transaction, name string, c *chain) {
	out := &knftables.Chain{Name: name}
	if h := c.hook; h != nil {
		out.Type, out.Hook, out.Priority = &h.kind, &h.at, &h.priority
	}
	tx.Add(out)
}

func flushSet(tx *knftables.Transaction, name string, s *set) {
	if s.isMap() {
		tx.Flush(&knftables.Map{Name: name})
	} else {
		tx.Flush(&knftables.Set{Name: name})
	}
}

// removeElements removes what after lacks or has otherwise: an element cannot be changed in place.
func removeElements(tx *knftables.Transaction, name string, before, after *set) {
	if _, is := before.elements[unknown]; is {
		if after.timeout == 0 {
			flushSet(tx, name, before)
		}
		return
	}
	for _, key := range sorted(before.elements) {
		value := before.elements[key]
		if now, still := after.elements[key]; !still || now != value {
			tx.Delete(element(name, key, value))
		}
	}
}

func addElements(tx *knftables.Transaction, name string, before, after *set) {
	for _, key := range sorted(after.elements) {
		value := after.elements[key]
		if before != nil {
			if was, had := before.elements[key]; had && was == value {
				continue
			}
		}
		tx.Add(element(name, key, value))
	}
}

func element(name, key, value string) *knftables.Element {
	if value == "" {
		return &knftables.Element{Set: name, Key: []string{key}}
	}
	return &knftables.Element{Map: name, Key: []string{key}, Value: []string{value}}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
