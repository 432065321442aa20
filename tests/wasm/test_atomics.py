"""The atomic bodies, run in wasmtime against what Go's declarations say of their arguments and results."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from dataclasses import dataclass

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from gothreads.build.toolchain import find_go
from gothreads.wasm import code, leb
from gothreads.wasm.binary import ExportEntry, Kind, MemoryLimits, Module
from gothreads.wasm.layout import UNALIGNED_LOCK
from gothreads.wasm.leb import uleb, vector
from gothreads.wasm.passes.atomics import BODIES, BUILT_ON_OTHERS, PACKAGE
from gothreads.wasm.passes.inline import inline_atomics

FRAME = 1024          # where SP points: the return address, then the arguments
RETURN_ADDRESS = 0x1234_0005
TARGET = 2048         # what the pointer points at
WIDTHS = {"uint8": 1, "bool": 1, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "uint": 8, "uintptr": 8, "unsafe.Pointer": 8}


@dataclass(frozen=True)
class Declaration:
    """Of one function: the widths of what it works on and returns (0: nothing), and how many values it takes after the pointer."""

    width: int
    values: int
    result: int

    @property
    def value_offsets(self) -> list[int]:
        return [16 + index * self.width for index in range(self.values)]

    @property
    def result_offset(self) -> int:
        """Results follow the arguments, aligned to 8."""
        return -(-(16 + self.values * self.width) // 8) * 8


def declared() -> dict[str, Declaration]:
    """The functions of internal/runtime/atomic as the Go at hand declares them for WebAssembly."""
    go = find_go()
    environment = os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local"}
    listed = subprocess.run([go.go, "list", "-f", "{{join .GoFiles \" \"}}", "internal/runtime/atomic"], cwd="/", env=environment, capture_output=True,
                            text=True, check=True)
    found = {}
    for file in listed.stdout.split():
        text = (go.goroot / "src/internal/runtime/atomic" / file).read_text()
        for name, parameters, result in re.findall(r"^func (\w+)\(([^)]*)\) ?([\w.]*)", text, re.MULTILINE):
            pointer, *values = parameters.split(", ")
            if re.fullmatch(r"\w+ (\*\S+|unsafe\.Pointer)", pointer):
                found[name] = Declaration(WIDTHS[pointer.split()[1].removeprefix("*")], len(values), WIDTHS.get(result, 0))
    return found


@pytest.fixture(scope="module")
def declarations() -> dict[str, Declaration]:
    return declared()


#: SP into local 1, as each function of Go's begins.
_READ_SP = code.global_get(code.SP) + code.local_set(1)


def jump(function: int) -> bytes:
    """The body of a function that only jumps to another, as Go's assembler makes it."""
    return code.body(_READ_SP + code.i32_const(0) + code.call(function) + _READ_SP + code.LEAVE + code.UNREACHABLE, code.I32)


def calling(function: int) -> bytes:
    """The body of a function that calls another with the arguments that are there, as Go's compiler makes it; then local 1 must be SP."""
    push = code.local_get(1) + code.i32_const(8) + code.I32_SUB + code.local_tee(1) + code.global_set(code.SP)
    call = push + code.local_get(1) + code.i64_const(RETURN_ADDRESS) + code.i64_store(0) + code.i32_const(0) + code.call(function) + _READ_SP + code.br_if(0)
    same = code.local_get(1) + code.global_get(code.SP) + code.I32_EQ + code.IF + code.i32_const(0) + code.LEAVE + code.END
    return code.body(_READ_SP + b"\x02\x40" + call + code.END + same + code.i32_const(2), code.I32)


#: How an atomic is reached: it, or a function that calls it, or one that calls what jumps to it.
WAYS = ("itself", "called", "called by a jump")


