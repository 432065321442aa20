"""A race sharpener: makes a module's threads meet at bad moments far more often than they would by chance.

A race shows when a thread is delayed between two steps that belong together, and another thread interferes. On a quiet
machine that takes days. So each atomic operation, each park and each wake-up is put between two calls of a function
that mostly does nothing, sometimes spins for some hundred nanoseconds, and rarely sleeps for up to a tenth of a
millisecond, while the thread keeps whatever it holds: its P, a Go lock, a place in a list. This widens the races in
everything that Go's runtime, `sync`, channels and the program itself build on atomics, without changing any of them.

The delays come from a generator in each instance, initialised from the seed and the instance's number. The same seed
draws the same delays; the machine still decides which threads meet, so a seed makes a failure likely to recur, not
certain.
"""

from __future__ import annotations

from dataclasses import replace

from gothreads.errors import MisuseError, ModuleError
from gothreads.wasm import atomic_operations, code, layout
from gothreads.wasm.binary import FuncType, Kind, Module, TypeIndices
from gothreads.wasm.metadata import THREADED
from gothreads.wasm.parsing import function_names, with_names

#: One call in SPINS spins, for up to MOST_TURNS turns; one in SLEEPS sleeps, for up to MOST_NS nanoseconds. All are
#: powers of two.
SPINS, MOST_TURNS = 1 << 5, 1 << 9
SLEEPS, MOST_NS = 1 << 10, 1 << 17
#: Seeds are numbers below this.
MOST_SEED = 1 << 32

#: Where threads park and are woken: runtime/lock_futex.go and all that builds on it.
_PARK_AND_WAKE = ("runtime.futexWait", "runtime.futexWake")


def check_model(model: str) -> None:
    """Raises MisuseError when modules of that model have no races."""
    if model != THREADED:
        raise MisuseError("only the model threaded can be sharpened: in the others, Go has one thread, so there are no "
                          "races")


def check_seed(seed: int) -> int:
    """Returns the seed. Raises MisuseError when it is not a valid one."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < MOST_SEED:
        raise MisuseError(f"a seed for the race sharpener must be a whole number from 0 to {MOST_SEED - 1:,}, not "
                          f"{seed!r}")
    return seed


def sharpen(module: Module, seed: int) -> Module:
    """The same module, with its races widened.

    It must come from threads.add_threads() and have its names. Raises ModuleError when it does not, MisuseError for a
    seed that is not valid.
    """
    check_seed(seed)
    return _Sharpener(module, seed).run()


class _Sharpener:
    def __init__(self, module: Module, seed: int) -> None:
        self.module = replace(module, types=list(module.types), functions=list(module.functions),
                              globals=list(module.globals), bodies=list(module.bodies))
        self.types = TypeIndices(self.module.types)
        self.seed = seed
        self.names = function_names(module)
        self.imported = len(module.imported_functions)
        self.state = sum(i.kind is Kind.GLOBAL for i in module.imports) + len(module.globals)
        self.added: list[tuple[int, str]] = []

    def run(self) -> Module:
        atomic = [title for title in self.names if title.startswith(atomic_operations.PACKAGE)
                  and title.removeprefix(atomic_operations.PACKAGE) in atomic_operations.BODIES]
        wanted = [*atomic, *_PARK_AND_WAKE]
        if missing := [title for title in (*_PARK_AND_WAKE, "gt_setup") if title not in self.names]:
            raise ModuleError(f"the module has no function {missing[0]}: it has no threads whose races could be "
                              f"widened, or was stripped")
        self.module.globals.append(code.I64 + b"\1" + code.i64_const(self.seed * 2 + 1) + code.END)
        delay = self.add_function("gothreads.delay", code.VOID, self.delay())
        for title in wanted:
            place = self.names[title] - self.imported
            plain = self.add_function(f"{title}.plain", code.GO_FUNC, self.module.bodies[place])
            self.module.bodies[place] = code.body(code.call(delay) + code.local_get(0) + code.call(plain)
                                                  + code.call(delay))
        self.begin_each_instance_differently()
        return replace(self.module, customs=with_names(self.module.customs, self.added))

    def add_function(self, title: str, kind: FuncType, body: bytes) -> int:
        self.module.functions.append(self.types[kind])
        self.module.bodies.append(body)
        index = self.imported + len(self.module.bodies) - 1
        self.added.append((index, title))
        return index

    def delay(self) -> bytes:
        """xorshift64 (Marsaglia 2003), whose upper half decides. It uses no Go state, so it may be called anywhere."""
        state, drawn, turns = code.local_get(0), 1, 2

        def shifted(by: int, shift: bytes) -> bytes:
            return state + state + code.i64_const(by) + shift + code.I64_XOR + code.local_set(0)

        def one_of(count: int, which: int) -> bytes:
            return (code.local_get(drawn) + code.i32_const(count - 1) + code.I32_AND + code.i32_const(which)
                    + code.I32_EQ + code.IF)

        def part(below: int) -> bytes:
            """A number below `below`, from bits of the drawn number other than those that decide."""
            return (code.local_get(drawn) + code.i32_const(12) + code.I32_SHR_U + code.i32_const(below - 1)
                    + code.I32_AND)
        spin = part(MOST_TURNS) + code.local_set(turns) + (
            code.LOOP + code.local_get(turns) + code.i32_const(1) + code.I32_SUB + code.local_tee(turns)
            + code.i32_const(0) + code.I32_GT_S + code.br_if(0) + code.END)
        sleep = (code.i32_const(layout.NEVER) + code.i32_const(0) + part(MOST_NS) + code.EXTEND_U + code.WAIT32
                 + code.DROP)
        return code.body(
            code.global_get(self.state)
            + code.local_set(0)
            + shifted(13, code.I64_SHL)
            + shifted(7, code.I64_SHR_U)
            + shifted(17, code.I64_SHL)
            + state
            + code.global_set(self.state)
            + state
            + code.i64_const(32)
            + code.I64_SHR_U
            + code.WRAP
            + code.local_set(drawn)
            + one_of(SPINS, 1)
            + spin
            + code.END
            + one_of(SLEEPS, 2)
            + sleep
            + code.END,
            code.I64 + code.I32 + code.I32,
        )

    def begin_each_instance_differently(self) -> None:
        """Initialise the generator in gt_setup, which the host calls in each instance.

        The state combines the seed and the number of instances made before, times the golden ratio.
        """
        place = self.names["gt_setup"] - self.imported
        kind = self.module.types[self.module.functions[place]]
        setup = self.add_function("gt_setup.plain", kind, self.module.bodies[place])
        number = code.i32_const(layout.INSTANCES) + code.i64_const(1) + code.atomic(0x1F, 8)
        begin = number + code.i64_const(-0x61C8864680B583EB) + code.I64_MUL + code.i64_const(self.seed * 2
                                                                                             + 1) + code.I64_XOR
        self.module.bodies[place] = code.body(
            begin + code.i64_const(1) + code.I64_OR + code.global_set(self.state)
            + b"".join(code.local_get(i) for i in range(len(kind.params))) + code.call(setup))
