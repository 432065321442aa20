package main

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"optimizer/fast"
	"optimizer/wasm"
)

// inOrder does the work of tests that are parallel themselves.
var inOrder = fast.Work{Step: func() {}, Do: func(n int, do func(int)) {
	for i := range n {
		do(i)
	}
}}

// damagedBytes returns a function's code with some bytes changed, added or removed.
func damagedBytes(r *rand.Rand, body []byte) []byte {
	body = slices.Clone(body)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(body))
		switch r.IntN(3) {
		case 0:
			body[at] = byte(r.IntN(256))
		case 1:
			body = slices.Insert(body, at, byte(r.IntN(256)))
		case 2:
			if len(body) > 1 {
				body = slices.Delete(body, at, at+1)
			}
		}
	}
	return body
}

// damagedCode returns a function's code with some instructions moved, repeated, removed, or with other numbers.
func damagedCode(r *rand.Rand, data []byte) []byte {
	body, err := wasm.DecodeBody(data)
	if err != nil {
		return data
	}
	for range 1 + r.IntN(3) {
		at, from := r.IntN(len(body.Code)), r.IntN(len(body.Code))
		switch r.IntN(4) {
		case 0:
			body.Code[at] = body.Code[from]
		case 1:
			body.Code = slices.Insert(body.Code, at, body.Code[from:min(from+1+r.IntN(6), len(body.Code))]...)
		case 2:
			if len(body.Code) > 1 {
				body.Code = slices.Delete(body.Code, at, at+1)
			}
		case 3:
			if op := body.Code[at].Op; op == wasm.I32Const || op == wasm.I64Const {
				body.Code[at].Imm = uint64(int64(int32(body.Code[at].Imm)) + int64(r.IntN(17)-8)*4)
			} else if op != wasm.BrTable && !op.Opens() {
				body.Code[at].Arg = uint32(r.IntN(8))
			}
		}
	}
	return body.Encode()
}

// only returns the program's module with these bodies, and others that trap.
func only(t *testing.T, bodies map[int][]byte) *wasm.Module {
	m, _ := program(t)
	for i := range m.Bodies {
		if body, ok := bodies[i]; ok {
			m.Bodies[i] = body
		} else {
			m.Bodies[i] = []byte{0, byte(wasm.Unreachable), byte(wasm.OpEnd)}
		}
	}
	return m
}

func valid(m *wasm.Module, i int, data []byte) bool {
	body, err := wasm.DecodeBody(data)
	return err == nil && m.Validate(m.Type(m.Imported+i), body) == nil
}

// What is damaged is refused, or has valid fast bodies when it is valid itself. Nothing makes the optimizer crash.
func TestDamagedFunctions(t *testing.T) {
	m, _ := program(t)
	var small []int // large functions take most of the time
	for i, body := range m.Bodies {
		if len(body) < 1500 && m.Types[m.Funcs[m.Imported+i]].Equal(wasm.FuncType{Params: []wasm.ValType{wasm.I32}, Results: []wasm.ValType{wasm.I32}}) {
			small = append(small, i)
		}
	}
	whole := m.FuncOf("main.deep") - m.Imported
	rounds, converted := 60, 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 2))
		damaged, stillValid := map[int][]byte{}, map[int][]byte{whole: m.Bodies[whole]}
		for range 60 {
			i := small[r.IntN(len(small))]
			damage := damagedCode
			if r.IntN(4) == 0 {
				damage = damagedBytes
			}
			body := damage(r, m.Bodies[i])
			damaged[i] = body
			if valid(m, i, body) {
				stillValid[i] = body
			}
		}
		fast.Optimize(only(t, damaged), fast.Options{}, inOrder)
		good := only(t, stillValid)
		result, err := fast.Optimize(good, fast.Options{}, inOrder)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
			continue
		}
		converted += result.Fast
		for i, body := range good.Bodies {
			if !valid(good, i, body) {
				t.Errorf("seed %d: the body of %s is not valid", seed, good.Name(good.Imported+i))
			}
		}
	}
	if converted < 3*rounds {
		t.Errorf("only %d damaged functions have fast bodies", converted)
	}
}

func TestDamagedModules(t *testing.T) {
	m, _ := program(t)
	bodies := map[int][]byte{}
	for i := range m.Bodies {
		if len(bodies) < 30 && len(m.Bodies[i]) < 300 {
			bodies[i] = m.Bodies[i]
		}
	}
	data := only(t, bodies).Encode()
	// Most of it is data and names: what matters lies before.
	end := bytes.Index(data, []byte("runtime.")) // the first name or string
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		changed := slices.Clone(data)
		for range 1 + r.IntN(4) {
			changed[r.IntN(end)] = byte(r.IntN(256))
		}
		if r.IntN(4) == 0 {
			changed = changed[:r.IntN(len(changed))]
		}
		if module, err := wasm.Parse(changed); err == nil {
			if _, err := fast.Optimize(module, fast.Options{}, inOrder); err == nil {
				module.Encode()
			}
		}
	}
}
