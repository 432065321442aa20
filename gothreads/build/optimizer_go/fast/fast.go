// Package fast gives each function that Go's compiler made a second body, which is fast because it only ever begins at
// its beginning: it has loops instead of a table of branches, and the stack pointer in a local.
//
// Go's compiler makes a function of type (PC_B) -> flag: it may resume after each call, at PC_B, and returns 1 to unwind,
// so that goroutines can be switched. SP is a global. That stays, for functions to be resumed in. A fast body has the
// type (SP) -> flag:
//
//	0   it returned: SP is 8 higher than it was, as its return address is popped. The global SP may have any value.
//	1   it unwound: the global SP is set.
//
// Why a fast body may unwind at any call: Go's stack is complete there, as the garbage collector and tracebacks need it.
// Below SP lies the return address of the call, which names the function and the point to resume at. When a function
// returns 1 after its callee has returned, wasm_pc_f_loop resumes it there, in its old body. This happens
//
//   - after calls that rarely return to where they were made (leaveCold), so that nothing has to be kept across them;
//   - when a callee without a fast body returns and SP is not where it should be, since the stack has moved: fast
//     bodies further up know its old address. (Those with a fast body return 1 then.)
//
// A function that calls another in place of returning (a tail call) has a fast body only if that one has: a callee that
// returned normally must not seem to have unwound when it has popped its caller's return address, since
// wasm_pc_f_loop_export ends with a normal return.
//
// What is there: fast bodies, their table, cold exits, a way back into fast code for loops that were preempted (reentry),
// several copies of small loops in one (unroll), other code for what the standard library does with memory (intrinsics),
// loads and stores for small values (moves).
// What is not: old bodies without what is never resumed; a stop check in place of the engine's epochs.
package fast

import (
	"errors"
	"fmt"
	"slices"

	"optimizer/ir"
	"optimizer/wasm"
)

// A Result says what became of a module's functions.
type Result struct {
	Functions int           // that Go's compiler made
	Fast      int           // of them, with a fast body
	Flat      int           // of those, that are not reducible, and so keep a table
	Reentries int           // bodies for loops that were preempted
	Left      map[int]error // why a function of Go's has no fast body
	Bodies    map[int]int   // function -> its fast body, or, if a pointer may lead to it, its adapter
}

type optimizer struct {
	m       *wasm.Module
	goType  int
	lifter  lifter
	cold    map[int]bool // functions that do not return to where they were called
	check   map[int]bool // the function of preemption checks
	options Options
	work    Work
}

// Options say how to optimize.
type Options struct {
	Baseline bool // use no instructions for vectors, which an engine may lack
}

// Work says how to go through many functions. Do calls do(0) to do(n-1), perhaps in parallel. Step is called as often as
// Steps says: after each part of the work.
type Work struct {
	Do   func(n int, do func(int))
	Step func()
}

// Steps returns how often Step is called for a module, about.
func Steps(m *wasm.Module) int { return 2 * len(m.Bodies) }

// A lifted function is one that may get a fast body.
type lifted struct {
	f         *ir.Func
	tails     []int
	depth     map[*ir.Block]int // of SP
	reentries []*reentry
}

// Lift returns a function as basic blocks that begin at its beginning, with calls in terms of Go's convention.
func Lift(m *wasm.Module, function int) (*ir.Func, error) {
	o, err := newOptimizer(m, Options{}, Work{})
	if err != nil {
		return nil, err
	}
	l, err := o.lift(function)
	return l.f, err
}

func newOptimizer(m *wasm.Module, options Options, work Work) (*optimizer, error) {
	goFn := wasm.FuncType{Params: []wasm.ValType{wasm.I32}, Results: []wasm.ValType{wasm.I32}}
	goType := slices.IndexFunc(m.Types, goFn.Equal)
	if goType < 0 || len(m.Globals) == 0 || m.Globals[globalSP] != (wasm.Global{Type: wasm.I32, Mutable: true}) {
		return nil, errors.New("not a module that Go's linker made")
	}
	o := &optimizer{m: m, goType: goType, options: options, work: work, cold: named(m, coldNames...), check: named(m, checkName)}
	o.lifter = lifter{m: m, goFn: goFn, pure: pureFunctions(m, goFn)}
	return o, nil
}

