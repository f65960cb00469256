"""Searches without what the store under test says of its failures: log records, warnings, its threads and finalizers.

A search makes a store fail thousands of times. Where the program configures no handler, Python prints each warning, and
the traceback of each thread or `__del__` that ends by an error: they would cover the report. A replay makes one
scenario, and prints them. A `__del__` fails also without an error of the system, where opening has set only half of
what it reads: each such error is printed once. Python's own warnings are shown, or are errors, where ``-W``,
``PYTHONWARNINGS`` or pytest decides on them.
"""

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from tornpage.faults.reach.bindings import sqlite_errors


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Inside this scope, such records are dropped, and threads may end by an error of SQLite or the system."""
    root, report, ignored = logging.getLogger(), threading.excepthook, sys.unraisablehook
    shown = set[str]()
    # With a handler of its own, `logging.warning` configures none, and there is no last resort.
    nothing = logging.NullHandler() if not root.handlers else None

    def unless_of_a_fault(args: Any) -> None:
        if not _is_of_a_fault(args.exc_value):
            report(args)

    def unless_shown(args: Any) -> None:
        where = getattr(args.object, "__qualname__", args.err_msg)
        what = f"{where}: {args.exc_value!r}"
        if what not in shown and not _is_of_a_fault(args.exc_value):
            shown.add(what)
            ignored(args)

    if nothing is not None:
        root.addHandler(nothing)
    threading.excepthook, sys.unraisablehook = unless_of_a_fault, unless_shown
    try:
        with _unwarned():
            yield
    finally:
        threading.excepthook, sys.unraisablehook = report, ignored
        if nothing is not None:
            root.removeHandler(nothing)


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    if sys.warnoptions or "pytest" in sys.modules:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_of_a_fault(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from or beside, is one that faults lead to."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, (*sqlite_errors(), OSError, MemoryError)):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
