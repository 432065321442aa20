package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"optimizer/fast"
	"optimizer/ir"
	"optimizer/wasm"
)

// linked returns what Go's linker makes of testdata/program.
var linked = sync.OnceValues(func() ([]byte, error) {
	folder, err := os.MkdirTemp("", "optimizer")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "program.wasm")
	command := exec.Command("go", "build", "-o", file, "./testdata/program")
	command.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if output, err := command.CombinedOutput(); err != nil {
		os.Stderr.Write(output)
		return nil, err
	}
	return os.ReadFile(file)
})

func program(t *testing.T) (*wasm.Module, []byte) {
	t.Helper()
	data, err := linked()
	if err != nil {
		t.Fatal(err)
	}
	m, err := wasm.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return m, data
}

func TestUnchangedModuleIsWrittenAsItWas(t *testing.T) {
	m, data := program(t)
	written := m.Encode() // shorter: Go's linker writes sizes longer than necessary
	if len(written) > len(data) || len(written) < len(data)-100 {
		t.Errorf("%d bytes became %d", len(data), len(written))
	}
	again, err := wasm.Parse(written)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Bodies, m.Bodies) || !reflect.DeepEqual(again.Names, m.Names) || !reflect.DeepEqual(again.Segments, m.Segments) {
		t.Error("functions, names or elements differ")
	}
	if !bytes.Equal(again.Encode(), written) {
		t.Error("the module is written in another way")
	}
}

func TestEveryFunctionIsWrittenAsItWasAndValid(t *testing.T) {
	m, _ := program(t)
	for i, data := range m.Bodies {
		body, err := wasm.DecodeBody(data)
		if err != nil {
			t.Errorf("%s: %v", m.Name(m.Imported+i), err)
			continue
		}
		if !bytes.Equal(body.Encode(), data) {
			t.Errorf("%s is written in another way", m.Name(m.Imported+i))
		}
		if err := m.Validate(m.Type(m.Imported+i), body); err != nil {
			t.Errorf("%s: %v", m.Name(m.Imported+i), err)
		}
	}
}

func TestEveryFunctionBecomesBlocksAndValidCodeAgain(t *testing.T) {
	m, _ := program(t)
	for i, data := range m.Bodies {
		name := m.Name(m.Imported + i)
		f, err := build(m, m.Imported+i)
		if err != nil {
			// Written by hand, in assembly: a value stays on the stack while a block runs.
			if name != "memcmp" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		body, _ := f.Emit()
		if err := m.Validate(f.Type, body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(body.Encode()) > 3*len(data)+64 {
			t.Errorf("%s: %d bytes became %d", name, len(data), len(body.Encode()))
		}
	}
}

func TestFunctionsOfGoHaveValidFastBodies(t *testing.T) {
	m, _ := program(t)
	before := len(m.Funcs)
	result, err := fast.Optimize(m, fast.Options{}, fast.Work{Do: parallel, Step: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	if result.Fast < result.Functions*95/100 {
		t.Errorf("%d of %d functions have fast bodies: %v", result.Fast, result.Functions, result.Left)
	}
	if result.Flat > result.Fast/200+3 {
		t.Errorf("%d of %d fast bodies have a table", result.Flat, result.Fast)
	}
	again, err := wasm.Parse(m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range again.Bodies {
		body, err := wasm.DecodeBody(data)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Validate(again.Type(m.Imported+i), body); err != nil {
			t.Errorf("%s: %v", again.Name(m.Imported+i), err)
		}
	}
	for _, name := range []string{"main.main", "main.deep", "main.recovered", "main.kind", "runtime.mallocgc", "runtime.memmove"} {
		if function := m.FuncOf(name); result.Bodies[function] < before || result.Left[function] != nil {
			t.Errorf("%s has no fast body", name)
		} else if again.Name(result.Bodies[function]) != name {
			t.Errorf("the fast body of %s has the name %s", name, again.Name(result.Bodies[function]))
		}
	}
	for _, name := range []string{"runtime.gogo", "runtime.mcall", "runtime.systemstack", "runtime.morestack", "runtime.pause"} {
		if function := m.FuncOf(name); result.Left[function] == nil {
			t.Errorf("%s, which changes SP, has a fast body", name)
		} else if result.Bodies[function] < before {
			t.Errorf("%s has no adapter", name)
		}
	}
}

func TestDumpShowsBlocksAndEdges(t *testing.T) {
	m, _ := program(t)
	f, err := build(m, m.FuncOf("main.kind"))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	f.Print(&text)
	for _, part := range []string{"main.kind\n", "b0:\n", "\tif b", "\treturn\n", "\ti32.const"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("no %q in:\n%s", part, &text)
		}
	}
}

func FuzzFunction(f *testing.F) {
	f.Add([]byte{1, 1, 0x7f, 0x23, 0, 0x21, 1, 0x41, 0, 0x0b})
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &wasm.Module{Types: []wasm.FuncType{{Params: []wasm.ValType{wasm.I32}, Results: []wasm.ValType{wasm.I32}}},
			Funcs: []int{0}, Bodies: [][]byte{data}, Globals: []wasm.Global{{Type: wasm.I32, Mutable: true}}}
		body, err := wasm.DecodeBody(data)
		if err != nil || m.Validate(m.Type(0), body) != nil {
			return
		}
		built, err := ir.Build(m, 0, body)
		if err != nil {
			return
		}
		built.Simplify()
		again, _ := built.Emit()
		if err := m.Validate(m.Type(0), again); err != nil {
			t.Errorf("%x became invalid: %v", data, err)
		}
	})
}