class Machine:
    """All bodies in one instance, each reached in all ways, with SP and a memory."""

    def __init__(self, *, inline: bool) -> None:
        self.inline = inline
        count = len(BODIES)
        bodies = [*BODIES.values(), *map(jump, range(count)), *map(calling, range(2 * count))]
        names = b"".join(uleb(index) + leb.name(PACKAGE + name) for index, name in enumerate(BODIES))
        module = Module(types=[code.GO_FUNC], functions=[0] * 4 * count, memories=[MemoryLimits(1)],
                        globals=[code.I32 + b"\1" + code.i32_const(0) + code.END], bodies=bodies, customs=[("name", b"\1" + vector(uleb(count) + names))])
        module.exports = [ExportEntry(f"{name} {way}", Kind.FUNC, index + start) for index, name in enumerate(BODIES)
                          for way, start in zip(WAYS, (0, 2 * count, 3 * count), strict=True)]
        module.exports += [ExportEntry("SP", Kind.GLOBAL, 0), ExportEntry("memory", Kind.MEMORY, 0)]
        if inline:
            module = inline_atomics(module)
            assert module.bodies[:2 * count] == bodies[:2 * count]
            assert all(now != before for now, before in zip(module.bodies[2 * count:], bodies[2 * count:], strict=True))
        self.store = wasmtime.Store()
        self.exports = wasmtime.Instance(self.store, wasmtime.Module(self.store.engine, module.encode()), []).exports(self.store)

    def run(self, name: str, way: str, memory: bytes) -> bytes:
        """Call a body over these bytes of memory, with SP at FRAME in it; the memory afterwards."""
        function, sp, linear = self.exports[f"{name} {way}"], self.exports["SP"], self.exports["memory"]
        assert isinstance(function, wasmtime.Func)
        assert isinstance(sp, wasmtime.Global)
        assert isinstance(linear, wasmtime.Memory)
        linear.write(self.store, memory)
        sp.set_value(self.store, FRAME if way == "itself" else FRAME + 8)
        assert function(self.store, 0) == 0, "a normal return answers 0"
        assert sp.value(self.store) == FRAME + 8, "the return address is popped"
        return bytes(linear.read(self.store, 0, len(memory)))


@pytest.fixture(scope="module", params=[False, True], ids=["", "inline"])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(inline=request.param)


def meaning(name: str, bits: int, old: int, values: list[int]) -> tuple[int, int]:
    """What lies at the pointer afterwards, and the result."""
    operation = re.match(r"(?:go)?(Load|Store|Xadd|Xchg|And|Or|Cas)", name)
    assert operation is not None, f"{name} has no meaning here"
    match operation[1], values:
        case "Load", []:
            return old, old
        case "Store", [value]:
            return value, 0
        case "Xadd", [delta]:
            return ((old + delta) & bits,) * 2
        case "Xchg", [value]:
            return value, old
        case "And", [value]:
            return old & value, old
        case "Or", [value]:
            return old | value, old
        case "Cas", [expected, new]:
            return (new, 1) if old == expected else (old, 0)
    raise AssertionError(f"{name} takes {len(values)} values")


def test_go_declares_nothing_that_has_no_body_here(declarations: dict[str, Declaration]) -> None:
    assert declarations.keys() - BODIES.keys() - BUILT_ON_OTHERS == set()


@pytest.mark.parametrize("name", BODIES)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_body_does_what_its_go_function_does(machine: Machine, declarations: dict[str, Declaration], name: str, data: st.DataObject) -> None:
    declaration = declarations.get(name)
    if declaration is None:
        pytest.skip(f"the Go at hand has no {name}")
    width, bits = declaration.width, (1 << 8 * declaration.width) - 1
    number = st.integers(0, bits) | st.sampled_from([0, 1, bits, bits >> 1, (bits >> 1) + 1])
    old = data.draw(number)
    values = [data.draw(number | st.just(old)) for _ in range(declaration.values)]
    target = TARGET + data.draw(st.integers(0, 7).map(width.__mul__) | st.integers(0, 64))  # aligned, or anywhere

    before = bytearray(data.draw(st.binary(min_size=1, max_size=1)) * 4096)
    before[UNALIGNED_LOCK:UNALIGNED_LOCK + 4] = bytes(4)
    before[FRAME + 8:FRAME + 16] = struct.pack("<Q", target)
    before[target:target + width] = old.to_bytes(width, "little")
    for offset, value in zip(declaration.value_offsets, values, strict=True):
        before[FRAME + offset:FRAME + offset + width] = value.to_bytes(width, "little")

    now, result = meaning(name, bits, old, values)
    expected = bytearray(before)
    expected[target:target + width] = now.to_bytes(width, "little")
    at = FRAME + declaration.result_offset
    expected[at:at + declaration.result] = result.to_bytes(declaration.result, "little") if declaration.result else b""
    assert machine.run(name, "itself", bytes(before)) == bytes(expected)
    # Not called, when it is inline: then there is no return address. But what is not aligned is.
    if not machine.inline or (target % width and width > 1):
        expected[FRAME:FRAME + 8] = struct.pack("<Q", RETURN_ADDRESS)
    for way in WAYS[1:]:
        assert machine.run(name, way, bytes(before)) == bytes(expected), way


def test_instructions_are_atomic_ones() -> None:
    for name, body in BODIES.items():
        assert re.search(b"\xfe[\x10-\x4e][\x00-\x03]" + uleb(0), body), name
