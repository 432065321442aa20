"""Damaged modules, and modules that nobody would write, through everything that reads or runs modules.

    python -m stress.fuzz_wasm [--seconds 60] [--count N] [--seed N] [--only NAME]

    parse       damaged modules from Go, C, Zig and by hand: decoded and encoded, whole and in outline
    inspect     the same, inspected as `gothreads inspect` does
    rewrite     damaged output of Go's linker, rewritten to a module with threads
    waits       damaged modules with wasi-threads, with their waits replaced, and with stop checks
    generated   valid modules of wasm-opt's fuzzer: the same after a round trip, and valid by wasm-validate; still valid
                once rewritten
    pretend     valid modules with exports and imports of the names that gothreads knows, but of any type, opened in
                the same way
    open        damaged and generated modules: opened, called and closed in another process, which must survive

The outcome is a module, or a ModuleError of one line. Valid modules must stay valid, and survive a round trip
unchanged. wasm-opt and wasm-validate are in Debian's packages binaryen and wabt.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import wasmtime

from gothreads.cli.inspect import describe
from gothreads.engine.settings import new_engine
from gothreads.errors import ModuleError
from gothreads.runtime.module_file import check_module
from gothreads.wasm.binary import Import, Kind, MemoryLimits, Module
from gothreads.wasm.parsing import function_names, parse
from gothreads.wasm.passes.stops import add_stop_checks
from gothreads.wasm.passes.threads import add_threads
from gothreads.wasm.passes.waits import rewrite_waits
from stress import mutations, seed_modules
from stress.fuzzing import Finding, Part, main
from stress.module_opener import ENDLESS

#: How long a module may take to be opened, called and closed, in seconds.
OPEN_SECONDS = 40.0


def valid(engine: wasmtime.Engine, wasm: bytes) -> bool:
    try:
        wasmtime.Module.validate(engine, wasm)
    except wasmtime.WasmtimeError:
        return False
    return True


def outcome(error: ModuleError) -> str:
    """The outcome of a refusal, without details. Finding when the error is not one printable line."""
    message = str(error)
    if not message.isprintable():
        raise Finding(f"an error that is not one printable line: {message!r}")
    return "refused"


class DamagedModules(Part[bytes]):
    """A part with damaged modules, which are loaded when the part is entered."""

    def __init__(self, name: str, load: Callable[[], Mapping[str, bytes]]) -> None:
        self.name, self._load = name, load

    def __enter__(self) -> Self:
        self.modules = self._load()
        self.engine = new_engine(1 << 20)
        return self

    def make(self, choose: random.Random) -> bytes:
        return mutations.mutated(choose, self.modules)


class Parse(DamagedModules):
    def attempt(self, case: bytes) -> str:
        known = None
        for outline in (True, False):
            try:
                module = parse(case, outline=outline)
                read_lazy_parts(module)
            except ModuleError as error:
                known = outcome(error)
                if "supported" not in str(error) and valid(self.engine, case):
                    raise Finding(f"a valid module is refused: {error}") from None
                continue
            encoded = module.encode()
            if parse(encoded, outline=outline) != module:
                raise Finding(f"it is a different module after a round trip (outline: {outline})")
            known = known or unchanged(self.engine, case, encoded)
        assert known is not None
        return known


def read_lazy_parts(module: Module) -> None:
    """Decode what is decoded lazily. The name section may be malformed in a valid module."""
    with contextlib.suppress(ModuleError):
        function_names(module)
    _ = module.memory
    kinds = module.function_types()
    for export in module.exports:
        if export.kind is Kind.FUNC:
            _ = kinds[export.index]


def unchanged(engine: wasmtime.Engine, case: bytes, encoded: bytes) -> str:
    """The outcome of a round trip. Finding when a valid module is no longer valid."""
    if not valid(engine, case):
        return "taken, not valid"
    if not valid(engine, encoded):
        raise Finding("a valid module is not valid after a round trip")
    if encoded == case:
        return "the same bytes"
    if sorted(mutations.sections(encoded) or ()) == sorted(mutations.sections(case) or ()):
        return "the same sections, whose order may differ"
    return "the same, written differently"


class Inspect(DamagedModules):
    def attempt(self, case: bytes) -> str:
        try:
            loaded = check_module("fuzzed", case)
            json.dumps(describe(loaded))
        except ModuleError as error:
            return outcome(error)
        return f"inspected, {loaded.model}{', foreign' if loaded.foreign else ''}"


class Rewrite(DamagedModules):
    def __enter__(self) -> Self:
        super().__enter__()
        self.known = frozenset().union(*(named_functions(parse(wasm)) for wasm in self.modules.values()))
        return self

    def attempt(self, case: bytes) -> str:
        try:
            module = parse(case)
            rewritten = add_threads(module).encode()
        except ModuleError as error:
            return outcome(error)
        if not valid(self.engine, case):
            return "rewritten, was not valid"
        if valid(self.engine, rewritten):
            return "rewritten"
        if named_functions(module) <= self.known:
            raise Finding("a valid module is not valid after the rewrite")
        return "rewritten, with functions that are not Go's"


def named_functions(module: Module) -> frozenset[tuple[str, str]]:
    """The names and types of functions. Where the types differ from Go's, the rewritten module is invalid, which
    compiling it finds.
    """
    kinds = module.function_types()
    imported = [(f"{i.module}.{i.name}", str(module.types[i.type_index])) for i in module.imported_functions]
    exported = [(e.name, str(kinds[e.index])) for e in module.exports
                if e.kind is Kind.FUNC and e.name.startswith("gt_")]
    named = [(title, str(kinds[index])) for title, index in function_names(module).items()]
    return frozenset((*imported, *exported, *named))


class Waits(DamagedModules):
    def attempt(self, case: bytes) -> str:
        was_valid = valid(self.engine, case)
        try:
            module = parse(case)
            if not was_valid:  # opening validates first, too
                return "not valid"
            noted = rewrite_waits(module)
            checked = add_stop_checks(noted)
        except ModuleError as error:
            return outcome(error)
        if imports_one_memory(module) and not valid(self.engine, noted.encode()):
            raise Finding("a valid module whose waits were replaced is not valid")
        if imports_one_memory(module) and not valid(self.engine, checked.encode()):
            raise Finding("a valid module with stop checks is not valid")
        return "rewritten" if imports_one_memory(module) else "rewritten, without a memory of its kind"


def imports_one_memory(module: Module) -> bool:
    memories = [i for i in module.imports if i.kind is Kind.MEMORY]
    return len(memories) == 1 and not module.memories


class Generated(Part[bytes | None]):
    """Modules of wasm-opt's fuzzer."""

    name = "generated"

    def __enter__(self) -> Generated:
        self.engine = new_engine(1 << 20)
        return self

    def missing(self) -> str | None:
        return None if shutil.which("wasm-opt") else seed_modules.INSTALL_BINARYEN

    def make(self, choose: random.Random) -> bytes | None:
        return seed_modules.generated(choose)

    def attempt(self, case: bytes | None) -> str:
        if case is None:
            return "wasm-opt has made none"
        if not valid(self.engine, case):
            return "uses features that wasmtime has not enabled"
        try:
            check_module("fuzzed", case)
            inspected = ""
        except ModuleError as error:
            outcome(error)
            inspected = "; cannot be opened"
        try:
            module = parse(case)
            read_lazy_parts(module)
        except ModuleError as error:
            if "supported" not in str(error):
                raise Finding(f"a valid module is refused: {error}") from None
            return "refused: " + str(error).rpartition(": ")[2] + inspected
        encoded = module.encode()
        same = unchanged(self.engine, case, encoded)
        by_wabt(case, encoded)
        if parse(encoded) != module:
            raise Finding("it is a different module after a round trip")
        return same + self.with_waits(module) + inspected

    def with_waits(self, module: Module) -> str:
        """The same module with an imported memory, as modules with threads have; its waits are replaced."""
        if len(module.memories) != 1 or any(i.kind is Kind.MEMORY for i in module.imports):
            return ""
        shared = MemoryLimits(module.memories[0].minimum, module.memories[0].maximum or 65536, shared=True)
        imported = replace(module, memories=[],
                           imports=[*module.imports, Import("env", "memory", Kind.MEMORY, shared.encode())])
        if not valid(self.engine, imported.encode()):
            raise Finding("a module whose memory was made an import is not valid")
        try:
            rewritten = rewrite_waits(imported)
            checked = add_stop_checks(rewritten)
        except ModuleError as error:
            if "names that gothreads needs" in str(error):
                return ""
            raise Finding(f"the waits of a valid module cannot be replaced: {error}") from None
        if not valid(self.engine, rewritten.encode()):
            raise Finding("a valid module whose waits were replaced is not valid")
        if not valid(self.engine, checked.encode()):
            raise Finding("a valid module with stop checks is not valid")
        return ", waits replaced"


