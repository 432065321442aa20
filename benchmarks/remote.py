"""What it costs to call Go on an engine, and from which grain it pays: executors of processes, Dask, Ray.

    python -m benchmarks.remote [--plot docs/grain.png]

Each engine has two workers on this machine; those that are not installed are left out. The efficiency is the time of
`app.map` in one process with two procs, divided by that of the engine, for the same calls; the median of the rounds.

--seconds: how long all calls of a round take together, on one processor.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import gothreads
from benchmarks.command import run
from gothreads.tools.compare.rounds import interleaved

#: How long a call takes, in ms.
_GRAINS = (0.1, 0.3, 1.0, 3.0, 10.0)
_WORKERS, _MB = 2, 1 << 20

#: Maps an export over arguments.
Mapped = Callable[..., Iterator[Any]]


@contextlib.contextmanager
def processes(go: gothreads.Remote) -> Iterator[Mapped]:
    with ProcessPoolExecutor(_WORKERS, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield partial(go.map, on=executor)


@contextlib.contextmanager
def dask(go: gothreads.Remote) -> Iterator[Mapped]:
    import distributed

    import gothreads.dask
    with (distributed.LocalCluster(n_workers=_WORKERS, threads_per_worker=1, dashboard_address=":0",
                                   silence_logs=logging.ERROR) as cluster, distributed.Client(cluster) as client):
        yield partial(gothreads.dask.map, go, on=client)


@contextlib.contextmanager
def ray(go: gothreads.Remote) -> Iterator[Mapped]:
    import ray

    import gothreads.ray
    ray.init(num_cpus=_WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
             object_store_memory=200 * _MB)
    try:
        yield gothreads.ray.Pool(go).map
    finally:
        ray.shutdown()


_ENGINES = {"processes": (processes, "concurrent"), "Dask": (dask, "distributed"), "Ray": (ray, "ray")}


def timed(mapped: Mapped, export: str, arguments: list[Any], **options: Any) -> float:
    begin = time.perf_counter()
    for _ in mapped(export, arguments, **options):
        pass
    return time.perf_counter() - begin


def measure(rounds: int, seconds: int) -> dict[str, Any]:
    source = Path(__file__).parent / "remote_go"
    go, found = gothreads.remote(source, procs=1), dict[str, Any]()
    with gothreads.open(source, procs=_WORKERS) as app, contextlib.ExitStack() as opened:
        app.exports.burn(1_000_000)
        rate = 2_000_000 / statistics.median(timed_burn(app) for _ in range(9))
        engines: dict[str, Mapped] = {"app.map": app.map}
        for name, (engine, module) in _ENGINES.items():
            if importlib.util.find_spec(module) is None:
                print(f"without {name}, which is not installed", file=sys.stderr)
                continue
            begin = time.perf_counter()
            mapped = opened.enter_context(engine(go))
            timed(mapped, "length", [""] * _WORKERS * 2, batch=1)
            engines[name] = mapped
            found[name] = {"start s": time.perf_counter() - begin, "efficiency": {}}
        for name in found:
            found[name]["batch ms"] = 1e3 * statistics.median(
                timed(engines[name], "length", [""] * 200, batch=1) / 200 for _ in range(rounds))
            found[name]["latency ms"] = 1e3 * statistics.median(
                timed(engines[name], "length", [""], batch=1) for _ in range(20 * rounds))
            found[name]["ms for each MiB"] = 1e3 * statistics.median(
                timed(engines[name], "length", ["x" * _MB] * 20, batch=1) / 20 for _ in range(rounds))
        for grain in _GRAINS:
            count = int(seconds / grain * 1000)
            calls = [int(rate * grain / 1000)] * count
            runs = interleaved({name: partial(timed, mapped, "burn", calls) for name, mapped in engines.items()},
                               rounds)
            for name in found:
                found[name]["efficiency"][f"{grain:g} ms"] = statistics.median(
                    one / other for one, other in zip(runs["app.map"], runs[name], strict=True))
    return found


def timed_burn(app: gothreads.App) -> float:
    begin = time.perf_counter()
    app.exports.burn(2_000_000)
    return time.perf_counter() - begin


def table(found: dict[str, Any]) -> str:
    rows = [f"| {name} | {engine['start s']:.1f} s | {engine['latency ms']:.2g} ms | {engine['batch ms']:.2g} ms | "
            f"{engine['ms for each MiB']:.2g} ms | "
            + " | ".join(f"{ratio:.2f}" for ratio in engine["efficiency"].values()) + " |\n"
            for name, engine in found.items()]
    return (f"| | to the first results | one call, there and back | a batch, of many | each MiB of arguments | "
            f"{' | '.join(f'calls of {grain:g} ms' for grain in _GRAINS)} |\n|{'---|' * (5 + len(_GRAINS))}\n"
            + "".join(rows))


def show(found: dict[str, Any], rounds: int) -> None:
    print(f"median of {rounds} rounds; the last columns: efficiency, against app.map on {_WORKERS} procs\n")
    print(table(found), end="")


def plot(found: dict[str, Any], path: Path) -> None:
    """Efficiency by grain."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, engine in found.items():
        axes.plot(_GRAINS, engine["efficiency"].values(), marker="o", label=name)
    axes.axhline(1, color="black", linewidth=0.7)
    axes.set(xscale="log", xlabel="ms that a call takes", ylabel="efficiency", ylim=(0, None), xticks=_GRAINS,
             xticklabels=[f"{grain:g}" for grain in _GRAINS],
             title=f"{_WORKERS} workers, against app.map with {_WORKERS} procs in one process")
    axes.minorticks_off()
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(run(__doc__, measure, show, rounds=3, plot=plot, seconds=10))
