package events

import (
	"strconv"
	"strings"
)

// Sequence is an event's place in the log: 1 for the first event, rising by one. 0 means "none". It is the
// Kubernetes resourceVersion of what the event wrote.
type Sequence uint64

// String formats the sequence in decimal, as a resourceVersion.
func (s Sequence) String() string { return strconv.FormatUint(uint64(s), 10) }

// ParseSequence reads a decimal sequence, as found in a resourceVersion or a header.
func ParseSequence(s string) (Sequence, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	return Sequence(n), err
}

// Key names one object: its API group ("" for core), its resource (plural, lower case: "pods"), its
// namespace ("" where cluster-scoped) and its name. Version is no part of it: an object has one history,
// whatever version it was written in.
type Key struct {
	Group     string
	Resource  string
	Namespace string
	Name      string
}

// String formats the key as group/resource/namespace/name, with "core" for the empty group and "-" for no
// namespace: the ce-subject of an event.
func (k Key) String() string {
	return groupToken(k.Group) + "/" + k.Resource + "/" + dashIfEmpty(k.Namespace) + "/" + k.Name
}

// ParseKey reads what Key.String wrote.
func ParseKey(s string) (Key, error) {
	p := strings.SplitN(s, "/", 4)
	if len(p) != 4 || p[0] == "" || p[1] == "" || p[2] == "" || p[3] == "" {
		return Key{}, invalidf("key %q: want group/resource/namespace/name", s)
	}
	return Key{Group: groupFromToken(p[0]), Resource: p[1], Namespace: emptyIfDash(p[2]), Name: p[3]}, nil
}

// GroupResource formats the key's resource as kubectl does: "pods", "deployments.apps".
func (k Key) GroupResource() string {
	if k.Group == "" {
		return k.Resource
	}
	return k.Resource + "." + k.Group
}

func groupToken(group string) string {
	if group == "" {
		return "core"
	}
	return strings.ReplaceAll(group, ".", "_")
}

func groupFromToken(token string) string {
	if token == "core" {
		return ""
	}
	return strings.ReplaceAll(token, "_", ".")
}

func dashIfEmpty(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func emptyIfDash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}