def by_wabt(case: bytes, encoded: bytes) -> None:
    """Finding when wasm-validate accepts only the original, or wasm2wat prints different texts."""
    if not shutil.which("wasm-validate"):
        return
    before, after = (_run("wasm-validate", wasm) for wasm in (case, encoded))
    if before.returncode == 0 and after.returncode != 0:
        raise Finding(f"wasm-validate: {after.stderr}")
    before, after = (_run("wasm2wat", wasm, "--no-debug-names") for wasm in (case, encoded))
    if before.returncode == 0 and before.stdout != after.stdout:
        raise Finding("wasm2wat reads a different module after a round trip")


def _run(program: str, wasm: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
        file.write(wasm)
        file.flush()
        return subprocess.run([program, "--enable-all", *options, file.name], capture_output=True, text=True,
                              errors="replace", check=False)


# Modules that run.

class Open(Part[bytes | None]):
    """Opens modules in another process, which reads file names and reports the outcome of each."""

    name = "open"

    def __init__(self, load: Callable[[], Mapping[str, bytes]], *, rare: Callable[[], Mapping[str, bytes]] = dict,
                 generate: bool = True) -> None:
        """`rare`: modules that are tried rarely, since compiling one takes seconds."""
        self._load, self._load_rare, self._generate = load, rare, generate

    def __enter__(self) -> Self:
        self.modules, self.rare = self._load(), self._load_rare()
        self._closing = contextlib.ExitStack()
        self._folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        self._file = self._folder / "fuzzed.wasm"
        self._child: subprocess.Popen[str] | None = None
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        self._closing.close()

    def make(self, choose: random.Random) -> bytes | None:
        if self._generate and shutil.which("wasm-opt") and choose.random() < 0.4:
            made = seed_modules.generated(choose, seed_modules.KNOWN_FEATURES)
            return made if made is None or choose.random() < 0.7 else mutations.mutated(choose, {"generated": made})
        return mutations.mutated(choose, self.rare if self.rare and choose.random() < 0.02 else self.modules)

    def attempt(self, case: bytes | None) -> str:
        if case is None:
            return "wasm-opt has made none"
        self._file.write_bytes(case)
        child = self._child or self._begin()
        assert child.stdin is not None
        assert child.stdout is not None
        print(self._file, file=child.stdin, flush=True)
        watch = _after(OPEN_SECONDS, child)
        line = child.stdout.readline()
        hung = watch()
        if not line:
            code = child.wait()
            self._child = None
            errors = (self._folder / "stderr").read_text(errors="replace")[-3_000:]
            raise Finding(f"it has not ended after {OPEN_SECONDS:g} s\n{errors}" if hung else
                          f"the process has died: {signal.Signals(-code).name if code < 0 else code}\n{errors}")
        answer: dict[str, str] = json.loads(line)
        if answer.get("outcome") == ENDLESS:
            child.wait()
            self._child = None
        if "problem" in answer:
            raise Finding(answer["problem"])
        return answer["outcome"]

    def _begin(self) -> subprocess.Popen[str]:
        errors = (self._folder / "stderr").open("wb")
        environment = os.environ | {"GOTHREADS_CACHE": str(self._folder / "cache")}
        command = [sys.executable, "-X", "faulthandler", "-m", "stress.module_opener"]
        self._child = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                       env=environment, cwd=Path(__file__).parent.parent)
        errors.close()
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.communicate()
            self._child = None


