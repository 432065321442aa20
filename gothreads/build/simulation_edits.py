"""The edits to stock Go's runtime for `simulate=`: scheduling by a seed. The code is in `goroot/simulation`."""

from __future__ import annotations

from gothreads.build.edit import Edit

_STOP = "\tsimulateStop()\n"
_WHY = "a goroutine may be stopped here"


def _stops(file: str, declaration: str) -> Edit:
    """A goroutine may be stopped where this function begins."""
    return Edit(file, declaration, declaration + _STOP, _WHY)


#: The functions behind sync/atomic, and how many functions of it jump to each. Not those with which the runtime writes
#: pointers: between the write barrier and the write, nothing may run.
_ATOMICS = {"Load": 2, "Load64": 2, "Loadp": 1, "Loaduintptr": 1, "Store": 2, "Store64": 2, "Xadd": 2, "Xadd64": 2,
            "Xadduintptr": 1, "Xchg": 2, "Xchg64": 2, "Cas": 2, "Cas64": 2, "And32": 2, "And64": 2, "Anduintptr": 1,
            "Or32": 2, "Or64": 2, "Oruintptr": 1}

SIMULATION_EDITS: tuple[Edit, ...] = (
    Edit("runtime/proc.go", "func runqget(pp *p) (gp *g, inheritTime bool) {\n",
         "func runqget(pp *p) (gp *g, inheritTime bool) {\n\treturn simulatePick(pp), false\n",
         "which goroutine is next is drawn"),
    _stops("runtime/chan.go", "func chansend(c *hchan, ep unsafe.Pointer, block bool, callerpc uintptr) bool {\n"),
    _stops("runtime/chan.go",
           "func chanrecv(c *hchan, ep unsafe.Pointer, block bool) (selected, received bool) {\n"),
    _stops("runtime/chan.go", "func closechan(c *hchan) {\n"),
    _stops("runtime/select.go", "func selectgo(cas0 *scase, order0 *uint16, pc0 *uintptr, nsends, nrecvs int, "
                                "block bool) (int, bool) {\n"),
    *(Edit("sync/atomic/asm.s", f"\tJMP\tinternal∕runtime∕atomic·{name}(SB)\n",
           f"\tCALL\truntime·simulateStop(SB)\n\tJMP\tinternal∕runtime∕atomic·{name}(SB)\n", _WHY, count)
      for name, count in _ATOMICS.items()),
    _stops("runtime/atomic_pointer.go",
           "func sync_atomic_StorePointer(ptr *unsafe.Pointer, new unsafe.Pointer) {\n"),
    _stops("runtime/atomic_pointer.go",
           "func sync_atomic_SwapPointer(ptr *unsafe.Pointer, new unsafe.Pointer) unsafe.Pointer {\n"),
    _stops("runtime/atomic_pointer.go",
           "func sync_atomic_CompareAndSwapPointer(ptr *unsafe.Pointer, old, new unsafe.Pointer) bool {\n"),
)
