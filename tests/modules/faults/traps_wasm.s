#include "textflag.h"

// What Go's compiler never writes: WebAssembly's own traps.

// func unreachable()
TEXT ·unreachable(SB), NOSPLIT, $0-0
	UNDEF
	RET

// func outOfBounds()
TEXT ·outOfBounds(SB), NOSPLIT, $0-0
	I32Const $-16
	I32Load $0
	Drop
	RET

// func divide()
TEXT ·divide(SB), NOSPLIT, $0-0
	I32Const $1
	I32Const $0
	I32DivS
	Drop
	RET
