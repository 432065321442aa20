package wasm

import (
	"fmt"
	"strconv"
	"strings"
)

// A Text is code in WebAssembly's text format, without parentheses: words, and comments from ;; to the end of a line.
// Locals and blocks have names, which begin with $. "local $a i32" declares one more local.
type Text struct {
	Locals map[string]int            // those that there are
	New    func(ValType) (local int) // declares one
}

// byName has the instructions by their names, but for select, of which there are two.
var byName = func() map[string]Op {
	found := map[string]Op{}
	for op, info := range ops {
		if op != SelectTyped {
			found[info.name] = op
		}
	}
	return found
}()

// Code returns the instructions of a text.
func (t Text) Code(text string) (code []Instr, err error) {
	var words, blocks []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, ";;")
		words = append(words, strings.Fields(line)...)
	}
	next := func() (word string) {
		if len(words) > 0 {
			word, words = words[0], words[1:]
		}
		return word
	}
	for len(words) > 0 && err == nil {
		word := next()
		if word == "local" {
			name, kind := next(), next()
			t.Locals[name] = t.New(valTypes[kind])
			continue
		}
		op, ok := byName[word]
		if !ok {
			return nil, fmt.Errorf("there is no instruction %s", word)
		}
		in := Instr{Op: op}
		switch op.info().immediate {
		case none, twoIndices: // the indices of memories
		case blockType:
			blocks, in = append(blocks, next()), Open(op)
		case index:
			in.Arg, err = t.index(op, blocks, next)
		case signed:
			in.Imm, err = number(op, next())
		case memory:
			if len(words) > 0 && strings.HasPrefix(words[0], "offset=") {
				in.Imm, err = strconv.ParseUint(strings.TrimPrefix(next(), "offset="), 10, 32)
			}
		default:
			err = fmt.Errorf("%s is not known in texts", op)
		}
		if op == OpEnd {
			if len(blocks) == 0 {
				return nil, fmt.Errorf("an end without a block")
			}
			blocks = blocks[:len(blocks)-1]
		}
		code = append(code, in)
	}
	return code, err
}

var valTypes = map[string]ValType{"i32": I32, "i64": I64, "v128": V128}

func (t Text) index(op Op, blocks []string, next func() string) (uint32, error) {
	switch op {
	case MemoryFill:
		return 0, nil
	case LocalGet, LocalSet, LocalTee:
		name := next()
		local, ok := t.Locals[name]
		if !ok {
			return 0, fmt.Errorf("there is no local %s", name)
		}
		return uint32(local), nil
	case Call:
		return 0, fmt.Errorf("%s is not known in texts", op)
	case GlobalGet:
		n, err := number(op, next())
		return uint32(n), err
	}
	name := next()
	for depth := range blocks {
		if blocks[len(blocks)-1-depth] == name {
			return uint32(depth), nil
		}
	}
	return 0, fmt.Errorf("%s: there is no block %s around it", op, name)
}

func number(op Op, word string) (uint64, error) {
	if value, err := strconv.ParseInt(word, 0, 64); err == nil {
		return uint64(value), nil
	}
	value, err := strconv.ParseUint(word, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	return value, nil
}
