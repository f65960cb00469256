"""A subinterpreter and the shim exclude each other, in both orders; without that the process would abort."""

import subprocess
import sys
from collections.abc import Callable

import pytest

Child = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 interpreters share their memory")

_BEGIN = """
    from tornpage import faults
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    CODE = "import sqlite3; c = sqlite3.connect('a.db'); c.execute('CREATE TABLE IF NOT EXISTS t(a)'); c.close()"
"""


def test_none_is_made_inside_a_scope_and_one_can_be_made_after_it(child: Child) -> None:
    done = child(
        _BEGIN
        + """
    with faults.install(), faults.arm("any@1000000=IOERR"):
        try:
            interpreters.create()
        except faults.SubinterpreterError as error:
            print(error)
    other = interpreters.create()
    interpreters.run_string(other, CODE)
    interpreters.destroy(other)
    """
    )
    assert done.returncode == 0, done.stderr
    assert "no subinterpreter can be made inside faults.install()" in done.stdout


def test_where_there_is_one_nothing_is_installed(child: Child) -> None:
    done = child(
        _BEGIN
        + """
    other = interpreters.create()
    try:
        faults.install().__enter__()
    except faults.SubinterpreterError as error:
        print(error)
    interpreters.run_string(other, CODE)
    interpreters.destroy(other)
    with faults.install():
        pass
    """
    )
    assert done.returncode == 0, done.stderr
    assert "this process has 1 subinterpreter: " in done.stdout
