"""Parsing of the messages with which Go's runtime ends a program."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gothreads.errors import GuestPanic
from gothreads.wasi import panics

THROWN = "goroutine 38 gp=0x383880 m=10 mp=0x39f808 [running, locked to thread]:\nruntime.throw({0xa8bd, 0xd})\n"
#: From a run of `gothreads stress memory`: the first thread had written "fatal error: " when the second wrote its whole
#: message.
MIXED = ("runtime: out of memory: cannot allocate 1048576-byte block (79953920 in use)\n"
         "fatal error: runtime: out of memory: cannot allocate 1048576-byte block (80478208 in use)\n"
         "fatal error: out of memory\n"
         "out of memory\n\n")


@pytest.mark.parametrize(("said", "reason"), [
    ("fatal error: out of memory\n\n", "fatal error: out of memory"),
    (MIXED, "fatal error: out of memory"),
    ("fatal error: runtime: out of memory: cannot allocate 524288-byte block (36929536 in use)\nfatal error: out of "
     "memory\n\nout of memory\n",
     "fatal error: out of memory"),
    ("fatal error: fatal error: out of memory\nout of memory\n\n", "fatal error: fatal error: out of memory"),
    ("fatal error: fatal error: out of memoryout of memory\n\n\n",
     "fatal error: fatal error: out of memoryout of memory"),
    ("fatal error: out of memoryruntime: out of memory: cannot allocate 524288-byte block (2949 in use)\nfatal error: "
     "\nout of memory\n\n",
     "fatal error: out of memoryruntime: out of memory: cannot allocate 524288-byte block (2949 in use)"),
    ("fatal error: out of memory\nfatal error: \n\n", "fatal error: out of memory"),
    ("fatal error: fatal error: \nout of memoryout of memory\n\n", "fatal error: out of memoryout of memory"),
    ("fatal error: \nfatal error: \nout of memory\nout of memory\n\n", "fatal error: out of memory"),
])
def test_what_threads_say_that_give_up_at_the_same_moment_is_read(said: str, reason: str) -> None:
    text = "the program's own line\n" + said + THROWN
    assert panics.reason(text) == reason
    begin = panics.begins(text.encode())
    assert begin is not None
    assert text[begin:].startswith("fatal error: ")
    assert panics.is_out_of_memory(reason)
    before = bytearray(text.removesuffix(THROWN).encode())
    assert panics.is_before_stacks_of_memory(before, b"\n") == before.endswith(b"\n\n")


def test_what_a_program_logs_with_a_stack_of_its_own_is_none() -> None:
    logged = "fatal error: as it says itself\nin two lines\n\ngoroutine 7 [running]:\nruntime/debug.Stack()\n"
    assert panics.reason(logged) is None
    assert panics.begins(logged.encode()) is None


def test_the_stacks_after_other_words_are_not_those_of_memory() -> None:
    assert not panics.is_out_of_memory("fatal error: all goroutines are asleep - deadlock!")
    assert not panics.is_out_of_memory("panic: out of memory")
    for text, last in ((b"panic: out of memory\n\n", b"\n"), (b"fatal error: stack overflow\n\n", b"\n"),
                       (b"fatal error: out of memory\n\n", b"fatal error: out of memory\n\n"),
                       (b"fatal error: out of memory\n", b"\n")):
        assert not panics.is_before_stacks_of_memory(bytearray(text), last)


def test_the_end_of_the_first_goroutines_stack_is_found() -> None:
    text, ends = bytearray(), []
    for piece in ("fatal error: out of memory\n", "\n", "runtime stack:\n", "runtime.throw(...)", "\n", "\n",
                  "goroutine ", "7", " [running]:\n", "main.fill(...)\n", "\t", "main.go:3", "\n", "\n", "goroutine ", "1"):
        text += piece.encode()
        ends.append(panics.is_after_stack_of_goroutine(text, piece.encode()))
    assert [place for place, is_end in enumerate(ends) if is_end] == [13]


PANIC = "panic: x [recovered]\n\tpanic: y\n[signal SIGSEGV]\n\ngoroutine 7 [running, locked to thread]:\n"
IN_GO = ("panic({0x1, 0x2})\n\t/go/src/runtime/panic.go:770 +0x2\nstrings.Repeat(...)\n\t/go/src/strings/strings.go:9\n"
         "gothreads/guest.handler.run({0x0}, 0x1)\n\t/usr/lib/go/src/gothreads/guest/guest.go:132 +0x3\n"
         "gothreads/guest/slot.(*Slot).run(...)\n\t/work/app/.gothreads/guest/slot/handlers.go:9 +0x3\n")


@pytest.mark.parametrize(("stack", "place"), [
    ("main.fail()\n\t/work/main.go:16 +0x4\nmain.main()\n\t/work/main.go:9 +0x4\n", "main.go:16"),
    (IN_GO + "example.com/x/y.(*T).fail(0x1)\n\t/home/me/go/pkg/mod/example.com/x@v1.2.3/y/t.go:3 +0x4\n", "t.go:3"),
    (IN_GO + "main.(*T).fail(...)\n\t/a b/src/main/main.go:4\n", "main.go:4"),
    (IN_GO + "panic(...)\n\t/go/src/runtime/panic.go:770\nmain.main.func1()\n\tC:/main.go:5 +0x1\n", "main.go:5"),
    ("gothreads/guest.Handle({0x1, 0x2})\n\t/work/app/.gothreads/guest/guest.go:9 +0x1\nmain.main()\n\t/work/app/main.go:7\n",
     "main.go:7"),
    (IN_GO, None),
    (IN_GO + "created by main.main in goroutine 1\n\t/work/main.go:9 +0x4\n", None),
    (IN_GO + "\ngoroutine 1 [select]:\nmain.main()\n\t/work/main.go:9 +0x4\n", None),
    ("main.fail()\n\t/work/main.go:many\n", None),
    ("main.fail()", None),
    ("", None),
])
def test_the_place_of_a_panic_is_the_first_frame_in_the_program(stack: str, place: str | None) -> None:
    error = GuestPanic("panic: y", frames=panics.frames("before\n" + PANIC + stack))
    assert (error.place or None) == place


def test_words_without_a_stack_have_no_frames() -> None:
    assert panics.frames("panic: x\n") == []


def written(pieces: Sequence[str]) -> int | None:
    """At which of these writes the watch says that there are enough stacks."""
    watch, text = panics.StacksOfAll(), bytearray()
    for place, piece in enumerate(pieces):
        if watch.are_enough(text, piece.encode()):
            return place
        text += piece.encode()
    return None


def test_enough_stacks_are_those_that_gos_runtime_writes_itself() -> None:
    stack = ["goroutine ", "7", " gp=", "0x38", " m=nil", " [", "select (no cases)", "]", ":\n", "main.f(...)\n", "\t",
             "/src/main.go:7", "\n", "\n"]
    thrown = ["fatal error: ", "out of memory", "\n", "\n"]
    place = written([*thrown, *stack * 2000])
    assert place is not None
    assert 40_000 < len("".join((thrown + stack * 2000)[:place])) < 60_000
    assert written([*thrown, *stack * 100]) is None  # few: all are shown
    # What a program may write itself.
    assert written(stack * 2000) is None
    assert written(["panic: ", "test timed out", "\n", "\n", *stack * 2000]) is None
    assert written([*thrown, *["".join(stack)] * 2000]) is None
    assert written([*thrown, *stack, *["".join(stack)] * 2000, *stack * 20]) is None
    assert written([*thrown, *["goroutine ", "7", "\n"] * 20_000]) is None
    # Before the fatal error.
    assert written([*["goroutine ", "7", "\n"] * 20_000, *thrown, *stack * 2000]) is not None
