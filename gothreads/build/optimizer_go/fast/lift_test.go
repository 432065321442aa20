package fast

import (
	"strings"
	"testing"

	"optimizer/wasm"
)

// A function of these tests is written as the body of one with an i64 local, without SP's first reading.
func get(n int) wasm.Instr  { return wasm.With(wasm.LocalGet, n) }
func set(n int) wasm.Instr  { return wasm.With(wasm.LocalSet, n) }
func tee(n int) wasm.Instr  { return wasm.With(wasm.LocalTee, n) }
func call(n int) wasm.Instr { return wasm.With(wasm.Call, n) }
func br(n int) wasm.Instr   { return wasm.With(wasm.Br, n) }
func brIf(n int) wasm.Instr { return wasm.With(wasm.BrIf, n) }

// table has labels 0 and n.
func table(n int) wasm.Instr { return wasm.Instr{Op: wasm.BrTable, Imm: uint64(n)} }

var (
	readSP  = []wasm.Instr{wasm.With(wasm.GlobalGet, globalSP), set(localSP)}
	end     = wasm.Instr{Op: wasm.OpEnd}
	leave   = wasm.Instr{Op: wasm.Return}
	drop    = wasm.Instr{Op: wasm.Drop}
	add     = wasm.Instr{Op: wasm.I32Add}
	sub     = wasm.Instr{Op: wasm.I32Sub}
	block   = wasm.Open(wasm.OpBlock)
	loop    = wasm.Open(wasm.OpLoop)
	imports = 1
)

func move(op wasm.Instr, by int32) []wasm.Instr {
	return []wasm.Instr{get(localSP), wasm.Const(by), op, tee(localSP), wasm.With(wasm.GlobalSet, globalSP)}
}

// goCall calls a function as Go's compiler does, up to what it returns.
func goCall(function int) []wasm.Instr {
	push := []wasm.Instr{get(localSP), {Op: wasm.I64Const, Imm: 1 << 16}, {Op: 0x37, Arg: 3}, wasm.Const(0), call(function)}
	return join(move(sub, 8), push, readSP)
}

func join(parts ...any) (code []wasm.Instr) {
	for _, part := range parts {
		switch part := part.(type) {
		case wasm.Instr:
			code = append(code, part)
		case []wasm.Instr:
			code = append(code, part...)
		}
	}
	return code
}

// ret returns, from a frame of this size.
func ret(frame int32) []wasm.Instr { return join(move(add, frame), move(add, 8), wasm.Const(0), leave) }

