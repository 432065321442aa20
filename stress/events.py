"""Signals from many threads at once, none lost, each sender's in order; and, meanwhile, calls of the host whose replies come late.

    python -m stress.events [--events 1000000] [--senders 4] [--model threaded|idle] [--go GO]

Ends with 1 when a number is missing, comes twice, or comes out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import struct
import sys
import threading
import time
from pathlib import Path

import gothreads

TALK = Path(__file__).parent.parent / "tests" / "modules" / "talk"
_NUMBER = struct.Struct("<II")  # a sender, and what it counts up


async def _late(payload: bytes) -> bytes:
    await asyncio.sleep(random.random() * 0.01)
    return payload


def run(events: int, senders: int, model: str, go: str | None = None) -> int:
    """The exit code."""
    each = events // senders
    wrong_replies: list[bytes] = []
    over = threading.Event()
    with gothreads.open(TALK, model=model, go=go, handlers={"late": _late}) as app:
        def send(sender: int) -> None:
            for n in range(1, each + 1):
                app.signal("number", _NUMBER.pack(sender, n))

        def call() -> None:
            while not over.is_set():
                answer = app.request("echoes", "200 late")
                if answer != b"200":
                    wrong_replies.append(answer)
        threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
        caller = threading.Thread(target=call)
        begin = time.monotonic()
        for thread in [*threads, caller]:
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        caller.join()
        app.wait_idle(60)
        seconds = time.monotonic() - begin
        received, total, ordered = app.request("seen").decode().split()
    right = (int(received), int(total), ordered) == (each * senders, senders * each * (each + 1) // 2, "true") and not wrong_replies
    print(f"{int(received):,} of {each * senders:,} events in {seconds:.1f} s, {seconds / each / senders * 1e6:.1f} µs each; in order: {ordered}")
    for answer in wrong_replies:
        print(f"FAILED: {answer.decode()} of 200 replies were right")
    if not right:
        print("FAILED: events")
    return 0 if right else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--model", choices=["threaded", "idle"], default="threaded")
    parser.add_argument("--go", help="the go command to build with")
    arguments = parser.parse_args()
    return run(arguments.events, arguments.senders, arguments.model, arguments.go)


if __name__ == "__main__":
    sys.exit(main())
