package main

import (
	"fmt"
	"go/types"
	"strings"
)

// ends writes what finds out whether all arguments end with the call, so that their memory can be used for the next
// call's (see wire/ends.go). Nothing if an argument refers to the message in another way than as a slice of it: in a
// struct, a list, a map or an any.
func (e *emitter) ends(f *function) {
	var probed strings.Builder
	for i, p := range f.params {
		if p.lent != nil {
			continue
		}
		switch e.g.shape(types.Unalias(p.typ)) {
		case shapeBasic, shapeEnum, shapeTime, shapeDuration, shapeText:
		case shapeBytes, shapeNumbers:
			value := fmt.Sprintf("gothreads_wire.Probed[%s](&gothreads_probe)", e.typ(p.typ.Underlying().(*types.Slice).Elem()))
			fmt.Fprintf(&probed, "a%d = %s\n", i, e.convert(types.Unalias(p.typ), value))
		default:
			return
		}
	}
	if probed.Len() > 0 {
		e.printf("if r.Shares() {\nvar gothreads_probe gothreads_wire.Probe\n"+
			"if r.Ends(&gothreads_probe, &gothreads_base) {\n%s}\n}\n", probed.String())
	}
}
