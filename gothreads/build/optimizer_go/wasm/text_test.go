package wasm

import (
	"slices"
	"strings"
	"testing"
)

func text() Text {
	return Text{Locals: map[string]int{"$sp": 0}, New: func(ValType) int { return 7 }}
}

func TestTextBecomesCode(t *testing.T) {
	code, err := text().Code(`
		local $a i64 ;; a comment
		block $out
			local.get $sp i64.load offset=8 local.tee $a
			i64.const 0xffffffffffffffff i64.eq br_if $out
			loop $again
				br $out
			end
		end`)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, in := range code {
		words = append(words, in.String())
	}
	want := []string{"block", "local.get 0", "i64.load offset=8", "local.tee 7", "i64.const -1", "i64.eq", "br_if 0", "loop", "br 1", "end", "end"}
	if !slices.Equal(words, want) {
		t.Errorf("%q", words)
	}
}

func TestTextsThatAreWrong(t *testing.T) {
	for wrong, why := range map[string]string{
		"i64.plus":           "there is no instruction i64.plus",
		"local.get $b":       "there is no local $b",
		"br $out":            "there is no block $out around it",
		"i64.const x":        "i64.const",
		"block $out end end": "an end without a block",
		"call":               "call is not known in texts",
	} {
		if _, err := text().Code(wrong); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