// Optimize adds fast bodies to a module. After an error it must not be used.
func Optimize(m *wasm.Module, options Options, work Work) (*Result, error) {
	o, err := newOptimizer(m, options, work)
	if err != nil {
		return nil, err
	}
	if m.Tables != 1 {
		return nil, fmt.Errorf("the module has %d tables", m.Tables)
	}
	candidates, result := o.candidates()
	if len(candidates) == 0 {
		return nil, errors.New("no function in it is as Go's compiler makes them")
	}
	return result, o.add(candidates, result)
}

// candidates lifts all functions that can have a fast body, in order.
func (o *optimizer) candidates() ([]*lifted, *Result) {
	m := o.m
	all := make([]*lifted, len(m.Bodies))
	errs := make([]error, len(m.Bodies))
	o.work.Do(len(m.Bodies), func(i int) {
		o.work.Step()
		if m.Type(m.Imported + i).Equal(o.lifter.goFn) {
			all[i], errs[i] = o.lift(m.Imported + i)
		}
	})
	result := &Result{Left: map[int]error{}}
	for i, l := range all {
		if l != nil {
			result.Functions++
		}
		if errs[i] != nil {
			result.Left[m.Imported+i] = errs[i]
			all[i] = nil
		}
	}
	for changed := true; changed; {
		changed = false
		for i, l := range all {
			if l == nil {
				continue
			}
			for _, tail := range l.tails {
				if all[tail-m.Imported] == nil {
					result.Left[m.Imported+i] = fmt.Errorf("calls %s in place of returning, which has no fast body", m.Name(tail))
					all[i], changed = nil, true
					break
				}
			}
		}
	}
	o.noReturn(all)
	o.work.Do(len(all), func(i int) {
		if l := all[i]; l != nil {
			for _, b := range l.f.Blocks {
				leaveCold(b, o.cold)
			}
			l.f.Simplify()
			l.reentries = reentries(l.f, l.depth, o.check)
		}
	})
	return slices.DeleteFunc(all, func(l *lifted) bool { return l == nil }), result
}

// lift returns a function and never nil.
func (o *optimizer) lift(function int) (*lifted, error) {
	l := &lifted{}
	body, err := wasm.DecodeBody(o.m.Bodies[function-o.m.Imported])
	if err != nil {
		return l, err
	}
	if l.f, err = ir.Build(o.m, function, body); err != nil {
		return l, err
	}
	l.f.Simplify()
	if err := direct(l.f); err != nil {
		return l, err
	}
	own := o.lifter // with its own tails
	for _, b := range l.f.Blocks {
		if err := own.calls(b); err != nil {
			return l, err
		}
	}
	if err := own.discipline(l.f); err != nil {
		return l, err
	}
	l.tails, l.depth = own.tails, own.depth
	return l, nil
}

// add adds the fast bodies of candidates to the module, and a table of them, and makes old bodies lead to them.
func (o *optimizer) add(candidates []*lifted, result *Result) error {
	m, before := o.m, len(o.m.Bodies)
	low := &lowerer{bodies: map[int]int{}, goType: o.goType, table: 1}
	for i, c := range candidates {
		low.bodies[c.f.Index] = len(m.Funcs) + i
	}
	loops := 0
	for _, c := range candidates {
		for _, r := range c.reentries {
			r.body = len(m.Funcs) + len(candidates) + loops
			loops++
		}
	}
	bodies, flat, err := o.emit(candidates, len(candidates)+loops, low)
	if err != nil {
		return err
	}
	for _, c := range candidates {
		old := &m.Bodies[c.f.Index-m.Imported]
		if *old, err = wasm.InsertCode(*old, entrance(low.bodies[c.f.Index], c.reentries)); err != nil {
			return err
		}
	}
	// All bodies of a function have its name: that is what a trap's frames show.
	for i, c := range candidates {
		m.Add(m.Name(c.f.Index), o.goType, bodies[i])
	}
	for _, c := range candidates {
		for range c.reentries {
			m.Add(m.Name(c.f.Index), o.goType, bodies[len(m.Bodies)-before])
		}
	}
	result.Fast, result.Flat, result.Reentries, result.Bodies = len(candidates), flat, loops, low.bodies
	return o.addTable(low)
}

