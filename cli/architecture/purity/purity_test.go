package purity

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

type importer map[string]*types.Package

func (i importer) Import(path string) (*types.Package, error) {
	if p := i[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s is not among what the test loads", path)
}

// standard knows the packages that the functions of the tests use.
func standard(t *testing.T) importer {
	t.Helper()
	loaded, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedTypes},
		"cmp", "crypto/rand", "fmt", "maps", "math/rand/v2", "net", "net/http", "os", "slices", "sort", "time")
	if err != nil {
		t.Fatal(err)
	}
	out := importer{}
	for _, p := range loaded {
		out[p.PkgPath] = p.Types
	}
	return out
}

// findings checks functions that are given as text; source imports all that they may need.
func findings(t *testing.T, source string) []Finding {
	t.Helper()
	const head = `package p
import ("cmp"; "crypto/rand"; "fmt"; "maps"; mrand "math/rand/v2"; "net"; "net/http"; "os"; "slices"; "sort"; "time")
var ( _ = cmp.Compare[int]; _ = rand.Read; _ = maps.Keys[map[int]int]; _ = mrand.IntN; _ net.IP; _ http.Header; _ = os.DevNull; _ = slices.Sort[[]int]; _ = sort.Ints; _ time.Time; _ fmt.Stringer )
type set map[string]struct{}
func (s set) Insert(k string) { s[k] = struct{}{} }
type box struct { n int; m map[string]int }
`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", head+source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	if _, err := (&types.Config{Importer: standard(t)}).Check("p", fset, []*ast.File{file}, info); err != nil {
		t.Fatal(err)
	}
	var out []Finding
	for _, f := range Check(Package{fset, []*ast.File{file}, info}) {
		if f.At.Line > strings.Count(head, "\n") { // the head uses what it imports
			out = append(out, f)
		}
	}
	return out
}

func each(cases []string) string {
	var b strings.Builder
	for i, c := range cases {
		b.WriteString("func f" + string(rune('A'+i/10)) + string(rune('0'+i%10)) + c + "\n")
	}
	return b.String()
}

// TestCaught: each of these on a line of its own must be found.
func TestCaught(t *testing.T) {
	caught := []string{
		`() time.Time { return time.Now() }`,
		`(t time.Time) time.Duration { return time.Since(t) }`,
		`(t time.Time) time.Duration { return time.Until(t) }`,
		`() { time.Sleep(1) }`,
		`() { <-time.After(1) }`,
		`() { <-time.Tick(1) }`,
		`() { time.NewTimer(1).Stop() }`,
		`() func() time.Time { return time.Now }`,
		`() int { return mrand.IntN(3) }`,
		`(b []byte) { rand.Read(b) }`,
		`() { os.ReadFile("x") }`,
		`() { http.Get("x") }`,
		`() { net.Dial("tcp", "x") }`,
		`() { go f() }; func f() {}`,
		`(c, d chan int) { select { case <-c: case <-d: } }`,
		`() { fmt.Println("x") }`,
		`(m map[string]int) (out []string) { for k := range m { out = append(out, k) }; return out }`,
		`(m map[string]int) []string { return slices.Collect(maps.Keys(m)) }`,
		`(m map[string]int) string { for k := range m { return k }; return "" }`,
		`(m map[string]int) (s string) { for k := range m { s += k }; return s }`,
		`(m map[string]float64) (s float64) { for _, v := range m { s += v }; return s }`,
		`(m map[string]int) (last string) { for k := range m { last = k }; return last }`,
		`(m, n map[string]int) { for _, v := range m { n["x"] = v } }`,
		`(m map[string]int, do func(string)) { for k := range m { do(k) } }`,
		`(m map[string]int) (n int) { for range m { n++; if n > 3 { break } }; return n }`,
		`(m map[string]int) bool { for _, v := range m { if v > 1 { return true }; if v < 0 { return false } }; return false }`,
		`(m map[string]int) (k string) { for k = range m { }; return k }`,
		`(m map[string]int) { for k := range m { defer f2(k) } }; func f2(string) {}`,
		`(m map[string]int) (out []string) { slices.Sort(out); for k := range m { out = append(out, k) }; return out }`,
		`(m map[string]int) (a, b []string) { for k := range m { a = append(a, k) }; slices.Sort(b); return a, b }`,
		`(s set) (out []string) { for k := range s { out = append(out, k) }; return out }`,
		`(m map[string]int) (b box) { for k, v := range m { b.m[fmt.Sprint(k)] = v }; return b }`,
		`(m map[string]int) (out []string) { for k := range maps.Keys(m) { out = append(out, k) }; return out }`,
		`(m map[string]int) (out []string) { for k := range m { /* order does not matter: */ out = append(out, k) }; return out }`,
	}
	found := findings(t, each(caught))
	on := map[int]string{}
	for _, f := range found {
		on[f.At.Line] = f.What
	}
	for i, c := range caught {
		if on[i+7] == "" {
			t.Errorf("not caught: %s", c)
		}
	}
}

