package ir

import "slices"

// mostUnrolled is how many blocks a loop has at most that is unrolled.
const mostUnrolled = 12

// Unroll puts copies of small innermost loops one after the other into each loop, so that what is done once a round, such
// as a branch back, is done once for all of them. times says how many copies of these blocks there are to be, 1 for a loop
// that stays as it is; drop is called for each block of all copies but the first.
//
// A copy leaves the loop where the loop does, so nothing needs to be known of how often it runs.
func (f *Func) Unroll(times func(loop []*Block) int, drop func(*Block)) {
	g := f.analyse()
	if !g.proper {
		return
	}
	for header, begins := range g.loop {
		if loop := g.innermost(header); begins && loop != nil {
			f.repeat(loop, times(loop), drop)
		}
	}
}

// innermost returns the blocks of the loop that begins at a block, that block first; nil if there are many, or other loops
// in it.
func (g *graph) innermost(header int) []*Block {
	inside := map[int]bool{header: true}
	blocks := []*Block{g.order[header]}
	work := slices.DeleteFunc(slices.Clone(g.before[header]), func(from int) bool { return from < header })
	for len(work) > 0 {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		if inside[b] {
			continue
		}
		if g.loop[b] || len(blocks) == mostUnrolled {
			return nil
		}
		inside[b] = true
		blocks = append(blocks, g.order[b])
		work = append(work, g.before[b]...)
	}
	return blocks
}

// repeat makes a loop of so many copies of one.
func (f *Func) repeat(loop []*Block, times int, drop func(*Block)) {
	copies := make([]map[*Block]*Block, times)
	for i := range copies {
		copies[i] = map[*Block]*Block{}
		for _, b := range loop {
			c := b
			if i > 0 {
				c = f.New()
				c.Code, c.End = slices.Clone(b.Code), End{b.End.Kind, slices.Clone(b.End.To)}
				drop(c)
			}
			copies[i][b] = c
		}
	}
	for i, copied := range copies {
		next := copies[(i+1)%times]
		for _, c := range copied {
			for j, to := range c.End.To {
				if to == loop[0] {
					c.End.To[j] = next[to]
				} else if inside, ok := copied[to]; ok {
					c.End.To[j] = inside
				}
			}
		}
	}
}
