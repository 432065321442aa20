"""Runs Python programs with an app whose module traps."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from gothreads.engine import extension
from tests.support.modules import built
from tests.support.waiting import PATIENCE

_HEAD = """
    import faulthandler, io, os, signal, sys, threading
    import gothreads
    from gothreads.engine import extension as fast
    if {without_c}:
        fast.native = None

    def app():
        host = {{"env": dict.fromkeys(["block", "raises", "close"], lambda: None)}}
        app = gothreads.open({faults!r}, stdout=io.BytesIO(), stderr=io.BytesIO(), host=host)
        app.exports.trap_if(False)
        return app

    def later(app, kind, milliseconds):
        try:
            app.exports.fault_later(kind, milliseconds)
        except gothreads.GuestTrap:
            pass  # it was so before the call had returned

    def trap(function, *args):
        try:
            function(*args)
        except gothreads.GuestTrap as error:
            print("trapped", flush=True)
"""


WITHOUT = ["C", "calls in C", "nothing"]


def run(code: str, without: str = "nothing") -> subprocess.CompletedProcess[str]:
    """Run a program that has `app` and `trap`. `without`: "C" (no C extension), "calls in C", or "nothing"."""
    if without != "C" and extension.native is None:
        pytest.skip(f"without C: {extension.missing}")
    head = textwrap.dedent(_HEAD).format(faults=str(built("faults")), without_c=without == "C")
    return subprocess.run([sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True,
                          timeout=PATIENCE,
                          env=os.environ | {"GOTHREADS_FAST": "1" if without == "nothing" else "0"})
