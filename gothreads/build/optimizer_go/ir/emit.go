package ir

import (
	"slices"

	"optimizer/wasm"
)

// A label is where a branch can go: to the beginning of the loop of a block, or to the block that follows the end of a
// nested one. An if has a label, too, which nothing uses.
type label struct {
	block int
	loop  bool
}

const noBlock = -1

type emitter struct {
	g      *graph
	labels []label
	out    wasm.Body
}

// Emit returns the function's code with its locals. Every loop becomes a loop, every block that several lead to follows
// a nested block, and all others are placed where they are branched to (Ramsey: Beyond Relooper, ICFP 2022). A function
// that is not reducible keeps a table of branches, and a local with the number of the next block: structured is false.
func (f *Func) Emit() (body *wasm.Body, structured bool) {
	e := &emitter{g: f.analyse(), out: wasm.Body{Locals: f.Locals}}
	if e.g.proper {
		e.tree(0)
	} else {
		selector := len(f.Locals.Types(f.Type.Params))
		e.out.Locals = append(slices.Clone(f.Locals), wasm.LocalRun{Count: 1, Type: wasm.I32})
		e.flat(selector)
	}
	e.add(wasm.Instr{Op: wasm.OpEnd})
	return &e.out, e.g.proper
}

func (e *emitter) add(code ...wasm.Instr) { e.out.Code = append(e.out.Code, code...) }

func (e *emitter) open(op wasm.Op, l label) {
	e.add(wasm.Open(op))
	e.labels = append(e.labels, l)
}

func (e *emitter) close() {
	e.add(wasm.Instr{Op: wasm.OpEnd})
	e.labels = e.labels[:len(e.labels)-1]
}

// tree emits a block and those that it dominates. What is emitted never reaches its end.
func (e *emitter) tree(b int) {
	if !e.g.loop[b] {
		e.within(b)
		return
	}
	e.open(wasm.OpLoop, label{b, true})
	e.within(b)
	e.close()
	e.add(wasm.Instr{Op: wasm.Unreachable})
}

// within emits a block, inside of a nested block for each other that follows it.
func (e *emitter) within(b int) {
	var followers []int
	for _, kid := range e.g.kids[b] {
		if e.g.merge[kid] {
			followers = append(followers, kid)
		}
	}
	for _, kid := range slices.Backward(followers) {
		e.open(wasm.OpBlock, label{kid, false})
	}
	e.block(b)
	for _, kid := range followers {
		e.close()
		e.tree(kid)
	}
}

// branch returns the label for an edge, or false when the block it leads to is placed at the edge itself.
func (e *emitter) branch(from int, to *Block) (depth int, ok bool) {
	target := e.g.number[to]
	back := target <= from
	if !back && !e.g.merge[target] {
		return 0, false
	}
	return len(e.labels) - 1 - e.find(label{target, back}), true
}

func (e *emitter) find(wanted label) int {
	for i, l := range slices.Backward(e.labels) {
		if l == wanted {
			return i
		}
	}
	panic("no label for an edge")
}

// edge emits what follows an edge: a branch, or the block.
func (e *emitter) edge(from int, to *Block) {
	if depth, ok := e.branch(from, to); ok {
		e.add(wasm.With(wasm.Br, depth))
	} else {
		e.tree(e.g.number[to])
	}
}

func (e *emitter) block(b int) {
	block := e.g.order[b]
	e.add(block.Code...)
	to := block.End.To
	switch block.End.Kind {
	case Jump:
		e.edge(b, to[0])
	case If:
		if depth, ok := e.branch(b, to[0]); ok {
			e.add(wasm.With(wasm.BrIf, depth))
			e.edge(b, to[1])
		} else if depth, ok := e.branch(b, to[1]); ok {
			e.add(wasm.Instr{Op: wasm.I32Eqz}, wasm.With(wasm.BrIf, depth))
			e.edge(b, to[0])
		} else {
			e.open(wasm.OpIf, label{block: noBlock})
			e.edge(b, to[0])
			e.close()
			e.edge(b, to[1])
		}
	case Switch:
		table := make([]uint32, len(to))
		for i, target := range to {
			depth, _ := e.branch(b, target)
			table[i] = uint32(depth)
		}
		e.add(e.out.BrTable(table))
	case Return:
		e.add(wasm.Instr{Op: wasm.Return})
	case Trap:
		e.add(wasm.Instr{Op: wasm.Unreachable})
	}
}

// flat emits all blocks one after the other, each behind the end of a nested block, inside of a loop that begins with a
// table of branches.
func (e *emitter) flat(selector int) {
	n := len(e.g.order)
	e.open(wasm.OpLoop, label{noBlock, true})
	table := make([]uint32, n)
	for i := range table {
		e.add(wasm.Open(wasm.OpBlock))
		table[i] = uint32(i)
	}
	e.add(wasm.With(wasm.LocalGet, selector), e.out.BrTable(table))
	for b, block := range e.g.order {
		e.add(wasm.Instr{Op: wasm.OpEnd})
		e.add(block.Code...)
		switch to := block.End.To; block.End.Kind {
		case Jump:
			e.flatJump(b, to[0], 0, selector)
		case If:
			e.add(wasm.Open(wasm.OpIf))
			e.flatJump(b, to[0], 1, selector)
			e.add(wasm.Instr{Op: wasm.OpEnd})
			e.flatJump(b, to[1], 0, selector)
		case Switch:
			e.flatSwitch(b, to, selector)
		case Return:
			e.add(wasm.Instr{Op: wasm.Return})
		case Trap:
			e.add(wasm.Instr{Op: wasm.Unreachable})
		}
	}
	e.close()
	e.add(wasm.Instr{Op: wasm.Unreachable})
}

// flatSwitch emits a switch within flat: behind a nested block for each target there is a jump.
func (e *emitter) flatSwitch(b int, to []*Block, selector int) {
	e.add(wasm.With(wasm.LocalSet, selector))
	table := make([]uint32, len(to))
	for i := range to {
		table[i] = uint32(i)
		e.add(wasm.Open(wasm.OpBlock))
	}
	e.add(wasm.With(wasm.LocalGet, selector), e.out.BrTable(table))
	for i, target := range to {
		e.add(wasm.Instr{Op: wasm.OpEnd})
		e.flatJump(b, target, len(to)-1-i, selector)
	}
}

// flatJump emits a jump within flat, from inside of `inner` nested blocks.
func (e *emitter) flatJump(from int, to *Block, inner, selector int) {
	target := e.g.number[to]
	if target > from {
		e.add(wasm.With(wasm.Br, target-from-1+inner))
		return
	}
	again := len(e.g.order) - 1 - from + inner
	e.add(wasm.Const(int32(target)), wasm.With(wasm.LocalSet, selector), wasm.With(wasm.Br, again))
}
