package ir

import (
	"errors"
	"fmt"

	"optimizer/wasm"
)

// errStack is for branches that values on the stack would have to survive. Go's compiler makes none.
var errStack = errors.New("values on the stack where blocks meet")

// A nest is a block of WebAssembly that is open.
type nest struct {
	target *Block // where a branch to its label goes
	after  *Block // what follows its end
	other  *Block // of an if: where its else begins, until that is seen
	dead   bool   // never reached
}

type builder struct {
	m       *wasm.Module
	f       *Func
	locals  []wasm.ValType
	body    *wasm.Body
	code    []wasm.Instr // the body's
	at      int
	last    int // where the current block's code ends in the function's, if it is a part of that
	nests   []nest
	current *Block // nil where nothing arrives
	height  int    // values on the stack
	arrives map[*Block]bool
}

// Build returns a function as basic blocks.
func Build(m *wasm.Module, index int, body *wasm.Body) (*Func, error) {
	f := &Func{Index: index, Name: m.Name(index), Type: m.Type(index), Locals: body.Locals}
	b := &builder{m: m, f: f, locals: body.Locals.Types(f.Type.Params), body: body, code: body.Code, arrives: map[*Block]bool{}}
	entry := f.New()
	b.current = f.New() // so that a loop at the beginning does not branch to the entry
	entry.Goto(b.current)
	b.nests = []nest{{}}
	for b.at < len(b.code) {
		in := b.code[b.at]
		b.at++
		if err := b.instr(in); err != nil {
			return nil, fmt.Errorf("instruction %d: %s: %w", b.at-1, in, err)
		}
	}
	f.prune()
	return f, nil
}

func (b *builder) instr(in wasm.Instr) error {
	if b.current == nil {
		b.skip(in)
		return nil
	}
	switch in.Op {
	case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
		return b.open(in)
	case wasm.OpElse:
		return b.otherwise()
	case wasm.OpEnd:
		return b.end()
	case wasm.Br:
		target, err := b.label(in.Arg)
		if err != nil {
			return err
		}
		b.leave(End{Jump, []*Block{target}})
	case wasm.BrIf:
		b.height--
		target, err := b.label(in.Arg)
		if err != nil {
			return err
		}
		next := b.f.New()
		b.leave(End{If, []*Block{target, next}})
		b.current = next
	case wasm.BrTable:
		b.height--
		labels := b.body.Labels(in)
		targets := make([]*Block, len(labels))
		for i, n := range labels {
			var err error
			if targets[i], err = b.label(n); err != nil {
				return err
			}
		}
		b.leave(End{Switch, targets})
	case wasm.Return:
		b.leave(End{Kind: Return})
	case wasm.Unreachable:
		b.leave(End{Kind: Trap})
	default:
		return b.add(in)
	}
	return nil
}

// skip passes over an instruction that is never reached, but for the blocks that begin and end there.
func (b *builder) skip(in wasm.Instr) {
	top := len(b.nests) - 1
	switch {
	case in.Op.Opens():
		b.nests = append(b.nests, nest{dead: true})
	case in.Op == wasm.OpElse && !b.nests[top].dead:
		b.current, b.nests[top].other = b.nests[top].other, nil
		b.height = 0
	case in.Op == wasm.OpEnd:
		ended := b.nests[top]
		b.nests = b.nests[:top]
		b.follow(ended)
	}
}

// follow goes on after the end of a nest.
func (b *builder) follow(ended nest) {
	if ended.dead || ended.after == nil {
		return
	}
	if ended.other != nil { // an if without else
		b.arrives[ended.after] = true
		ended.other.Goto(ended.after)
	}
	if b.arrives[ended.after] {
		b.current, b.height = ended.after, 0
	}
}

// leave ends the current block.
func (b *builder) leave(end End) {
	for _, to := range end.To {
		b.arrives[to] = true
	}
	b.current.End = end
	b.current = nil
}

