"""In a subinterpreter gothreads refuses to be imported, and the main interpreter's calls and traps stay as they are."""

from __future__ import annotations

import pytest

from tests.support.trap_program import WITHOUT, run


@pytest.mark.long
@pytest.mark.parametrize("without", WITHOUT[1:])
def test_a_subinterpreter_is_refused_and_harms_nobody(without: str) -> None:
    done = run("""
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters

        refused = '''
        try:
            import gothreads
        except ImportError as error:
            print(error, flush=True)
        '''
        refused_in_c = f'''
        import importlib.machinery, importlib.util
        loader = importlib.machinery.ExtensionFileLoader("gothreads._fast", {fast.native.__file__!r})
        try:
            importlib.util.module_from_spec(importlib.util.spec_from_loader("gothreads._fast", loader))
        except ImportError as error:
            print(error, flush=True)
        '''
        one, other = app(), app()
        for _ in range(2):
            interpreter = interpreters.create()
            for code in (refused, refused_in_c):
                interpreters.run_string(interpreter, __import__("textwrap").dedent(code))
            interpreters.destroy(interpreter)
        trap(one.exports.trap_if, True)
        later(other, "unreachable", 1)
        trap(other.wait)
    """, without)
    *refused, one, other = done.stdout.splitlines()
    assert (one, other) == ("trapped", "trapped"), done.stderr
    assert ["main interpreter only" in line or "subinterpreters" in line for line in refused] == [True] * 4
    assert "mod_wsgi" in refused[0]


def test_the_extension_is_the_same_when_it_is_imported_again() -> None:
    done = run("""
        first = sys.modules.pop("gothreads._fast")
        import gothreads._fast
        print(gothreads._fast.IdleCallers is first.IdleCallers)
        trap(app().exports.trap_if, True)
    """)
    assert done.stdout == "True\ntrapped\n", done.stderr
