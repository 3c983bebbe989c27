package events

import (
	"errors"
	"testing"
)

func TestSubject(t *testing.T) {
	pod := Key{Resource: "pods", Namespace: "default", Name: "web-1"}
	for text, s := range map[string]Subject{
		"orlog.desired.core.pods.default.web-1.-":                                         {Class: Desired, Key: pod},
		"orlog.observed.core.pods.default.web-1.node-1%2Eexample":                         {Class: Observed, Key: pod, Node: "node-1.example"},
		"orlog.desired.apiextensions_k8s_io.customresourcedefinitions.-.foos%2Eexample.-": {Class: Desired, Key: Key{"apiextensions.k8s.io", "customresourcedefinitions", "", "foos.example"}},
		"orlog.desired.rbac_authorization_k8s_io.clusterroles.-.system:%2A %":             {},
		"orlog.desired.core.pods.default.a%2Ab%3Ec%20d%25e%C3%A9.-":                       {Class: Desired, Key: Key{"", "pods", "default", "a*b>c d%e\u00e9"}},
	} {
		got, err := ParseSubject(text)
		if s == (Subject{}) {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: got %+v, %v; want ErrInvalid", text, got, err)
			}
			continue
		}
		if err != nil || got != s {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, s)
		}
		if s.String() != text {
			t.Errorf("%+v: got %s, want %s", s, s, text)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
		for _, p := range []string{s.AnyNode(), s.AnyClass(), "orlog.>", "orlog.*.*.*.*.*." + NodeToken(s.Node)} {
			if !Matches(p, text) {
				t.Errorf("%s does not match %s", p, text)
			}
		}
	}
}

func TestSubjectRefused(t *testing.T) {
	for name, s := range map[string]Subject{
		"class":             {Class: "wanted", Key: Key{"", "pods", "default", "a"}},
		"no name":           {Class: Desired, Key: Key{"", "pods", "default", ""}},
		"no resource":       {Class: Desired, Key: Key{"", "", "default", "a"}},
		"group underscore":  {Class: Desired, Key: Key{"a_b", "pods", "default", "a"}},
		"group core":        {Class: Desired, Key: Key{"core", "pods", "default", "a"}},
		"group wildcard":    {Class: Desired, Key: Key{"*", "pods", "default", "a"}},
		"group space":       {Class: Desired, Key: Key{"a b", "pods", "default", "a"}},
		"namespace is dash": {Class: Desired, Key: Key{"", "pods", "-", "a"}},
		"node is dash":      {Class: Desired, Key: Key{"", "pods", "default", "a"}, Node: "-"},
	} {
		if err := s.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	for _, text := range []string{"", "orlog", "orlog.desired.core.pods.default.a", "orlog.desired.core.pods.default.a.-.x", "norlog.desired.core.pods.default.a.-",
		"orlog.desired.*.pods.default.a.-", "orlog.desired.core.pods.default.*.-", "orlog.desired.core.pods.default.%61.-", "orlog.desired.core.pods.default.a%2e.-",
		"orlog.desired.core.pods..a.-", "orlog.desired.core.pods.default.a.", "orlog.desired.core.pods.default.a%2.-", "orlog.desired.core.pods.default.>.-"} {
		if s, err := ParseSubject(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %+v, %v; want ErrInvalid", text, s, err)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{">", "a", true}, {">", "", false}, {"*", "a", true}, {"*", "a.b", false}, {"a.>", "a", false}, {"a.>", "a.b", true}, {"a.>", "a.b.c", true},
		{"a.*.c", "a.b.c", true}, {"a.*.c", "a.b.d", false}, {"a.b", "a.b", true}, {"a.b", "a.b.c", false}, {"a.b.c", "a.b", false}, {"*.*", "a.b", true}, {"a.*", "a", false},
	} {
		if got := Matches(c.pattern, c.subject); got != c.want {
			t.Errorf("Matches(%q, %q) = %v", c.pattern, c.subject, got)
		}
	}
}

// FuzzParseSubject: what parses has one spelling, matches its own patterns and is valid.
func FuzzParseSubject(f *testing.F) {
	f.Add("orlog.desired.core.pods.default.web-1.-")
	f.Add("orlog.observed.apps.deployments.-.a%2Eb.node%20")
	f.Add("orlog.desired.a_b.x.-.%25.-")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSubject(text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q: %v is not ErrInvalid", text, err)
			}
			return
		}
		if s.String() != text {
			t.Fatalf("%q is spelled %q", text, s)
		}
		if !Matches(s.AnyNode(), text) || !Matches(s.AnyClass(), text) {
			t.Fatalf("%q does not match its patterns", text)
		}
	})
}

// FuzzSubject: a subject that is valid comes back from its text, and its text is harmless on the wire.
func FuzzSubject(f *testing.F) {
	f.Add(true, "apps", "deployments", "default", "web", "node-1")
	f.Add(false, "", "pods", "", "a.b*c>d e%", "-")
	f.Fuzz(func(t *testing.T, desired bool, group, resource, namespace, name, node string) {
		s := Subject{Class: Observed, Key: Key{group, resource, namespace, name}, Node: node}
		if desired {
			s.Class = Desired
		}
		if s.Validate() != nil {
			return
		}
		text := s.String()
		back, err := ParseSubject(text)
		if err != nil || back != s {
			t.Fatalf("%+v -> %q -> %+v, %v", s, text, back, err)
		}
		for _, b := range []byte(text) {
			if b <= ' ' || b >= 0x7f || b == '*' || b == '>' {
				t.Fatalf("%+v -> %q holds %q", s, text, b)
			}
		}
	})
}

// FuzzKey: the ce-subject of a valid subject names its key.
func FuzzKey(f *testing.F) {
	f.Add("apps", "deployments", "default", "web")
	f.Add("", "pods", "", "a/b")
	f.Fuzz(func(t *testing.T, group, resource, namespace, name string) {
		k := Key{group, resource, namespace, name}
		if (Subject{Class: Desired, Key: k}).Validate() != nil {
			return
		}
		for _, part := range []string{resource, namespace} {
			for _, b := range []byte(part) {
				if b == '/' {
					return // no resource or namespace holds one
				}
			}
		}
		if back, err := ParseKey(k.String()); err != nil || back != k {
			t.Fatalf("%+v -> %q -> %+v, %v", k, k, back, err)
		}
	})
}
