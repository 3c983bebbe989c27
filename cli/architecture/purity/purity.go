package purity

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// Finding is a place that depends on more than its arguments.
type Finding struct {
	At   token.Position
	What string
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s", f.At, f.What) }

// Package is what Check reads of a package, as go/packages and go/types give it.
type Package struct {
	Fset  *token.FileSet
	Files []*ast.File
	Info  *types.Info
}

// Check returns the findings in order of their position.
func Check(p Package) []Finding {
	var out []Finding
	for _, file := range p.Files {
		c := &checker{Package: p, comments: commentsOf(p.Fset, file)}
		c.file(file)
		out = append(out, c.found...)
	}
	slices.SortFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.At.Filename, b.At.Filename), cmp.Compare(a.At.Offset, b.At.Offset))
	})
	return out
}

// checker looks at one file.
type checker struct {
	Package
	comments map[int]string // by the line on which they end
	found    []Finding
	// functions are the bodies around the present node, innermost last.
	functions []*ast.BlockStmt
	// parents are the nodes around the present one.
	parents []ast.Node
}

func (c *checker) report(at token.Pos, format string, args ...any) {
	c.found = append(c.found, Finding{c.Fset.Position(at), fmt.Sprintf(format, args...)})
}

func (c *checker) file(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil {
			last := c.parents[len(c.parents)-1]
			c.parents = c.parents[:len(c.parents)-1]
			if body := bodyOf(last); body != nil {
				c.functions = c.functions[:len(c.functions)-1]
			}
			return true
		}
		c.node(n)
		c.parents = append(c.parents, n)
		if body := bodyOf(n); body != nil {
			c.functions = append(c.functions, body)
		}
		return true
	})
}

func bodyOf(n ast.Node) *ast.BlockStmt {
	switch f := n.(type) {
	case *ast.FuncDecl:
		return f.Body
	case *ast.FuncLit:
		return f.Body
	}
	return nil
}

func (c *checker) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.GoStmt:
		c.report(n.Pos(), "starts a goroutine: what it does first is the scheduler's choice")
	case *ast.SelectStmt:
		c.report(n.Pos(), "select picks any case that is ready")
	case *ast.Ident:
		if f, ok := c.Info.Uses[n].(*types.Func); ok {
			if why := reachesOutside(f); why != "" {
				c.report(n.Pos(), "%s %s", f.FullName(), why)
			}
		}
	case *ast.CallExpr:
		c.iterator(n)
	case *ast.RangeStmt:
		if c.isMap(n.X) || c.isMapIterator(n.X) {
			c.loop(n)
		}
	}
}

// commentsOf collects the comments of a file by their last line.
func commentsOf(fset *token.FileSet, file *ast.File) map[int]string {
	out := map[int]string{}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			out[fset.Position(comment.End()).Line] = comment.Text
		}
	}
	return out
}
