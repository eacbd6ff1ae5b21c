package xdp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// changing are the calls that change what is pinned, attached, or in force.
var changing = map[string]bool{
	"Pin": true, "Unpin": true, "Update": true, "Detach": true, "AttachXDP": true,
	"MkdirAll": true, "Mkdir": true, "Rename": true, "Remove": true, "RemoveAll": true, "setWord": true, "TakeOut": true, "HintIn": true, "HintOut": true,
}

// stepless are the functions that make such a change without a step of their own,
// and why none is due.
var stepless = map[string]string{
	"commit":        "flags that make packets ask one table more",
	"noWorld":       "nobody is anywhere, which is asked for",
	"substitute":    "after the turn: flags of tables that are empty",
	"attachIn":      "attach has the step",
	"unstage":       "after an error: back to what was",
	"remove":        "one ban is lifted",
	"removeEmpty":   "a directory with nothing in it",
	"preparePinDir": "before anything of ours",
	"watchFlood":    "the flood guard, which is found out anew every ten seconds",
	"Remove":        "detachAll has the step; what is left is asked for again",
	"detachStray":   "of a link that no pin names",
}

// Whoever changes what is pinned or in force reaches a step, at which a process is
// killed by TestKilledAtEachStep, or says here why not.
func TestEveryChangeHasAStep(t *testing.T) {
	paths, _ := filepath.Glob("*.go")
	checked, excused := 0, make(map[string]bool)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, is := d.(*ast.FuncDecl)
			if !is || f.Body == nil {
				continue
			}
			changes, steps := calls(f.Body)
			if len(changes) == 0 {
				continue
			}
			checked++
			if excused[f.Name.Name] = true; !steps && stepless[f.Name.Name] == "" {
				t.Errorf("%s calls %v and reaches no step", f.Name.Name, changes)
			}
		}
	}
	for name := range stepless {
		if !excused[name] {
			t.Errorf("%s changes nothing: out of the list", name)
		}
	}
	if checked < 15 {
		t.Errorf("%d functions checked", checked)
	}
	source, err := os.ReadFile("steps.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), " step = "); n != len(steps) {
		t.Errorf("%d steps have a name, and %d are in steps", n, len(steps))
	}
}

// calls lists the changing calls in a body, and says whether it reaches a step.
func calls(body *ast.BlockStmt) (changes []string, steps bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, is := n.(*ast.CallExpr)
		if !is {
			return true
		}
		switch f := call.Fun.(type) {
		case *ast.Ident:
			steps = steps || f.Name == "reach"
		case *ast.SelectorExpr:
			if changing[f.Sel.Name] {
				changes = append(changes, f.Sel.Name)
			}
		}
		return true
	})
	return changes, steps
}
