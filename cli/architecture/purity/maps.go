package purity

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// excuse is what a comment on a loop says that may run in any order; the reason follows.
const excuse = "// order does not matter: "

func (c *checker) isMap(e ast.Expr) bool {
	t := c.Info.TypeOf(e)
	if t == nil {
		return false
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

// isMapIterator says whether an expression is maps.Keys, maps.Values or maps.All of a map.
func (c *checker) isMapIterator(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && c.callee(call, "maps", "Keys", "Values", "All")
}

// callee says whether a call is of one of a package's functions; no names: of any.
func (c *checker) callee(call *ast.CallExpr, path string, names ...string) bool {
	fun := ast.Unparen(call.Fun)
	if x, ok := fun.(*ast.IndexExpr); ok {
		fun = x.X
	}
	sel, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	f, ok := c.Info.Uses[sel.Sel].(*types.Func)
	return ok && f.Pkg() != nil && f.Pkg().Path() == path && (len(names) == 0 || slices.Contains(names, f.Name()))
}

// iterator looks at a call that gives a map's content in any order: it must be ranged over, sorted, or put
// into another map.
func (c *checker) iterator(call *ast.CallExpr) {
	if !c.isMapIterator(call) {
		return
	}
	switch parent := c.parents[len(c.parents)-1].(type) {
	case *ast.RangeStmt: // looked at as a loop
		return
	case *ast.CallExpr:
		if c.callee(parent, "slices", "Sorted", "SortedFunc", "SortedStableFunc") || c.callee(parent, "maps", "Collect", "Insert") {
			return
		}
		if c.callee(parent, "slices", "Collect") && len(c.parents) > 1 {
			if a, ok := c.parents[len(c.parents)-2].(*ast.AssignStmt); ok && len(a.Lhs) == 1 && c.sortedAfter(a.Lhs[0], a.End()) {
				return
			}
		}
	}
	if !c.excused(call.Pos()) {
		c.report(call.Pos(), "the order of a map reaches what reads this iterator: sort it (slices.Sorted)")
	}
}

func (c *checker) excused(at token.Pos) bool {
	line := c.Fset.Position(at).Line
	for _, text := range []string{c.comments[line], c.comments[line-1]} {
		if reason, ok := strings.CutPrefix(text, excuse); ok && strings.TrimSpace(reason) != "" {
			return true
		}
	}
	return false
}

// loop looks at a loop over a map.
func (c *checker) loop(r *ast.RangeStmt) {
	if c.excused(r.Pos()) {
		return
	}
	l := &mapLoop{checker: c, loop: r}
	if r.Tok == token.ASSIGN { // the last one stays
		l.object(r.Pos(), "its variables outlive it")
	}
	for _, s := range r.Body.List {
		l.statement(s)
	}
	if l.why != "" {
		c.report(l.at, "the order of a map may reach the result: %s (collect and sort the keys, or say why not: %s...)", l.why, excuse)
	}
}

// mapLoop is a loop over a map whose body is looked at for what an order could change.
type mapLoop struct {
	*checker
	loop    *ast.RangeStmt
	returns string // what its return statements return
	at      token.Pos
	why     string
}

func (l *mapLoop) object(at token.Pos, why string) {
	if l.why == "" {
		l.at, l.why = at, why
	}
}

func (l *mapLoop) statements(list []ast.Stmt) {
	for _, s := range list {
		l.statement(s)
	}
}

func (l *mapLoop) statement(s ast.Stmt) {
	switch s := s.(type) {
	case nil, *ast.EmptyStmt, *ast.DeclStmt:
	case *ast.BlockStmt:
		l.statements(s.List)
	case *ast.IfStmt:
		l.statement(s.Init)
		if !l.improves(s) {
			l.statements(s.Body.List)
		}
		l.statement(s.Else)
	case *ast.SwitchStmt:
		l.statement(s.Init)
		l.statements(s.Body.List)
	case *ast.TypeSwitchStmt:
		l.statements(s.Body.List)
	case *ast.CaseClause:
		l.statements(s.Body)
	case *ast.ForStmt:
		l.statements(s.Body.List)
	case *ast.RangeStmt:
		l.statements(s.Body.List)
	case *ast.LabeledStmt:
		l.statement(s.Stmt)
	case *ast.BranchStmt:
		if s.Tok != token.CONTINUE {
			l.object(s.Pos(), s.Tok.String()+" ends it early")
		}
	case *ast.IncDecStmt:
		if !l.inside(s.X) && !l.integer(s.X) {
			l.object(s.Pos(), "it counts what is no integer")
		}
	case *ast.AssignStmt:
		l.assign(s)
	case *ast.ReturnStmt:
		l.result(s)
	case *ast.ExprStmt:
		l.call(s.X)
	default:
		l.object(s.Pos(), "it does what cannot be followed")
	}
}

// result: the same constants whichever element comes first.
func (l *mapLoop) result(s *ast.ReturnStmt) {
	text := "return"
	for _, e := range s.Results {
		if !l.fixed(e) {
			l.object(s.Pos(), "it returns what the first one to come makes it")
			return
		}
		text += " " + types.ExprString(e)
	}
	if l.returns != "" && l.returns != text {
		l.object(s.Pos(), "it returns one thing or another")
	}
	l.returns = text
}

// fixed says whether an expression is made of constants alone.
func (l *mapLoop) fixed(e ast.Expr) bool {
	if tv := l.Info.Types[e]; tv.Value != nil || tv.IsNil() {
		return true
	}
	c, ok := ast.Unparen(e).(*ast.CompositeLit)
	return ok && !slices.ContainsFunc(c.Elts, func(e ast.Expr) bool {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			e = kv.Value
		}
		return !l.fixed(e)
	})
}

// improves says whether a branch is if ... x < best { best = x }, or the like.
func (l *mapLoop) improves(s *ast.IfStmt) bool {
	if len(s.Body.List) != 1 {
		return false
	}
	a, ok := s.Body.List[0].(*ast.AssignStmt)
	if !ok || a.Tok != token.ASSIGN || len(a.Lhs) != 1 || len(a.Rhs) != 1 {
		return false
	}
	best, x := types.ExprString(a.Lhs[0]), types.ExprString(a.Rhs[0])
	found := false
	ast.Inspect(s.Cond, func(n ast.Node) bool {
		if b, ok := n.(*ast.BinaryExpr); ok && (b.Op == token.LSS || b.Op == token.GTR) {
			left, right := types.ExprString(b.X), types.ExprString(b.Y)
			found = found || left == x && right == best || left == best && right == x
		}
		return true
	})
	return found
}

// call: deleting, and putting into a set.
func (l *mapLoop) call(e ast.Expr) {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		l.object(e.Pos(), "it does what cannot be followed")
		return
	}
	switch fun := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		if b, ok := l.Info.Uses[fun].(*types.Builtin); ok && (b.Name() == "delete" || b.Name() == "clear") {
			return
		}
	case *ast.SelectorExpr:
		if (fun.Sel.Name == "Insert" || fun.Sel.Name == "Delete") && l.isMap(fun.X) {
			return
		}
		if l.callee(call, "slices", "Sort", "SortFunc", "SortStableFunc") && (l.inside(call.Args[0]) || l.byKey(call.Args[0])) {
			return
		}
	}
	l.object(e.Pos(), "it calls what may have an effect")
}

func (l *mapLoop) assign(s *ast.AssignStmt) {
	if s.Tok == token.DEFINE {
		return
	}
	for i, left := range s.Lhs {
		var right ast.Expr
		if len(s.Rhs) == len(s.Lhs) {
			right = s.Rhs[i]
		}
		l.store(s, left, right)
	}
}

func (l *mapLoop) store(s *ast.AssignStmt, left, right ast.Expr) {
	switch {
	case l.blank(left), l.inside(left):
	case s.Tok != token.ASSIGN: // +=, |= and the like
		if !l.commutes(s.Tok, left) && !l.byKey(left) {
			l.object(s.Pos(), "it puts together what does not commute")
		}
	case l.byKey(left), right != nil && l.Info.Types[right].Value != nil, right != nil && l.isMapElement(left) && emptyStruct(l.Info.TypeOf(right)):
	case right != nil && l.extreme(left, right), right != nil && l.sortedLater(left, right):
	default:
		l.object(s.Pos(), "it stores what the last one to come makes it")
	}
}
