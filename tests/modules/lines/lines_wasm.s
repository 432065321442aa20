#include "textflag.h"

// func divide()
TEXT ·divide(SB), NOSPLIT, $0-0
	I32Const $1
	I32Const $0
	I32DivS
	Drop
	RET