// TestLeftAlone: none of these depends on anything but its arguments.
func TestLeftAlone(t *testing.T) {
	fine := []string{
		`(a, b time.Time) time.Duration { return a.Sub(b) }`,
		`(s string) net.IP { return net.ParseIP(s).To4() }`,
		`(m map[string]int) (n int) { for _, v := range m { n += v }; return n }`,
		`(m map[string]int) (n int) { for range m { n++ }; return n }`,
		`(m, n map[string]int) { for k, v := range m { n[k] = v + 1 } }`,
		`(m map[string]int) { for k, v := range m { if v == 0 { delete(m, k) } } }`,
		`(m map[string]int) bool { for _, v := range m { if v > 1 { return true } }; return false }`,
		`(m map[string]int) error { for _, v := range m { if v > 1 { return nil } }; return nil }`,
		`(m map[string]int) (out []string) { for k := range m { out = append(out, k) }; slices.Sort(out); return out }`,
		`(m map[string]int) (out []string) { for k := range m { out = append(out, k) }; sort.Strings(out); return out }`,
		`(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }`,
		`(m map[string]int) (out []string) { for _, k := range slices.Sorted(maps.Keys(m)) { out = append(out, k) }; return out }`,
		`(m map[string]int) (most int) { for _, v := range m { most = max(most, v) }; return most }`,
		`(m map[string]bool) (any bool) { for _, v := range m { any = any || v }; return any }`,
		`(m map[string]bool) (any bool) { for _, v := range m { if v { any = true } }; return any }`,
		`(m map[string]int, s set) { for k := range m { s.Insert(k) } }`,
		`(m map[string]int) (s map[int]struct{}) { for _, v := range m { s[v] = struct{}{} }; return s }`,
		`(m map[string]*box) { for _, b := range m { b.n = 3 } }`,
		`(m map[string]*box) { for _, b := range m { x := b.n; x = x + 1; b.n = x } }`,
		`(m map[string]map[string]int) (n int) { for _, inner := range m { for range inner { n++ } }; return n }`,
		`(m map[string][]int) { for k := range m { slices.Sort(m[k]) } }`,
		`(m map[string]int) map[string]int { return maps.Collect(maps.All(m)) }`,
		`(m map[string]int) (n map[string]int) { for k, v := range m { n["x."+k] = v }; return n }`,
		`(m map[string]int) (least int) { for _, v := range m { if v < least { least = v } }; return least }`,
		`(m map[string]int) []string { for range m { return []string{"x"} }; return nil }`,
		`(m map[string]int) []string { keys := slices.Collect(maps.Keys(m)); slices.Sort(keys); return keys }`,
		`(a []string) (out []string) { for _, k := range a { out = append(out, k) }; return out }`,
		"(m map[string]int, do func(string)) { for k := range m { // order does not matter: each is done apart\n do(k) } }",
		"(m map[string]int, do func(string)) {\n// order does not matter: each is done apart\nfor k := range m { do(k) } }",
	}
	for _, f := range findings(t, each(fine)) {
		t.Error(f)
	}
}
