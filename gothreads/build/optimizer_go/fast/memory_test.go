package fast

import (
	"testing"

	"optimizer/wasm"
)

func TestWhatComparesMemoryIsValidAndFound(t *testing.T) {
	m := &wasm.Module{
		Types: []wasm.FuncType{
			{Params: []wasm.ValType{wasm.I64, wasm.I64, wasm.I64}, Results: []wasm.ValType{wasm.I64}},
			{Params: []wasm.ValType{wasm.I32, wasm.I32, wasm.I32}, Results: []wasm.ValType{wasm.I32}},
		},
		Funcs:  []int{0, 1, 1},
		Bodies: [][]byte{around(memeqBegin, nil, memeqRest), around(memcmpBegin, nil, memcmpRest), {0, 0x41, 0, 0x0b}},
	}
	var before []int
	for _, body := range m.Bodies {
		before = append(before, len(body))
	}
	compareWords(m)
	for i, body := range m.Bodies {
		decoded, err := wasm.DecodeBody(body)
		if err == nil {
			err = m.Validate(m.Type(i), decoded)
		}
		if err != nil {
			t.Errorf("function %d: %v", i, err)
		}
		if changed := len(body) > before[i]; changed != (i < 2) {
			t.Errorf("function %d has changed: %v", i, changed)
		}
	}
}
