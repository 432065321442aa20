// Optimizer reads a WebAssembly module that Go's linker made, and writes one that does the same, faster.
//
//	optimizer [-v] [-progress] [-baseline] [-passes fast|rewrite] -o OUT.wasm IN.wasm
//	optimizer [-passes fast|rewrite] -dump FUNC IN.wasm
//
// Packages: wasm reads and writes modules and their functions, ir turns functions into basic blocks and back, fast gives
// functions fast bodies, and says what is there yet. The passes "rewrite" only write each function anew, with loops where
// there were loops: that tests the other two packages.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"optimizer/fast"
	"optimizer/ir"
	"optimizer/wasm"
)

func main() {
	out := flag.String("o", "", "the `file` to write")
	dump := flag.String("dump", "", "print the `function` with this name, as basic blocks, instead")
	passes := flag.String("passes", "fast", "what to do: `fast or rewrite`")
	verbose := flag.Bool("v", false, "print how many functions were optimized, and each that was not, with the reason")
	progress := flag.Bool("progress", false, "print lines of two numbers: how much is done, and of how much")
	baseline := flag.Bool("baseline", false, "use no instructions for vectors, which an engine may lack")
	flag.Parse()
	if flag.NArg() != 1 || (*out == "") == (*dump == "") || *passes != "fast" && *passes != "rewrite" {
		fmt.Fprintln(os.Stderr, "usage: optimizer -o OUT.wasm IN.wasm, or: optimizer -dump FUNC IN.wasm")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *out, *dump, *passes, fast.Options{Baseline: *baseline}, *verbose, *progress); err != nil {
		fmt.Fprintln(os.Stderr, "optimizer:", err)
		os.Exit(1)
	}
}

func run(in, out, dump, passes string, options fast.Options, verbose, progress bool) error {
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	m, err := wasm.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	if dump != "" {
		return print(m, dump, passes)
	}
	left := map[int]error{}
	if passes == "fast" {
		step := func() {}
		if progress {
			step = steps(fast.Steps(m))
		}
		result, err := fast.Optimize(m, options, fast.Work{Do: parallel, Step: step})
		if err != nil {
			return fmt.Errorf("%s: %w", in, err)
		}
		if left = result.Left; verbose {
			fmt.Fprintf(os.Stderr, "%d of %d functions have fast bodies, and %d bodies for loops that were preempted; %d of all have a table\n",
				result.Fast, result.Functions, result.Reentries, result.Flat)
		}
	} else {
		left = rewrite(m)
	}
	if verbose {
		for _, function := range slices.Sorted(maps.Keys(left)) {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.Name(function), left[function])
		}
	}
	return os.WriteFile(out, m.Encode(), 0o666)
}

func print(m *wasm.Module, name, passes string) error {
	function := m.FuncOf(name)
	if function < m.Imported {
		return fmt.Errorf("no function is named %s", name)
	}
	get := build
	if passes == "fast" {
		get = fast.Lift
	}
	f, err := get(m, function)
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

// rewrite writes each function anew. It returns why a function stays as it is.
func rewrite(m *wasm.Module) map[int]error {
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
	left := map[int]error{}
	for i, err := range errs {
		if err != nil {
			left[m.Imported+i] = err
		}
	}
	return left
}

// steps returns a function that prints a line after each hundredth of its calls.
func steps(total int) func() {
	var done atomic.Int64
	return func() {
		if n := int(done.Add(1)); n%max(total/100, 1) == 0 && n < total {
			fmt.Println(n, total)
		}
	}
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
