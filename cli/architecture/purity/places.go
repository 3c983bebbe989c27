package purity

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

func (l *mapLoop) blank(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "_"
}

// inside says whether a variable belongs to one turn of the loop.
func (l *mapLoop) inside(e ast.Expr) bool {
	o := l.root(e)
	if o == nil {
		return false
	}
	if key, ok := l.loop.Key.(*ast.Ident); ok && o == l.Info.Defs[key] {
		return true
	}
	return o.Pos() > l.loop.Body.Pos() && o.Pos() < l.loop.Body.End()
}

// root is the variable that an expression is part of.
func (c *checker) root(e ast.Expr) types.Object {
	for {
		switch x := ast.Unparen(e).(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.Ident:
			return c.Info.ObjectOf(x)
		default:
			return nil
		}
	}
}

func (l *mapLoop) integer(e ast.Expr) bool {
	b, ok := l.Info.TypeOf(e).Underlying().(*types.Basic)
	return ok && b.Info()&types.IsInteger != 0
}

// commutes says whether elements may be added up in any order.
func (l *mapLoop) commutes(tok token.Token, left ast.Expr) bool {
	switch tok {
	case token.ADD_ASSIGN, token.SUB_ASSIGN, token.MUL_ASSIGN, token.OR_ASSIGN, token.AND_ASSIGN, token.XOR_ASSIGN:
		return l.integer(left)
	}
	return false
}

func (l *mapLoop) isMapElement(e ast.Expr) bool {
	x, ok := ast.Unparen(e).(*ast.IndexExpr)
	return ok && l.isMap(x.X)
}

// byKey says whether a place is the one of the loop's own key, or the loop's value: each turn has its own.
func (l *mapLoop) byKey(e ast.Expr) bool {
	for {
		switch x := ast.Unparen(e).(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			if l.isMap(x.X) && l.ownKey(x.Index) {
				return true
			}
			e = x.X
		case *ast.Ident:
			return l.isVariable(x, l.loop.Value)
		default:
			return false
		}
	}
}

// ownKey says whether an expression is the loop's key, converted, or with something constant before or after it.
func (l *mapLoop) ownKey(e ast.Expr) bool {
	switch x := ast.Unparen(e).(type) {
	case *ast.Ident:
		return l.isVariable(x, l.loop.Key)
	case *ast.BinaryExpr:
		return x.Op == token.ADD && (l.fixed(x.X) && l.ownKey(x.Y) || l.fixed(x.Y) && l.ownKey(x.X))
	case *ast.CallExpr:
		return len(x.Args) == 1 && l.Info.Types[x.Fun].IsType() && l.ownKey(x.Args[0])
	}
	return false
}

func (l *mapLoop) isVariable(id *ast.Ident, of ast.Expr) bool {
	v, ok := of.(*ast.Ident)
	return ok && l.Info.Uses[id] != nil && l.Info.Uses[id] == l.Info.Defs[v]
}

func emptyStruct(t types.Type) bool {
	s, ok := t.Underlying().(*types.Struct)
	return ok && s.NumFields() == 0
}

// extreme says whether an assignment is x = max(x, ...), x = min(x, ...), x = x || ... or x = x && ....
func (l *mapLoop) extreme(left, right ast.Expr) bool {
	o := l.root(left)
	is := func(e ast.Expr) bool {
		return o != nil && types.ExprString(e) == types.ExprString(left) && l.root(e) == o
	}
	switch x := ast.Unparen(right).(type) {
	case *ast.BinaryExpr:
		return (x.Op == token.LOR || x.Op == token.LAND) && (is(x.X) || is(x.Y))
	case *ast.CallExpr:
		fun, ok := x.Fun.(*ast.Ident)
		if !ok {
			return false
		}
		b, ok := l.Info.Uses[fun].(*types.Builtin)
		return ok && (b.Name() == "max" || b.Name() == "min") && slices.ContainsFunc(x.Args, is)
	}
	return false
}

// sortedLater says whether an assignment collects into a slice that is sorted right after the loop.
func (l *mapLoop) sortedLater(left, right ast.Expr) bool {
	call, ok := ast.Unparen(right).(*ast.CallExpr)
	if !ok {
		return false
	}
	fun, ok := call.Fun.(*ast.Ident)
	if !ok {
		return false
	}
	if b, ok := l.Info.Uses[fun].(*types.Builtin); !ok || b.Name() != "append" {
		return false
	}
	return l.sortedAfter(left, l.loop.End())
}

// sortedAfter says whether a slice is sorted somewhere after a place in the same function.
func (c *checker) sortedAfter(slice ast.Expr, after token.Pos) bool {
	if len(c.functions) == 0 {
		return false
	}
	sorted := false
	ast.Inspect(c.functions[len(c.functions)-1], func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if ok && call.Pos() > after && len(call.Args) > 0 && types.ExprString(call.Args[0]) == types.ExprString(slice) && c.root(call.Args[0]) == c.root(slice) {
			sorted = sorted || c.callee(call, "slices", "Sort", "SortFunc", "SortStableFunc") || c.callee(call, "sort")
		}
		return true
	})
	return sorted
}
