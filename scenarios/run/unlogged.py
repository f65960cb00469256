"""Searches without the log records of the store under test, unless the program has a handler for them.

A search makes a store fail thousands of times, and a store that logs its failures would cover the report with them:
where no handler is configured, Python prints each warning. A replay makes one scenario, and prints them.
"""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Inside this scope, records for which there is no handler are dropped."""
    root = logging.getLogger()
    # With a handler of its own, `logging.warning` configures none, and there is no last resort.
    nothing = logging.NullHandler() if not root.handlers else None
    if nothing is not None:
        root.addHandler(nothing)
    try:
        yield
    finally:
        if nothing is not None:
            root.removeHandler(nothing)