// lift lifts a function with this code, in a module in which function 0 is the host's, 1 this one, 2 and 3 others of Go's
// (3 cannot be lifted) and 4 one of another type.
func liftCode(t *testing.T, code []wasm.Instr) (*lifted, *Result, error) {
	t.Helper()
	i32 := []wasm.ValType{wasm.I32}
	other := []byte{0, 0x41, 0, 0x0b}
	body := &wasm.Body{Locals: wasm.Locals{{Count: 1, Type: wasm.I32}, {Count: 1, Type: wasm.I64}}, Code: join(readSP, code, end), Lists: wasm.Lists{{0, 0}, {0, 1}}}
	leaf := &wasm.Body{Locals: wasm.Locals{{Count: 1, Type: wasm.I32}}, Code: join(readSP, ret(0), end)}
	m := &wasm.Module{
		Types:    []wasm.FuncType{{Params: i32, Results: i32}, {}},
		Imported: imports, Funcs: []int{1, 0, 0, 0, 1}, Tables: 1, Names: map[int]string{},
		Globals: []wasm.Global{{Type: wasm.I32, Mutable: true}, {Type: wasm.I32, Mutable: true}, {Type: wasm.I64, Mutable: true}},
		Bodies:  [][]byte{body.Encode(), leaf.Encode(), other, {0, 0x23, 1, 0x24, 1, 0x0b}},
	}
	if err := m.Validate(m.Type(1), body); err != nil {
		t.Fatalf("the test's function is not valid: %v", err)
	}
	inOrder := func(n int, do func(int)) {
		for i := range n {
			do(i)
		}
	}
	o, err := newOptimizer(m, Options{}, Work{inOrder, func() {}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := o.lift(1)
	_, result := o.candidates()
	return l, result, err
}

func TestWhatGoCompilesToIsLifted(t *testing.T) {
	for name, code := range map[string][]wasm.Instr{
		"leaf":      ret(0),
		"frame":     join(move(sub, 24), ret(24)),
		"call":      join(move(sub, 24), block, goCall(2), brIf(0), ret(24), end, wasm.Const(1)),
		"table":     join(block, loop, block, block, get(localPC), table(1), end, goCall(2), brIf(2), end, ret(0), end, wasm.Instr{}, end, wasm.Const(1)),
		"backwards": join(loop, block, get(localPC), table(0), end, wasm.Const(0), set(localPC), br(0), end, wasm.Instr{}),
		"traps":     join(goCall(2), wasm.Open(wasm.OpIf), wasm.Instr{}, end, ret(0)),
		"dropped":   join(goCall(3), drop, ret(0)),
		"tail":      join(wasm.Const(0), call(2), readSP, leave),
		"enters":    join(call(4), readSP, ret(0)),
	} {
		if _, result, err := liftCode(t, code); err != nil || result.Left[1] != nil {
			t.Errorf("%s: %v, %v", name, err, result.Left[1])
		}
	}
}

func TestLoopsThatArePreemptedHaveReentries(t *testing.T) {
	check := goCall(2)
	for i := range check {
		if check[i].Op == wasm.I64Const {
			check[i].Imm = 5<<16 + 3 // PC_F and PC_B
		}
	}
	code := join(move(sub, 24), block, loop, wasm.With(wasm.GlobalGet, 1), wasm.Open(wasm.OpIf), check, brIf(2), end,
		wasm.With(wasm.GlobalGet, 1), brIf(0), end, ret(24), end, wasm.Const(1))
	l, _, err := liftCode(t, code)
	if err != nil {
		t.Fatal(err)
	}
	found := reentries(l.f, l.depth, map[int]bool{2: true})
	if len(found) != 1 || found[0].pc != 3 || found[0].pop != 32 {
		t.Fatalf("reentries: %+v, want one at 3 that pops 32 bytes", found)
	}
	if len(reentries(l.f, l.depth, map[int]bool{3: true})) != 0 {
		t.Error("another call is taken for a preemption check")
	}
}

// checked is a loop with a preemption check, whose call is `check`.
func checked(check []wasm.Instr) []wasm.Instr {
	limit := []wasm.Instr{wasm.With(wasm.GlobalGet, 2), {Op: i32WrapI64}, {Op: i64Load, Arg: 3, Imm: 16}}
	return join(move(sub, 24), block, loop, get(localSP), wasm.Instr{Op: i64ExtendI32U}, limit, wasm.Instr{Op: i64LessU},
		wasm.Open(wasm.OpIf), check, brIf(2), end, wasm.With(wasm.GlobalGet, 1), brIf(0), end, ret(24), end, wasm.Const(1))
}

func TestUnrolledLoopsHaveOnePreemptionCheck(t *testing.T) {
	for name, c := range map[string]struct {
		check  int
		blocks int // that end in the check, after unrolling
	}{"preempted": {2, 1}, "calls": {3, 1}} {
		l, _, err := liftCode(t, checked(goCall(c.check)))
		if err != nil {
			t.Fatal(err)
		}
		o := &optimizer{check: map[int]bool{2: true}}
		for _, b := range l.f.Blocks {
			leaveCold(b, o.check)
		}
		before := len(l.f.Blocks)
		o.unroll(l.f)
		found := 0
		for _, b := range l.f.Blocks {
			if b.EndsIn(i64LessU) {
				found++
			}
		}
		if copied := len(l.f.Blocks) > before; found != c.blocks || copied != (name == "preempted") {
			t.Errorf("%s: %d blocks end in a check, of %d and before %d", name, found, len(l.f.Blocks), before)
		}
	}
}

func TestWhatNeverReturnsIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		code []wasm.Instr
		want bool
	}{
		"returns":           {join(block, goCall(2), brIf(0), ret(0), end, wasm.Const(1)), true},
		"calls and traps":   {join(block, goCall(2), brIf(0), wasm.Instr{}, end, wasm.Const(1)), false},
		"returns sometimes": {join(block, wasm.With(wasm.GlobalGet, 1), wasm.Open(wasm.OpIf), ret(0), end, goCall(2), brIf(0), wasm.Instr{}, end, wasm.Const(1)), true},
		"loops for ever":    {join(loop, br(0), end, wasm.Instr{}), false},
	} {
		l, _, err := liftCode(t, c.code)
		if err != nil {
			t.Fatal(err)
		}
		o := &optimizer{cold: map[int]bool{}}
		if got := o.canReturn(l.f); got != c.want {
			t.Errorf("%s: it can return: %v", name, got)
		}
		o.cold[2] = true
		if got := o.canReturn(l.f); got != (name == "returns sometimes") {
			t.Errorf("%s, when its callee does not: it can return: %v", name, got)
		}
	}
}

func TestWhatGoDoesNotCompileToIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		code   []wasm.Instr
		reason string
	}{
		"frame not popped":    {join(move(sub, 24), ret(16)), "returns in an unknown way"},
		"SP from elsewhere":   {join(get(localPC), tee(localSP), wasm.With(wasm.GlobalSet, globalSP), ret(0)), "PC_B"},
		"SP set to a value":   {join(wasm.Const(64), tee(localSP), wasm.With(wasm.GlobalSet, globalSP), ret(0)), "sets SP"},
		"SP differs":          {join(block, wasm.With(wasm.GlobalGet, 1), brIf(0), move(sub, 8), end, ret(0)), "differs"},
		"returns 1":           {join(move(add, 8), wasm.Const(1), leave), "returns in an unknown way"},
		"only returns 1":      {join(wasm.Const(1), leave), "returns 1"},
		"host":                {join(call(0), readSP, ret(0)), "host"},
		"result kept":         {join(goCall(2), wasm.Const(1), wasm.Instr{Op: wasm.I32Or}, drop, ret(0)), "unknown way"},
		"resumes elsewhere":   {join(wasm.Const(1), call(2), readSP, drop, ret(0)), "unknown way"},
		"tail in a frame":     {join(move(sub, 8), wasm.Const(0), call(2), readSP, leave), "in place of returning"},
		"tail without fast":   {join(wasm.Const(0), call(3), readSP, leave), "no fast body"},
		"goes on after 1":     {join(goCall(2), wasm.Open(wasm.OpIf), ret(0), end, ret(0)), "goes on"},
		"PC_B read":           {join(get(localPC), drop, ret(0)), "PC_B"},
		"SP in a global read": {join(wasm.With(wasm.GlobalGet, globalSP), drop, ret(0)), "SP"},
	} {
		_, result, _ := liftCode(t, c.code)
		if err := result.Left[1]; err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
	}
}
