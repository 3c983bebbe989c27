package events

import (
	"fmt"
	"strings"
)

// Class says what kind of statement an event makes.
type Class string

const (
	// Desired is an intent: metadata and spec, as somebody wants them.
	Desired Class = "desired"
	// Observed is a fact that somebody reports: status.
	Observed Class = "observed"
)

// SubjectRoot is the first token of every subject.
const SubjectRoot = "orlog"

// Subject is the address of an event on the log:
//
//	orlog.<class>.<group>.<resource>.<namespace>.<name>.<node>
//
// Node is who must act or who reports, "" while nobody. Group dots become "_", core stands for the empty
// group, "-" for no namespace and no node; a byte that a NATS token may not hold is percent-encoded.
type Subject struct {
	Class Class
	Key   Key
	Node  string
}

// String formats the subject for the log.
func (s Subject) String() string { return s.pattern(string(s.Class), NodeToken(s.Node)) }

// AnyNode is the pattern of every event of the same class about the same object, whatever its node: the
// subject on which one class of an object is compared and swapped.
func (s Subject) AnyNode() string { return s.pattern(string(s.Class), "*") }

// AnyClass is the pattern of every event about the same object: the subject on which an object is compared
// and swapped as a whole.
func (s Subject) AnyClass() string { return s.pattern("*", "*") }

// NodeToken is a node's name as the last token of a subject, for patterns such as
// orlog.desired.core.pods.*.*.<node>. "" becomes "-".
func NodeToken(node string) string {
	if node == "" {
		return "-"
	}
	return escapeToken(node)
}

func (s Subject) pattern(class, node string) string {
	return strings.Join([]string{SubjectRoot, class, groupToken(s.Key.Group), escapeToken(s.Key.Resource),
		escapeToken(dashIfEmpty(s.Key.Namespace)), escapeToken(s.Key.Name), node}, ".")
}

// ParseSubject reads what Subject.String wrote. It refuses what String could not have written, so that a
// subject has one spelling.
func ParseSubject(text string) (Subject, error) {
	p := strings.Split(text, ".")
	if len(p) != 7 || p[0] != SubjectRoot {
		return Subject{}, invalidf("subject %q: want %s.<class>.<group>.<resource>.<namespace>.<name>.<node>", text, SubjectRoot)
	}
	if c := Class(p[1]); c != Desired && c != Observed {
		return Subject{}, invalidf("subject %q: class %q is neither %s nor %s", text, p[1], Desired, Observed)
	}
	if p[2] != escapeToken(p[2]) {
		return Subject{}, invalidf("subject %q: group %q holds a byte that no group may hold", text, p[2])
	}
	for i := range p[3:] {
		t, err := unescapeToken(p[3+i])
		if err != nil {
			return Subject{}, invalidf("subject %q: token %d: %v", text, 4+i, err)
		}
		p[3+i] = t
	}
	s := Subject{Class: Class(p[1]), Node: emptyIfDash(p[6]),
		Key: Key{Group: groupFromToken(p[2]), Resource: p[3], Namespace: emptyIfDash(p[4]), Name: p[5]}}
	if s.String() != text {
		return Subject{}, invalidf("subject %q is not in its one legal spelling %q", text, s.String())
	}
	return s, nil
}

// Validate says whether the subject can be appended: a known class, and no empty part.
func (s Subject) Validate() error {
	switch {
	case s.Class != Desired && s.Class != Observed:
		return invalidf("subject: class %q is neither %s nor %s", s.Class, Desired, Observed)
	case s.Key.Resource == "" || s.Key.Name == "":
		return invalidf("subject: resource and name are required, got %q", s.Key)
	}
	back, err := ParseSubject(s.String())
	if err != nil {
		return err
	}
	if back != s { // a group with "_" or named "core", or a part that is "-"
		return invalidf("subject: %+v would be read back as %+v", s, back)
	}
	return nil
}

// Matches reports whether a subject matches a NATS pattern: "*" stands for one token, a final ">" for one
// or more.
func Matches(pattern, subject string) bool {
	for {
		pt, prest, pmore := strings.Cut(pattern, ".")
		st, srest, smore := strings.Cut(subject, ".")
		if pt == ">" && !pmore {
			return subject != ""
		}
		if pt != "*" && pt != st {
			return false
		}
		if !pmore || !smore {
			return pmore == smore
		}
		pattern, subject = prest, srest
	}
}

func legalTokenByte(b byte) bool {
	return b > ' ' && b < 0x7f && b != '.' && b != '*' && b != '>' && b != '%'
}

// escapeToken percent-encodes what a NATS token may not hold. Bytes from 0x7f up are encoded too, so that a
// subject is plain ASCII.
func escapeToken(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if !legalTokenByte(s[i]) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if legalTokenByte(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

func unescapeToken(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("is empty")
	}
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends within a percent code", s)
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%q holds a malformed percent code", s)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