class Pretend(Open):
    """Valid modules whose exports and imports have the names that gothreads knows, but any type."""

    name = "pretend"

    def __init__(self) -> None:
        super().__init__(dict)

    def make(self, choose: random.Random) -> bytes:
        return seed_modules.pretended(choose)


def _after(seconds: float, child: subprocess.Popen[str]) -> Callable[[], bool]:
    """End a process, which writes all its stacks, after some seconds. The function returned cancels this, and returns
    whether it was too late.
    """
    done = threading.Event()

    def end() -> None:
        done.set()
        child.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
    timer = threading.Timer(seconds, end)
    timer.start()

    def cancel() -> bool:
        timer.cancel()
        return done.is_set()
    return cancel


def _all() -> dict[str, bytes]:
    return seed_modules.small() | seed_modules.of_other_languages()


def _everything() -> dict[str, bytes]:
    """Small modules several times, since large ones take a hundred times as long."""
    several = {f"{title} {copy}": wasm for copy in range(4) for title, wasm in _all().items()}
    return several | {"linked": seed_modules.shrunk(seed_modules.linked("calls"))} | seed_modules.of_go()


def _linked() -> dict[str, bytes]:
    whole = {program: seed_modules.linked(program) for program in ("calls", "hostcalls")}
    return {f"{program}, shrunk {copy}": seed_modules.shrunk(wasm) for program, wasm in whole.items()
            for copy in range(10)} | whole


def _threads() -> dict[str, bytes]:
    return {title: wasm for title, wasm in _all().items() if title in ("waits", "threads.c", "program.c")}


PARTS: list[Part[Any]] = [Parse("parse", _everything), Inspect("inspect", _everything), Rewrite("rewrite", _linked),
                          Waits("waits", _threads), Generated(), Pretend(), Open(_all, rare=seed_modules.of_go)]


if __name__ == "__main__":
    sys.exit(main("stress.fuzz_wasm", PARTS, __doc__))
