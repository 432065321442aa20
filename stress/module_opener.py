"""A process that opens, calls and closes modules which may crash it: `python -m stress.module_opener`.

It reads the path of a module from each line of standard input, and answers with a line of JSON: the "outcome", or the
"problem" if the outcome is not allowed. stress.fuzz_wasm starts it, and notices when it dies or hangs.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import gothreads
from gothreads.engine import ffi
from gothreads.files import cache_folder
from gothreads.runtime.module_file import check_module

#: After how long to check whether a module computes on its own, in seconds.
_RUN_SECONDS = 8.0
#: The outcome of a module that never returns from its start. The process ends after it.
ENDLESS = "does not return from its start"


def answer_names(names: TextIO, answers: TextIO) -> None:
    for line in names:
        answer: dict[str, str] = {}
        thread = threading.Thread(target=_attempt, args=(Path(line.strip()), answer), daemon=True)
        thread.start()
        thread.join(_RUN_SECONDS)
        if thread.is_alive() and _computes(thread):
            # Only close() would end it, and open() has not returned the app yet.
            print(json.dumps({"outcome": ENDLESS}), file=answers, flush=True)
            os._exit(0)
        thread.join()
        print(json.dumps(answer), file=answers, flush=True)
        for file in (cache_folder() / "compiled").glob("*"):
            file.unlink()


def _attempt(path: Path, answer: dict[str, str]) -> None:
    try:
        answer["outcome"] = _open_and_call(path)
    except gothreads.ModuleError as error:
        shown = str(error).isprintable() or "\n  " in str(error)
        answer["outcome" if shown else "problem"] = "refused" if shown else f"not printable: {str(error)!r}"
    except gothreads.InternalError:
        answer["problem"] = traceback.format_exc()
    except gothreads.GuestError as error:
        answer["outcome"] = f"{type(error).__name__} at the start"
    except gothreads.GothreadsError as error:
        answer["outcome"] = type(error).__name__
    except BaseException:
        answer["problem"] = traceback.format_exc()


def _computes(thread: threading.Thread) -> bool:
    """Whether a thread is running the module's code."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and (frame.f_code.co_filename == ffi.__file__ or "wasmtime" in frame.f_code.co_filename)


def _open_and_call(path: Path) -> str:
    """Open a module with whatever functions it imports, call all its exports at once, and close it in the middle of
    that.
    """
    host: dict[str, dict[str, Callable[..., Any]]] = {}
    for imported in check_module(path.name, path.read_bytes()).outline.imported_functions:
        if imported.module not in ("wasi_snapshot_preview1", "gothreads", "wasi"):
            host.setdefault(imported.module, {})[imported.name] = lambda *_arguments: 0
    limits = gothreads.Limits(memory=256 << 20)
    with (open("/dev/null", "r+b") as null,
          gothreads.open(path, host=host, stdin=b"", stdout=null, stderr=null, callers=4, limits=limits) as app):
        futures = [] if app.loaded.foreign else [app.submit_request("echo", b"x")]
        for title in list(app.exports)[:20]:
            try:
                signature = app.exports[title].signature
                values = {"bool": True, "string": "text", "float32": 0.5, "float64": 0.5}
                futures.append(app.submit(title, *(values.get(p.type, 7) for p in signature.params)))
            except gothreads.GothreadsError:
                break
        endings = set()
        for future in futures:
            try:
                future.result(1)
                endings.add("returned")
            except TimeoutError:
                endings.add("closed meanwhile")
                break
            except gothreads.GothreadsError as error:
                endings.add(type(error).__name__)
        for query in (app.handlers, app.statistics, lambda: app.goroutines(1), lambda: app.wait_idle(1)):
            try:
                query()
            except (TimeoutError, gothreads.GothreadsError) as error:
                if isinstance(error, gothreads.InternalError):
                    raise
    return f"opened, {app.loaded.model}, calls: {', '.join(sorted(endings)) or 'none'}"


if __name__ == "__main__":
    answer_names(sys.stdin, sys.stdout)
