"""Forking a process that has only imported gothreads, as pre-fork servers do, and one that has opened an app."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.support.interrupted_program import python
from tests.support.modules import built
from tests.support.waiting import PATIENCE, wait_until


def test_the_child_of_a_fork_does_not_wake_the_parents_watcher() -> None:
    assert python("""
        app = gothreads.open(sys.argv[1])
        app.exports.add(1, 2)
        child = os.fork()
        if not child:
            shared = signal.set_wakeup_fd(-1)
            os._exit(0 if shared == -1 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert signal.set_wakeup_fd(-1) != -1  # the parent's is still there
    """, built("calls")) == "0\n"


def test_ctrl_c_in_a_child_leaves_the_parents_call_alone() -> None:
    assert python("""
        app = gothreads.open(sys.argv[1])
        app.exports.add(1, 2)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, b"1")
                while True:  # a signal just before a sleep does not cut it short
                    time.sleep(0.01)
            except KeyboardInterrupt:
                os._exit(0)
        threading.Thread(target=lambda: os.read(reader, 1) and os.kill(child, signal.SIGINT)).start()
        app.exports.sleep(600)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), app.exports.add(1, 2))
    """, built("calls")) == "0 3\n"


def test_in_the_child_of_a_fork_the_thread_that_has_forked_is_the_main_one() -> None:
    """In the child, Ctrl-C ends that thread's call."""
    assert python("""
        from gothreads.engine import interrupt
        threading.stack_size(64 << 20)
        def fork():
            child = os.fork()
            if child:
                codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                return
            try:
                signal.alarm(60)
                if not interrupt.on_main_thread():
                    os._exit(2)
                app = gothreads.open(sys.argv[1])
                kill(0.3)
                app.exports.hang()
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(1)
        codes = []
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        print(codes)
    """, built("calls")) == "[7]\n"


def test_each_process_of_multiprocessing_that_was_forked_opens_an_app() -> None:
    assert python("""
        import multiprocessing
        def work(n):
            global app
            if "app" not in globals():
                app = gothreads.open(sys.argv[1])
            return app.exports.add(n, 1), os.getpid()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            answers = pool.map(work, range(20), chunksize=1)
        print([answer for answer, _ in answers] == list(range(1, 21)))
        with gothreads.open(sys.argv[1]) as app:  # and the parent, afterwards
            print(app.exports.add(1, 2))
    """, built("calls")) == "True\n3\n"


def test_each_worker_of_gunicorn_opens_an_app(tmp_path: Path) -> None:
    """gothreads is imported before the fork (--preload). If a call hangs, gunicorn's timeout handler still runs.

    The test sends the signal of the timeout itself: gunicorn would also send it to a worker whose start takes long.
    """
    aborted, hanging = tmp_path / "aborted", tmp_path / "hanging"
    (tmp_path / "settings.py").write_text(f"def worker_abort(worker):\n    open({str(aborted)!r}, 'w').close()\n")
    (tmp_path / "served.py").write_text(textwrap.dedent(f"""
        import os, threading, time
        import gothreads
        app = None
        def tell_when_inside():
            while not app.statistics().callers.in_use:
                time.sleep(0.01)
            with open({str(hanging)!r} + ".part", "w") as file:
                file.write(str(os.getpid()))
            os.rename(file.name, {str(hanging)!r})
        def application(environ, start_response):
            global app
            if app is None:
                app = gothreads.open({str(built("calls"))!r})
            if environ["PATH_INFO"] == "/hang":
                threading.Thread(target=tell_when_inside).start()
                app.exports.hang()
            body = f"{{app.exports.add(40, 2)}} {{os.getpid()}}".encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        """))
    with socket.socket() as listener, (tmp_path / "log").open("w+") as log:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--timeout", str(int(PATIENCE)),
                   "--config", str(tmp_path / "settings.py"),
                   "--chdir", str(tmp_path), "--bind", f"fd://{listener.fileno()}", "served:application"]

        def ask(path: str) -> http.client.HTTPConnection:
            host, port = listener.getsockname()
            connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
            connection.request("GET", path)
            return connection

        def works() -> bool:
            number, worker = ask("/").getresponse().read().split()
            assert number == b"42"
            workers.add(worker)
            return len(workers) >= 2
        workers: set[bytes] = set()
        with subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=log) as server:
            try:
                wait_until(works)
                hung = ask("/hang")
                wait_until(hanging.exists)
                os.kill(int(hanging.read_text()), signal.SIGABRT)
                wait_until(aborted.exists)
                hung.close()
                workers.clear()
                wait_until(works)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(PATIENCE)
        log.seek(0)
        assert server.returncode == 0, log.read()
