package ir

// Simplify makes edges pass over blocks that only jump, joins each block with the one that follows it when nothing else
// leads there, and removes what is then not reached.
func (f *Func) Simplify() {
	for _, b := range f.Blocks {
		for i, to := range b.End.To {
			b.End.To[i] = f.passed(to)
		}
	}
	f.prune()
	entering := map[*Block]int{f.Blocks[0]: 1}
	for _, b := range f.Blocks {
		for _, to := range b.End.To {
			entering[to]++
		}
	}
	joined := map[*Block]bool{}
	for _, b := range f.Blocks {
		if joined[b] || b == f.Blocks[0] { // the entry stays, so that nothing branches to it
			continue
		}
		for b.End.Kind == Jump && b.End.To[0] != b && entering[b.End.To[0]] == 1 {
			next := b.End.To[0]
			b.Code = append(b.Code, next.Code...)
			b.End = next.End
			joined[next] = true
			next.Code, next.End = nil, End{Kind: Trap}
		}
	}
	f.prune()
}

// passed returns the first block from b on that does more than jump.
func (f *Func) passed(b *Block) *Block {
	for n := 0; len(b.Code) == 0 && b.End.Kind == Jump && n <= len(f.Blocks); n++ {
		b = b.End.To[0]
	}
	return b
}
