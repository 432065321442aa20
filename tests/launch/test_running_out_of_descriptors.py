"""Descriptors: one allowance for all instances of an app; and what becomes of `open` where the process has none
left.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import gothreads
from gothreads import Limits
from tests.support.modules import MODELS, built, opened
from tests.support.waiting import PATIENCE, together


def test_the_limit_on_files_is_of_all_instances_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    def ends(n: int) -> int:
        raise LookupError(n)
    with opened("patient", "pool", instances=4, mounts={"/m": tmp_path}, stderr=io.BytesIO(), limits=Limits(files=60),
                host={"env": {"call_again": ends}}) as app:
        alone = app.exports.open_files("/m/file", 1000)
        assert 60 - 3 * 7 - 10 <= alone < 60 - 3 * 7  # 7 are left for each of the others, to begin with
        assert app.exports.open_files("/m/file", 5) == 5  # they were closed
        together(*[lambda: app.exports.open_files("/m/file", 1000)] * 4)
        for _ in range(60):  # an instance that is replaced gives back what it had
            with pytest.raises(gothreads.GuestError):
                app.exports.again(1)
        assert app.exports.open_files("/m/file", 1000) == alone


def test_an_instance_that_has_all_files_does_not_keep_another_from_beginning_anew(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    holds, held = threading.Event(), threading.Event()

    def call_again(n: int) -> int:
        if n:
            raise LookupError(n)
        held.set()
        holds.wait(PATIENCE)
        return 0
    with opened("patient", "pool", instances=2, mounts={"/m": tmp_path}, stderr=io.BytesIO(), limits=Limits(files=30),
                host={"env": {"call_again": call_again}}) as app:
        greedy = app.submit("hold_files", "/m/file", 1000)
        assert held.wait(PATIENCE)
        for _ in range(3):
            with pytest.raises(gothreads.HostFunctionError):
                app.exports.again(1)
            assert app.exports.open_files("/m/file", 1) == 1
        holds.set()
        assert greedy.result(PATIENCE) >= 10


#: Opens a module, with ever fewer descriptors left for it, until there are none; prints what came of it and how many
#: were lost.
FEWER = """
import gc, json, logging, os, resource, sys
import psutil
import gothreads
logging.disable()
module, model, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
async def answer(payload): return payload

def attempt():
    try:
        with gothreads.open(module, model=model, host={"env": {"call_again": lambda n: n}}, handlers={"answer": answer}, **options) as app:
            return "opened " + str(app.exports.add(1, 2))
    except gothreads.GothreadsError as error:
        return f"{type(error).__name__}: {error}"

def closed():  # what an app has is freed behind the error
    gc.collect()
    return psutil.Process().num_fds()
assert attempt() == "opened 3"
before = closed()
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
free, said = 24, []
while free >= 0:
    taken = []
    while len(taken) + before < 256 - free:
        taken.append(os.dup(2))
    outcome = attempt()
    for fd in taken:
        os.close(fd)
    gothreads.runtime.process.close_all()
    said.append((free, outcome, closed() - before))
    free -= 1
print(json.dumps(said))
"""


@pytest.mark.long
@pytest.mark.parametrize("model", MODELS)
def test_without_descriptors_open_says_so_and_loses_none(model: str, tmp_path: Path) -> None:
    options = {"mounts": {"/m": str(tmp_path)}, "stdin": None} | ({"listen": ["127.0.0.1:0"]} if model != "pool"
                                                                  else {"instances": 2})
    module = built("patient", model="threaded" if model == "threaded" else "single")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(FEWER), module, model, json.dumps(options)],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    for _, outcome, lost in outcomes:
        assert outcome == "opened 3" or "raise the limit" in outcome or "too many open files" in outcome.lower(), outcomes
        assert lost == 0, outcomes
    assert outcomes[0][1] == "opened 3"
    assert "raise the limit" in outcomes[-1][1]
