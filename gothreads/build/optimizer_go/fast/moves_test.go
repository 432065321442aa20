package fast

import (
	"testing"

	"optimizer/ir"
	"optimizer/wasm"
)

// moved returns code that copies or clears some bytes, and what a mover makes of it.
func moved(t *testing.T, code []wasm.Instr, baseline bool) []wasm.Instr {
	t.Helper()
	module := &wasm.Module{Types: []wasm.FuncType{{}}, Funcs: []int{0}}
	f := &ir.Func{Type: module.Types[0]}
	b := f.New()
	b.Code, b.End = code, ir.End{Kind: ir.Return}
	(&mover{f: f, baseline: baseline, locals: map[wasm.ValType][2]int{}}).block(b)
	body, _ := f.Emit()
	if err := module.Validate(f.Type, body); err != nil {
		t.Error(err)
	}
	return b.Code
}

func TestAFewBytesAreMovedByLoadsAndStores(t *testing.T) {
	for _, baseline := range []bool{false, true} {
		for size := range 200 {
			number := wasm.Const(int32(size))
			copied := moved(t, []wasm.Instr{wasm.Const(8), wasm.Const(9), number, {Op: wasm.MemoryCopy}}, baseline)
			cleared := moved(t, []wasm.Instr{wasm.Const(8), wasm.Const(0), number, {Op: wasm.MemoryFill}}, baseline)
			for what, code := range map[string][]wasm.Instr{"copy": copied, "fill": cleared} {
				stored, calls := map[uint64]bool{}, 0
				for _, in := range code {
					width := map[wasm.Op]uint64{i64Store: 8, wasm.V128Store: 16}[in.Op]
					for i := range width {
						stored[in.Imm+i] = true
					}
					if in.Op == wasm.MemoryCopy || in.Op == wasm.MemoryFill {
						calls++
					}
					if baseline && in.Op.IsVector() {
						t.Errorf("%s of %d uses vectors", what, size)
					}
				}
				few := size >= 8 && size <= mostMoved && !(baseline && what == "copy" && size > mostCopiedByWords)
				if few && (calls != 0 || len(stored) != size) || !few && (calls != 1 || len(stored) != 0) {
					t.Errorf("%s of %d: %d calls, %d bytes", what, size, calls, len(stored))
				}
				for at := range stored {
					if at >= uint64(size) {
						t.Errorf("%s of %d stores at %d", what, size, at)
					}
				}
			}
		}
	}
}

func TestWhatIsFilledWithSomethingElseStays(t *testing.T) {
	code := moved(t, []wasm.Instr{wasm.Const(8), wasm.Const(1), wasm.Const(16), {Op: wasm.MemoryFill}}, false)
	if len(code) != 4 {
		t.Errorf("it became %v", code)
	}
}
