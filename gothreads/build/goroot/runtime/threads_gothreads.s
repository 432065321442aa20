//go:build wasip1

#include "go_asm.h"
#include "textflag.h"

// func setg(gg *g)
TEXT runtime·setg(SB), NOSPLIT, $0-8
	MOVD gg+0(FP), g
	RET

// func rebase()
// wasm_pc_f_loop calls it before each function that it runs with an empty WebAssembly stack. It must not block, nor use
// the Go stack, where the address of that function lies.
TEXT runtime·rebase(SB), NOSPLIT, $0
	Get g
	I64Eqz
	If // no g yet: the very first instructions of the program
		I32Const $0
		Return
	End

	// m.stackBase = SP - m.largeFrame
	MOVD g_m(g), R0
	Get SP
	I64ExtendI32U
	MOVD (m_mOS+mOS_largeFrame)(R0), R1
	Get R1
	I64Sub
	Set R1
	MOVD R1, (m_mOS+mOS_stackBase)(R0)
	MOVD $0, (m_mOS+mOS_largeFrame)(R0)

	// R1 = windowGuard(g)
	Get R1
	I64Const $const_stackWindow
	I64Sub
	Set R1
	MOVD (g_stack+stack_lo)(g), R2
	Get R2
	I64Const $const_stackGuard
	I64Add
	Set R2
	Get R1
	Get R2
	I64LtS
	If
		MOVD R2, R1
	End

	// A stop request stays. One that comes between the load and the store is lost, as may happen in stock Go, too: the
	// thread that makes the request repeats it.
	MOVD g_stackguard0(g), R2
	Get R2
	I64Const $const_stackPoisonMin
	I64LtU
	If
		MOVD R1, g_stackguard0(g)
	End
	I32Const $0
	Return
