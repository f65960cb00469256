"""A process that C code ends, such as a library under test that crashes where SQLite reports an error."""

import contextlib
import faulthandler
import signal
from typing import Final

_CRASHES: Final = frozenset((signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE))


def show_the_stack() -> None:
    """Let this process print Python's stack if it crashes; not without a standard error of its own."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):
        faulthandler.enable()


def why_it_died(exit_code: int | None) -> str:
    """What the second death of a process that runs a part says of the code under test."""
    name = next((one.name for one in _CRASHES if exit_code == -one), None)
    if name is None:
        return "its process died twice: was it killed, or did memory run out?"
    return f"its process crashed twice, by {name}: standard error has the line of Python's code that it was in"
