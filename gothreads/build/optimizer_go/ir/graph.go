package ir

import "optimizer/wasm"

// A graph is what the edges between a function's blocks say. Blocks are numbered in reverse postorder: a block comes
// before all that it leads to, but for edges back to the beginning of a loop.
type graph struct {
	order  []*Block
	number map[*Block]int
	idom   []int   // the number of the block that all ways to this one pass last
	kids   [][]int // the blocks whose idom this is, in order
	before [][]int // the blocks that lead to this one, once for each edge
	loop   []bool  // the block begins a loop: edges from blocks that it dominates lead to it
	merge  []bool  // other edges lead to it than one from a single block
	proper bool    // every edge backwards leads to a dominator: the function is reducible
}

// analyse finds the order, the dominators and the loops.
func (f *Func) analyse() *graph {
	g := &graph{number: make(map[*Block]int, len(f.Blocks)), proper: true}
	g.sort(f.Blocks[0])
	n := len(g.order)
	g.before, g.loop, g.merge, g.kids = make([][]int, n), make([]bool, n), make([]bool, n), make([][]int, n)
	for from, b := range g.order {
		for _, to := range b.End.To {
			g.before[g.number[to]] = append(g.before[g.number[to]], from)
		}
	}
	g.dominate()
	for b := 1; b < n; b++ {
		g.kids[g.idom[b]] = append(g.kids[g.idom[b]], b)
		forward := 0
		for _, from := range g.before[b] {
			switch {
			case from < b:
				forward++
				g.merge[b] = g.merge[b] || g.order[from].End.Kind == Switch
			case g.dominates(b, from):
				g.loop[b] = true
			default:
				g.proper = false
			}
		}
		g.merge[b] = g.merge[b] || forward > 1
	}
	return g
}

// sort puts the blocks into reverse postorder. Of the two ways at an if, what follows the first comes first.
func (g *graph) sort(entry *Block) {
	type visit struct {
		block *Block
		left  int // successors that have not been looked at
	}
	seen := map[*Block]bool{entry: true}
	var post []*Block
	for stack := []visit{{entry, len(entry.End.To)}}; len(stack) > 0; {
		top := &stack[len(stack)-1]
		if top.left == 0 {
			post = append(post, top.block)
			stack = stack[:len(stack)-1]
			continue
		}
		top.left--
		if to := top.block.End.To[top.left]; !seen[to] {
			seen[to] = true
			stack = append(stack, visit{to, len(to.End.To)})
		}
	}
	g.order = make([]*Block, len(post))
	for i, b := range post {
		g.order[len(post)-1-i] = b
		g.number[b] = len(post) - 1 - i
	}
}

// dominate finds the immediate dominators (Cooper, Harvey and Kennedy: A Simple, Fast Dominance Algorithm).
func (g *graph) dominate() {
	g.idom = make([]int, len(g.order))
	for b := range g.idom {
		g.idom[b] = -1
	}
	g.idom[0] = 0
	for changed := true; changed; {
		changed = false
		for b := 1; b < len(g.order); b++ {
			found := -1
			for _, from := range g.before[b] {
				if g.idom[from] < 0 {
					continue
				}
				if found < 0 {
					found = from
					continue
				}
				for found != from {
					if found > from {
						found = g.idom[found]
					} else {
						from = g.idom[from]
					}
				}
			}
			if g.idom[b] != found {
				g.idom[b], changed = found, true
			}
		}
	}
}

// dominates reports whether all ways to b pass a.
func (g *graph) dominates(a, b int) bool {
	for b > a {
		b = g.idom[b]
	}
	return a == b
}

// LoopDepth returns in how many loops each block is.
func (f *Func) LoopDepth() map[*Block]int {
	g := f.analyse()
	depth := make(map[*Block]int, len(g.order))
	for header := range g.order {
		if !g.loop[header] {
			continue
		}
		// A loop is what leads to an edge back without passing the loop's beginning.
		inside := map[int]bool{header: true}
		var work []int
		for _, from := range g.before[header] {
			if from >= header && g.dominates(header, from) {
				work = append(work, from)
			}
		}
		for len(work) > 0 {
			b := work[len(work)-1]
			work = work[:len(work)-1]
			if !inside[b] {
				inside[b] = true
				work = append(work, g.before[b]...)
			}
		}
		for b := range inside {
			depth[g.order[b]]++
		}
	}
	return depth
}

// From returns a copy of the function that begins at another block.
func (f *Func) From(begin *Block) *Func {
	copied := &Func{Index: f.Index, Name: f.Name, Type: f.Type, Locals: f.Locals}
	blocks := make(map[*Block]*Block, len(f.Blocks))
	entry := copied.New()
	for _, b := range f.Blocks {
		blocks[b] = copied.New()
	}
	for b, c := range blocks {
		c.Code = append([]wasm.Instr(nil), b.Code...)
		c.End = End{Kind: b.End.Kind, To: make([]*Block, len(b.End.To))}
		for i, to := range b.End.To {
			c.End.To[i] = blocks[to]
		}
	}
	entry.Goto(blocks[begin])
	copied.prune()
	return copied
}
