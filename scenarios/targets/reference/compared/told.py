"""What one call of a session has said: its answer, the notifications of observers, the lines of a recovery's log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from tornpage.scenarios.targets.reference.logs import heard_by

_RECOVERY_LOG: Final = logging.getLogger("ledger.recovery")

Event = tuple[str, str, Any, Any]


class Told(msgspec.Struct):
    """The result of one call of a session, and its circumstances.

    `answer` is its return value as data; `error` the name of the ledger's error that refused it, `reason` its text;
    `heard` the notifications of observers; `lines` those of a recovery's log, and `doubts` those that report an unknown
    result; `sent` the receiver's messages. `circumstances` are fields of the model's `World`; `readings` the times at
    which it read the clock; `is_overtaken` whether another process's call was made in the middle of it.
    """

    answer: Any = None
    error: str | None = None
    reason: str = ""
    heard: list[Event] = []
    lines: list[str] = []
    doubts: list[str] = []
    sent: list[Any] = []
    circumstances: dict[str, Any] = {}
    readings: list[int] = []
    is_overtaken: bool = False
    # After a failed COMMIT the rows could not be read again.
    is_suspect: bool = False


class _Lines(logging.Handler):
    def __init__(self, told: Told) -> None:
        super().__init__(logging.WARNING)
        self.told = told

    def emit(self, record: logging.LogRecord) -> None:
        # Files of dead workers that stay for now are housekeeping.
        if (line := record.getMessage()).startswith(("[recovery] run ", "[outbox] message ")):
            self.told.lines.append(line)
        elif line.startswith("[recovery] it is unknown whether"):
            self.told.doubts.append(line)


@contextmanager
def recovery_lines(told: Told) -> Iterator[None]:
    """Add each line of recovery's log about runs to `told`, whatever handlers are installed; once inside another scope.

    The lines of a recovery in a batch come when that commits.
    """
    if any(isinstance(one, _Lines) and one.told is told for one in _RECOVERY_LOG.handlers):
        yield
        return
    with heard_by(_Lines(told), _RECOVERY_LOG.name):
        yield


@contextmanager
def pass_lines(told: Told) -> Iterator[None]:
    """Add each line of a pass over the outbox about a message to `told`, in the order of their texts."""
    try:
        with heard_by(_Lines(told), "ledger.outbox"):
            yield
    finally:
        told.lines.sort()
