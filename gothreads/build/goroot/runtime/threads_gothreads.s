//go:build wasip1

#include "go_asm.h"
#include "textflag.h"

// func setg(gg *g)
TEXT runtime·setg(SB), NOSPLIT, $0-8
	MOVD gg+0(FP), g
	RET