// emit returns the code of the functions that are to be added, n in all, by their order in the module; and how many of
// the fast bodies are not reducible.
//
// A body that is not valid is an error: the old one was not, or it is a fault of the optimizer's.
func (o *optimizer) emit(candidates []*lifted, n int, low *lowerer) (bodies [][]byte, flat int, err error) {
	m := o.m
	after := *m // for the check of what is emitted
	after.Tables++
	after.Funcs = slices.Concat(m.Funcs, slices.Repeat([]int{o.goType}, n))
	bodies = make([][]byte, n)
	flats, errs := make([]bool, len(candidates)), make([]error, len(candidates))
	one := func(f *ir.Func, body int, whole bool) (structured bool, err error) {
		for _, b := range f.Blocks {
			leaveCold(b, o.check)
			checkDropped(b)
		}
		o.unroll(f)
		moves := &mover{f: f, baseline: o.options.Baseline, locals: map[wasm.ValType][2]int{}}
		for _, b := range f.Blocks {
			low.block(b)
			moves.block(b)
		}
		if whole {
			if err := o.addIntrinsic(f); err != nil {
				return false, err
			}
		}
		f.Simplify()
		code, structured := f.Emit()
		if err := after.Validate(f.Type, code); err != nil {
			return false, fmt.Errorf("the fast body of %s is not valid: %w", f.Name, err)
		}
		bodies[body-len(m.Funcs)] = code.Encode()
		return structured, nil
	}
	o.work.Do(len(candidates), func(i int) {
		o.work.Step()
		c := candidates[i]
		for _, r := range c.reentries { // first: the function's own blocks are used up
			_, err := one(c.f.From(r.begin), r.body, false)
			errs[i] = errors.Join(errs[i], err)
		}
		structured, err := one(c.f, low.bodies[c.f.Index], true)
		errs[i], flats[i] = errors.Join(errs[i], err), !structured
		c.f.Blocks, c.depth = nil, nil // the blocks of a large module take gigabytes
		for _, r := range c.reentries {
			r.begin = nil
		}
	})
	for _, isFlat := range flats {
		if isFlat {
			flat++
		}
	}
	return bodies, flat, errors.Join(errs...)
}

// addTable adds the table that fast bodies call pointers by: like the other, but with fast bodies, and adapters where
// there is none.
func (o *optimizer) addTable(low *lowerer) error {
	m := o.m
	segments := make([]wasm.Segment, len(m.Segments))
	for i, segment := range m.Segments {
		segments[i] = wasm.Segment{Offset: segment.Offset, Functions: slices.Clone(segment.Functions)}
		for j, function := range segment.Functions {
			body, ok := low.bodies[function]
			if !ok && o.lifter.isGo(function) {
				body, ok = m.Add(m.Name(function), o.goType, adapter(function).Encode()), true
				low.bodies[function] = body
			}
			if ok {
				segments[i].Functions[j] = body
			}
		}
	}
	_, err := m.AddTable(segments)
	return err
}

// pureFunctions returns the functions, of other types than Go's, that neither use globals nor call others that do.
func pureFunctions(m *wasm.Module, goFn wasm.FuncType) map[int]bool {
	pure, seen := map[int]bool{}, map[int]bool{}
	var look func(function int) bool
	look = func(function int) bool {
		if function < m.Imported || function >= len(m.Funcs) || m.Type(function).Equal(goFn) {
			return false
		}
		if seen[function] {
			return pure[function]
		}
		seen[function] = true
		body, err := wasm.DecodeBody(m.Bodies[function-m.Imported])
		if err != nil {
			return false
		}
		for _, in := range body.Code {
			switch {
			case in.Op == wasm.GlobalGet || in.Op == wasm.GlobalSet || in.Op == wasm.CallIndirect:
				return false
			case in.Op == wasm.Call && !look(int(in.Arg)):
				return false
			}
		}
		pure[function] = true
		return true
	}
	for i := range m.Bodies {
		look(m.Imported + i)
	}
	return pure
}
