"""Any calls of the I/O in C (gothreads/csrc/io.h) from many threads, with any arguments, over a memory that changes and
grows, while Python changes, claims and closes the same descriptors. Built with ASan and UBSan.

    python -m stress.fuzz_io [--seconds 60] [--seed N] [--threads 4]

The program is stress/io/fuzz_io.c, which says what a finding is. It needs a C compiler with its sanitizers, and
Python's headers and shared library. Prints how often each call was made, and how often it succeeded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "stress" / "io" / "fuzz_io.c",
           *(ROOT / "gothreads" / "csrc" / f"{name}.c" for name in
             ("io_table", "peers", "socket_io", "file_io", "folder_io", "poller"))]
#: How much longer than asked the program may take before it is taken to hang, in seconds.
PATIENCE = 120.0


def build(program: Path) -> None:
    library = sysconfig.get_config_var("LIBDIR")
    command = ["cc", "-g", "-O1", "-D_GNU_SOURCE", "-DGT_IO_PAUSE=pause_now", "-fno-omit-frame-pointer",
               "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{ROOT / 'gothreads' / 'csrc'}",
               f"-I{sysconfig.get_paths()['include']}", *map(str, SOURCES), f"-L{library}", f"-Wl,-rpath,{library}",
               f"-lpython{sysconfig.get_config_var('LDVERSION')}", "-lpthread", "-o", str(program)]
    subprocess.run(command, check=True)


def lay_out(folder: Path) -> None:
    """What the module may not see, and an empty folder for what it may: the program fills it."""
    for name in ("inside", "outer"):
        (folder / name).mkdir()
    for name in ("secret", "outer/kept", "SECRET!"):
        (folder / name).write_text("SECRET!")


def fuzz(seconds: int, seed: int, *, threads: int = 4) -> dict[str, tuple[int, int]]:
    """How often each call was made, and succeeded. CalledProcessError or TimeoutExpired on a finding."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "fuzz_io")
        lay_out(folder)
        environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}  # Python keeps memory to its end
        done = subprocess.run([folder / "fuzz_io", folder, str(seconds), str(seed), str(threads)], env=environment,
                              stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + PATIENCE)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {call: (int(made), int(succeeded)) for call, made, succeeded in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=4)
    given = parser.parse_args()
    try:
        counts = fuzz(given.seconds, given.seed, threads=given.threads)
    except subprocess.TimeoutExpired:
        print(f"FINDING: a call does not end (seed {given.seed})", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"finding, with seed {given.seed}: {error}", file=sys.stderr)
        return 1
    for call, (made, succeeded) in counts.items():
        print(f"{call:24} {made:>12,} {succeeded:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