// add adds an instruction to the current block.
func (b *builder) add(in wasm.Instr) error {
	switch in.Op {
	case wasm.Drop:
		b.height--
	case wasm.Select:
		b.height -= 2
	default:
		pops, pushes, err := b.m.Effect(in, b.locals)
		if err != nil {
			return err
		}
		b.height += len(pushes) - len(pops)
	}
	b.keepCode(b.at-1, b.at)
	return nil
}

// keepCode adds instructions to the current block. Mostly they follow those that it has, so that the two share memory.
func (b *builder) keepCode(begin, end int) {
	switch n := len(b.current.Code); {
	case n == 0:
		b.current.Code = b.code[begin:end:end]
	case b.last == begin:
		b.current.Code = b.code[begin-n : end : end]
	default:
		b.current.Code = append(b.current.Code, b.code[begin:end]...)
		end = -1
	}
	b.last = end
}

func (b *builder) label(n uint32) (*Block, error) {
	if b.height != 0 {
		return nil, errStack
	}
	if int(n) >= len(b.nests)-1 {
		return nil, errors.New("a branch that returns")
	}
	return b.nests[len(b.nests)-1-int(n)].target, nil
}

func (b *builder) open(in wasm.Instr) error {
	if in.Op == wasm.OpIf {
		b.height--
	}
	if b.height != 0 || !in.HasNoType() {
		return b.keep(in)
	}
	opened := nest{after: b.f.New()}
	opened.target = opened.after
	switch in.Op {
	case wasm.OpLoop:
		opened.target = b.f.New()
		b.leave(End{Jump, []*Block{opened.target}})
		b.current = opened.target
	case wasm.OpIf:
		then := b.f.New()
		opened.other = b.f.New()
		b.leave(End{If, []*Block{then, opened.other}})
		b.current = then
	}
	b.nests = append(b.nests, opened)
	return nil
}

func (b *builder) otherwise() error {
	top := &b.nests[len(b.nests)-1]
	if b.height != 0 || top.other == nil {
		return errStack
	}
	b.leave(End{Jump, []*Block{top.after}})
	b.current, top.other = top.other, nil
	return nil
}

func (b *builder) end() error {
	top := b.nests[len(b.nests)-1]
	b.nests = b.nests[:len(b.nests)-1]
	if len(b.nests) == 0 {
		b.leave(End{Kind: Return})
		return nil
	}
	if b.height != 0 {
		return errStack
	}
	b.leave(End{Jump, []*Block{top.after}})
	b.follow(top)
	return nil
}

// keep adds a whole block to the current one as it is. Nothing may leave it but through its end, nor call.
func (b *builder) keep(in wasm.Instr) error {
	depth := uint32(0)
	b.height += len(in.Results())
	for begin := b.at - 1; ; b.at++ {
		switch in := b.code[b.at-1]; {
		case in.Op.Opens():
			depth++
		case in.Op == wasm.OpEnd:
			depth--
		case in.Op == wasm.Br || in.Op == wasm.BrIf:
			if in.Arg >= depth {
				return errStack
			}
		case in.Op == wasm.BrTable || in.Op == wasm.Return || in.Op == wasm.Call || in.Op == wasm.CallIndirect:
			return errStack
		}
		if depth == 0 {
			b.keepCode(begin, b.at)
			return nil
		}
	}
}

// prune removes the blocks that nothing reaches. The others stay in their order.
func (f *Func) prune() {
	reached := map[*Block]bool{f.Blocks[0]: true}
	for work := []*Block{f.Blocks[0]}; len(work) > 0; {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		for _, to := range b.End.To {
			if !reached[to] {
				reached[to] = true
				work = append(work, to)
			}
		}
	}
	kept := f.Blocks[:0]
	for _, b := range f.Blocks {
		if reached[b] {
			kept = append(kept, b)
		}
	}
	f.Blocks = kept
}
