"""Listens to one of the ledger's logs, whatever handlers and levels others have set."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def warnings_of(name: str) -> Iterator[list[logging.LogRecord]]:
    """The warnings and errors of this log in this scope."""
    handler = _Records()
    with heard_by(handler, name):
        yield handler.records


@contextmanager
def heard_by(handler: logging.Handler, name: str) -> Iterator[None]:
    """In this scope the handler gets the warnings of this log; other handlers get no more than without it."""
    log = logging.getLogger(name)
    level, goes_up = log.level, log.propagate
    if not log.isEnabledFor(logging.WARNING):
        log.propagate = False
        # A logger remembers what is enabled until a level is set.
        log.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = goes_up
        log.setLevel(level)
