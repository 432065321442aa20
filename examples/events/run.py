"""Simulates an order desk: a Go program that receives events and asks Python, which answers late and out of order.

    sender (a thread)  app.signal("order", …)   ─▶  main receives from guest.Events("order")
                                                    a goroutine an order: guest.Call("price"), guest.Call("reserve")
    price (coroutine), reserve (Future)         ◀─  … answered seconds later, in any order
    outcome, tick                               ◀─  guest.Call("outcome"), guest.Notify("tick")
    app.exports.revenue()                       ─▶  an export, at any time

It is stopped while orders are open, and then accounts for every order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gothreads

EXAMPLES = """examples:
  python examples/events/run.py
  python examples/events/run.py --seconds 5 --rate 20 --slowest 1
  python examples/events/run.py --model single      stock Go: what waits for a call?
  python examples/events/run.py --json | jq .outcomes"""

PRICES = {"nuts": 3, "bolts": 5, "springs": 40, "gears": 1250, "anvils": 19900}  # cents
WANTED = [*PRICES, "ghosts"]  # nobody sells ghosts


@dataclass
class Account:
    """What Python has seen of all orders. Any thread may append to the lists; nothing is ever removed.

    closing: the totals that Go reports when it stops.
    """

    signalled: list[int] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    closing: list[dict[str, int]] = field(default_factory=list)

    def discrepancies(self) -> list[str]:
        """Return the discrepancies between what Python and Go have seen."""
        settled = Counter(outcome["order"] for outcome in self.outcomes)
        taken = sum(totals["taken"] for totals in self.closing)
        found = [f"order {order} has {count} outcomes" for order, count in settled.items() if count > 1]
        found += [f"order {order} was never sent" for order in settled.keys() - set(self.signalled)]
        if not self.closing:
            found.append("the desk did not report its totals")
        if taken != len(settled):
            found.append(f"the desk took {taken} orders, but {len(settled)} have an outcome")
        if (revenue := sum(o["cents"] for o in self.outcomes)) != sum(totals["revenue"] for totals in self.closing):
            found.append(f"accepted orders bring {revenue} cents, and the desk reports another sum")
        return found

    def counts(self) -> dict[str, int]:
        """Return the number of orders by outcome. "Not taken": still in the queue when the desk closed."""
        verdicts = Counter(str(outcome["verdict"]) for outcome in self.outcomes)
        return {verdict: verdicts[verdict] for verdict in ("accepted", "refused", "withdrawn", "returned")} | {
            "not taken": len(self.signalled) - len(self.outcomes)}


class Simulation:
    """Python's side of the simulation.

    rate: orders a second.
    slowest: the longest time that an answer takes, in seconds.
    quiet: print no time line.
    """

    def __init__(self, model: str, rate: float, slowest: float, seed: int | None, *, quiet: bool) -> None:
        self.account = Account()
        self._model, self._rate, self._slowest, self._quiet = model, rate, slowest, quiet
        self._random = random.Random(seed)
        self._begun = time.monotonic()
        self._printing = threading.Lock()
        self._over = threading.Event()
        self._reservations: list[tuple[float, Future[str], str]] = []  # when to answer, the answer, the item and count

    def log(self, source: str, text: str) -> None:
        """Print a line of the time line."""
        if not self._quiet:
            with self._printing:
                print(f"{time.monotonic() - self._begun:6.2f} s  {source:7} {text}", flush=True)

    # The handlers that Go calls, of different kinds.

    async def price(self, payload: bytes) -> str:
        """A coroutine: thousands may wait at a time. An exception becomes an error in Go, and Go may cancel it."""
        item = payload.decode()
        await asyncio.sleep(self._delay())
        if item not in PRICES:
            raise LookupError(f"nobody sells {item}")
        return str(PRICES[item])

    def reserve(self, payload: bytes) -> Future[str]:
        """A plain function that returns a Future: someone else, here a thread, sets the answer later."""
        answer: Future[str] = Future()
        self._reservations.append((time.monotonic() + self._delay(), answer, payload.decode()))
        return answer

    def outcome(self, payload: bytes) -> None:
        """A plain function: Go gets its answer when it returns."""
        outcome = json.loads(payload)
        self.account.outcomes.append(outcome)
        accepted = outcome["verdict"] == "accepted"
        detail = f"{outcome['cents'] / 100:.2f}" if accepted else outcome["why"].replace("\n", "; ")
        self.log("Go", f"order {outcome['order']:3} is {outcome['verdict']}: {detail}")

    def tick(self, payload: bytes) -> None:
        """Go calls it each second with guest.Notify, which does not wait."""
        totals = json.loads(payload)
        self.log("Go", f"tick: {totals['taken']} taken, {totals['open']} open, {totals['accepted']} accepted; "
                       f"{totals['audits']} audits in the background")

    def closed(self, payload: bytes) -> None:
        """Go calls it at the end of its hook `stop`."""
        self.account.closing.append(json.loads(payload))

    # Threads.

    def warehouse(self) -> None:
        """Answer the reservations that are due, until the desk closes."""
        while not self._over.wait(0.01):
            now = time.monotonic()
            for due in [reservation for reservation in self._reservations if reservation[0] <= now]:
                self._reservations.remove(due)
                _, answer, wanted = due
                if answer.set_running_or_notify_cancel():  # otherwise Go has cancelled the call
                    item, count = wanted.split()
                    if int(count) > 9:
                        answer.set_exception(LookupError(f"there are not {count} {item}"))
                    else:
                        answer.set_result("reserved")

    def customers(self, app: gothreads.App) -> None:
        """Send orders, and withdraw one now and then."""
        order = 0
        with contextlib.suppress(gothreads.GothreadsError):  # the app has ended; `run` gets the error too
            while not self._over.wait(1 / self._rate):
                order += 1
                item, count = self._random.choice(WANTED), self._random.randint(1, 10)
                self.log("Python", f"order {order:3}: {count} {item}")
                if app.signal("order", json.dumps({"id": order, "item": item, "count": count})):
                    self.account.signalled.append(order)
                if order % 7 == 0:
                    app.signal("withdraw", str(order - 1))

    def run(self, seconds: float) -> None:
        """Run the simulation for that many seconds, then close the app."""
        handlers = {"price": self.price, "reserve": self.reserve, "outcome": self.outcome, "tick": self.tick,
                    "closed": self.closed}
        env = {} if self._model == "threaded" else {"BEGIN_MAIN": "1"}
        with gothreads.open(Path(__file__).parent, model=self._model, handlers=handlers, env=env) as app:
            self._begun = time.monotonic()
            self.log("", f"the desk is open ({self._model})")
            threads = [threading.Thread(target=self.warehouse, daemon=True),
                       threading.Thread(target=self.customers, args=(app,), daemon=True)]
            for thread in threads:
                thread.start()
            try:
                while (left := self._begun + seconds - time.monotonic()) > 0:
                    time.sleep(min(left, 0.7))
                    if self._model in ("single", "pool"):  # they do not run between calls
                        self.log("Python", "lets the module run until it waits")
                        app.wait_idle()
                    self.log("Python", f"asks: revenue {app.exports.revenue() / 100:.2f}, "
                                       f"{app.exports.waiting()} orders waiting")
            except KeyboardInterrupt:
                self.log("", "Ctrl-C")
            finally:
                self.log("", "closing, while orders are open")
                closing = time.monotonic()
                app.close()
                self._over.set()
                for thread in threads:
                    thread.join()
                self.log("", f"closed in {(time.monotonic() - closing) * 1e3:.0f} ms")

    def _delay(self) -> float:
        return self._random.uniform(0.1, 1) * self._slowest


def main(argv: list[str] | None = None) -> int:
    """Return the exit code: 0 when every order is accounted for."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="how long the desk is open (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3, help="orders a second (default: %(default)s)")
    parser.add_argument("--slowest", type=float, default=3, metavar="S",
                        help="the longest time that an answer takes, in seconds (default: %(default)s)")
    parser.add_argument("--model", choices=["threaded", "single", "idle", "pool"], default="threaded",
                        help="how the module is run (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same orders and delays")
    parser.add_argument("--json", action="store_true", help="print the account as JSON, and no time line")
    arguments = parser.parse_args(argv)
    for name in ("seconds", "rate", "slowest"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name} must be above 0")
    simulation = Simulation(arguments.model, arguments.rate, arguments.slowest, arguments.seed, quiet=arguments.json)
    try:
        simulation.run(arguments.seconds)
    except gothreads.GothreadsError as error:
        print(f"events: {error}", file=sys.stderr)
        return 1
    account, faults = simulation.account, simulation.account.discrepancies()
    if arguments.json:
        print(json.dumps({"signalled": len(account.signalled), "outcomes": account.counts(),
                          "closing": account.closing, "faults": faults}, indent=2))
    else:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in account.counts().items())
        print(f"{len(account.signalled)} orders: {counts}")
    for fault in faults:
        print(f"events: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
