"""What a simulated program takes for time and chance: both depend on a seed, and on what the program has asked before.

The module is stock Go, on one thread, and its scheduler draws by the seed, too (build/goroot/simulation). So the same
program with the same seed does the same.
"""

from __future__ import annotations

import random

from gothreads.errors import MisuseError
from gothreads.text import cut
from gothreads.wasi.process import Process

#: Seeds are numbers below this.
MOST_SEED = 1 << 32
#: When each run begins, in nanoseconds since 1970: midnight UTC, 2000-01-01, as in Go's testing/synctest.
_BEGIN = 946_684_800 * 10**9
#: How long a look at the clock takes, in nanoseconds; one in _LATE takes longer, up to 2**_LATE_BITS nanoseconds, as
#: on a machine that does something else meanwhile.
_TICK, _LATE, _LATE_BITS = 1_000, 256, 24
#: The most random bytes that one call makes.
_PIECE = 1 << 20


def check_seed(name: str, seed: object) -> None:
    """MisuseError if it is no seed. name: of the option."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < MOST_SEED:
        raise MisuseError(f"{name} must be a whole number from 0 to {MOST_SEED - 1:,}, the seed, not {cut(seed)}")


class Simulation:
    """The clock and the source of random numbers of one run. Only the module's one thread uses it."""

    def __init__(self, process: Process, seed: int) -> None:
        self._process = process
        self._delays, self._random = random.Random(f"delays {seed}"), random.Random(f"random {seed}")
        self._seed = random.Random(f"seed {seed}").getrandbits(64) | 1  # the module's generator must not begin with 0
        self._now = 0

    def simulation_seed(self, result: int) -> None:
        self._process.memory.write_u64(result, self._seed)

    def clock_time_get(self, clock: int, _precision: int, result: int) -> None:
        late = self._delays.randrange(_LATE) == 0
        self._now += 1 << self._delays.randrange(_LATE_BITS) if late else _TICK
        self._process.memory.write_u64(result, self._now + (_BEGIN if clock == 0 else 0))

    def random_get(self, address: int, size: int) -> None:
        for begin in range(0, size, _PIECE):
            self._process.memory.write(address + begin, self._random.randbytes(min(_PIECE, size - begin)))

    def sleep(self, seconds: float) -> None:
        """Nothing can run before that time has passed: let it pass at once."""
        self._now += round(seconds * 1e9)
