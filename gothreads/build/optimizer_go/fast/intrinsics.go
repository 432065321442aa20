package fast

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"optimizer/ir"
	"optimizer/wasm"
)

// An intrinsic is code that a function of Go's standard library gets at its beginning: natively such a function is
// written in assembly, and for WebAssembly it goes byte by byte. The function is known by its symbol and its type.
//
// The code returns when it has done the work. Otherwise Go's own code follows, and does all of it. It is in fast bodies
// only: it neither calls nor needs a stack, and no goroutine is ever resumed in it. Nor is one preempted there, as
// natively in assembly.
type intrinsic struct {
	args   string // words of two: a local, and the offset of the argument in the frame; $c is a byte, $pn, $m lengths…
	result int    // the offset of the result
	text   string
	blocks string // the text with vectors; "" if it is the same
}

// The offsets are those of Go's ABI0: arguments follow the return address.
var intrinsics = map[string]intrinsic{
	"bytes.Count":                      {args: "p 8 n 16 q 32 m 40", result: 56, text: countOne},
	"strings.Count":                    {args: "p 8 n 16 q 24 m 32", result: 40, text: countOne},
	"internal_bytealg.Count":           {args: "p 8 n 16 c 32", result: 40, text: count},
	"internal_bytealg.CountString":     {args: "p 8 n 16 c 24", result: 32, text: count},
	"internal_bytealg.IndexByte":       {args: "p 8 n 16 c 32", result: 40, text: indexByte},
	"internal_bytealg.IndexByteString": {args: "p 8 n 16 c 24", result: 32, text: indexByte},
	"bytes.Index":                      {args: "p 8 n 16 q 32 m 40", result: 56, text: index},
	"internal_stringslite.Index":       {args: "p 8 n 16 q 24 m 32", result: 40, text: index},
	"internal_bytealg.Compare":         {args: "p 8 pn 16 q 32 qn 40", result: 56, text: compare},
	"runtime.cmpstring":                {args: "p 8 pn 16 q 24 qn 32", result: 40, text: compare},
	"runtime.memequal_varlen":          {args: "p 8 q 16", result: 24, text: closureSize + memequal},
	"runtime.memequal":                 {args: "p 8 q 16 n 24", result: 32, text: memequal},
	"runtime.memmove":                  {args: "p 8 q 16 size 24", text: memmove, blocks: memmoveBlocks},
	"runtime.memclrNoHeapPointers":     {args: "p 8 size 16", text: memclr, blocks: memclrBlocks},
}

// The words of texts that depend on the features. EQUAL compares each byte of two blocks, ANY and BITS say in which it
// was equal: BITS has 1 << SHIFT bits for each byte.
var (
	withVectors = words(16, 0, map[string]string{
		"VECTOR": "v128", "LOAD": "v128.load", "SPLAT": "i8x16.splat", "EQUAL": "i8x16.eq", "AND": "v128.and", "OR": "v128.or",
		"XOR": "v128.xor", "ANY": "v128.any_true", "BITS": "i8x16.bitmask i64.extend_i32_u",
	})
	// Without: of the bytes that are equal, EQUAL has the highest bits, and nothing else.
	withoutVectors = words(8, 3, map[string]string{
		"VECTOR": "i64", "LOAD": "i64.load", "SPLAT": "i64.extend_i32_u i64.const 0x0101010101010101 i64.mul",
		"EQUAL": `i64.xor local.tee $x i64.const 0x7f7f7f7f7f7f7f7f i64.and i64.const 0x7f7f7f7f7f7f7f7f i64.add
			local.get $x i64.or i64.const 0x7f7f7f7f7f7f7f7f i64.or i64.const -1 i64.xor`,
		"AND": "i64.and", "OR": "i64.or", "XOR": "i64.xor", "ANY": "i64.const 0 i64.ne", "BITS": "",
	})
	word = regexp.MustCompile(`[A-Z][A-Z0-9]+`)
)

// words adds those that depend on how many bytes a block has.
func words(width, shift int, by map[string]string) map[string]string {
	for name, value := range map[string]int{"WIDTH": width, "LAST": width - 1, "SHIFT": shift, "BLOCKS2": 2 * width,
		"BLOCKS3": 3 * width, "BLOCKS4": 4 * width, "BLOCKS5": 5 * width, "PAGE": 65536 + 1 - width} {
		by[name] = strconv.Itoa(value)
	}
	return by
}

// arguments are how the locals with arguments are read, and their types.
var arguments = map[string][2]string{
	"p": {"i32.load", "i32"}, "q": {"i32.load", "i32"}, "c": {"i32.load8_u", "i32"}, "size": {"i32.load", "i32"},
	"n": {"i64.load", "i64"}, "m": {"i64.load", "i64"}, "pn": {"i64.load", "i64"}, "qn": {"i64.load", "i64"},
}

// source returns the intrinsic's text.
func (i intrinsic) source(baseline bool) string {
	by, text := withoutVectors, i.text
	if !baseline {
		by = withVectors
		if i.blocks != "" {
			text = i.blocks
		}
	}
	var begin strings.Builder
	args := strings.Fields(i.args)
	for ; len(args) > 0; args = args[2:] {
		how := arguments[args[0]]
		fmt.Fprintf(&begin, "local $%s %s local.get $sp %s offset=%s local.set $%s\n", args[0], how[1], how[0], args[1], args[0])
	}
	return begin.String() + word.ReplaceAllStringFunc(text, func(name string) string {
		if name == "RESULT" {
			return strconv.Itoa(i.result)
		}
		return by[name]
	})
}

// addIntrinsic puts an intrinsic before a function's fast body.
func (o *optimizer) addIntrinsic(f *ir.Func) error {
	i, ok := intrinsics[f.Name]
	if !ok {
		return nil
	}
	text := wasm.Text{Locals: map[string]int{"$sp": fastSP}, New: f.NewLocal}
	code, err := text.Code(i.source(o.options.Baseline))
	if err != nil {
		return fmt.Errorf("the intrinsic for %s: %w", f.Name, err)
	}
	first := f.Blocks[0]
	first.Code = append(code, first.Code...)
	return nil
}
