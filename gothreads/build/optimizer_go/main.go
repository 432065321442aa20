// Optimizer reads a WebAssembly module that Go's linker made, and writes one that does the same.
//
//	optimizer -o OUT.wasm IN.wasm
//	optimizer -dump FUNC IN.wasm
//
// What is there: modules and functions are read (wasm), functions become basic blocks and nested blocks again (ir).
// So each function's code is written anew, with loops where there were loops. What is not there yet: anything that makes
// the code faster.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"optimizer/ir"
	"optimizer/wasm"
)

func main() {
	out := flag.String("o", "", "the `file` to write")
	dump := flag.String("dump", "", "print the `function` with this name, as basic blocks, instead")
	verbose := flag.Bool("v", false, "print each function that stays as it is, with the reason")
	flag.Parse()
	if flag.NArg() != 1 || (*out == "") == (*dump == "") {
		fmt.Fprintln(os.Stderr, "usage: optimizer -o OUT.wasm IN.wasm, or: optimizer -dump FUNC IN.wasm")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *out, *dump, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "optimizer:", err)
		os.Exit(1)
	}
}

func run(in, out, dump string, verbose bool) error {
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	m, err := wasm.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	if dump != "" {
		return print(m, dump)
	}
	for i, err := range rewrite(m) {
		if err != nil && verbose {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.Name(m.Imported+i), err)
		}
	}
	return os.WriteFile(out, m.Encode(), 0o666)
}

func print(m *wasm.Module, name string) error {
	function := m.FuncOf(name)
	if function < m.Imported {
		return fmt.Errorf("no function is named %s", name)
	}
	f, err := build(m, function)
	if err != nil {
		return err
	}
	f.Print(os.Stdout)
	return nil
}

func build(m *wasm.Module, function int) (*ir.Func, error) {
	body, err := wasm.DecodeBody(m.Bodies[function-m.Imported])
	if err != nil {
		return nil, err
	}
	f, err := ir.Build(m, function, body)
	if err != nil {
		return nil, err
	}
	f.Simplify()
	return f, nil
}

// rewrite writes each function anew. It returns why a function stays as it is, or nil.
func rewrite(m *wasm.Module) []error {
	errs := make([]error, len(m.Bodies))
	bodies := make([][]byte, len(m.Bodies))
	copy(bodies, m.Bodies)
	parallel(len(m.Bodies), func(i int) {
		f, err := build(m, m.Imported+i)
		if err == nil {
			body, _ := f.Emit()
			if err = m.Validate(f.Type, body); err == nil {
				bodies[i] = body.Encode()
			}
		}
		errs[i] = err
	})
	m.Bodies = bodies
	return errs
}

// parallel calls do(0) to do(n-1), on all processors.
func parallel(n int, do func(int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		}()
	}
	workers.Wait()
}
