"""Scripts of a driver that fails twice in a row, or lets another process come between any two statements."""

from collections.abc import Iterator
from typing import Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import call

_MODES: Final = (("wal", "full", True), ("wal", "normal", False), ("delete", "extra", False))


def two_faults() -> Iterator[Action]:
    """A second fault while the first one is handled, in a change and in a batch."""
    for journal_mode, synchronous, batch in _MODES:
        yield call("driver.pairs", journal_mode=journal_mode, synchronous=synchronous, batch=batch)


def durable_imports() -> Iterator[Action]:
    """Imports at levels that may lose the newest commits."""
    for journal_mode, synchronous in (("wal", "normal"), ("delete", "full"), ("truncate", "normal")):
        yield call("driver.imports", journal_mode=journal_mode, synchronous=synchronous)


def two_openers() -> Iterator[Action]:
    """Another process opens the same directory in the middle of an opening."""
    for before in ("nothing", "version 1"):
        yield call("driver.openers", before=before)


SCRIPTS: Final = (two_faults, durable_imports, two_openers)
