package fast

import (
	"testing"

	"optimizer/ir"
	"optimizer/wasm"
)

func TestIntrinsicsAreValidCode(t *testing.T) {
	module := &wasm.Module{
		Types: []wasm.FuncType{{Params: []wasm.ValType{wasm.I32}, Results: []wasm.ValType{wasm.I32}}}, Funcs: []int{0},
		Globals: []wasm.Global{{Type: wasm.I32, Mutable: true}, {Type: wasm.I64, Mutable: true}},
	}
	for name := range intrinsics {
		for _, baseline := range []bool{false, true} {
			f := &ir.Func{Name: name, Type: module.Types[0], Locals: wasm.Locals{{Count: 1, Type: wasm.I32}}}
			f.New().Code = []wasm.Instr{wasm.Const(0)}
			f.Blocks[0].End.Kind = ir.Return
			o := &optimizer{m: module, options: Options{Baseline: baseline}}
			if err := o.addIntrinsic(f); err != nil {
				t.Error(err)
				continue
			}
			body, _ := f.Emit()
			if err := module.Validate(f.Type, body); err != nil {
				t.Errorf("%s, baseline %v: %v", name, baseline, err)
			}
			vectors := false
			for _, in := range body.Code {
				vectors = vectors || in.Op.IsVector()
			}
			if vectors && baseline {
				t.Errorf("%s uses vectors", name)
			}
		}
	}
}

func TestOtherFunctionsHaveNoIntrinsic(t *testing.T) {
	f := &ir.Func{Name: "strings.Count2"}
	f.New()
	if err := new(optimizer).addIntrinsic(f); err != nil || len(f.Blocks[0].Code) > 0 {
		t.Error("it has code", err)
	}
}
