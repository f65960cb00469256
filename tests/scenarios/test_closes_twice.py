"""A store that closes a file descriptor twice closes one that has the same number by then: a finding, no failed run."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from plain_stores import Kept, Store

from tornpage import faults
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation


class ClosesItsLock(Store):
    """Locks a file beside its own."""

    lock = -1

    def save(self, content: bytes, new: Path) -> None:
        self.lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
        new.write_bytes(content)
        self.moved(new)
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.lock)
        self.lock = -1


class ClosesItTwice(ClosesItsLock):
    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.lock)


class TargetOf(Kept):
    def __init__(self, store: type[Store]) -> None:
        super().__init__()
        self.store = store  # type: ignore[misc]


def played(store: type[Store], home: Path) -> None:
    """A call, a look at the files, and the end; the store's descriptor has another owner by then."""
    target: Any = TargetOf(store)
    with faults.install(), Trial(target, target.configurations[0], home, {}) as trial:
        trial.open()
        trial.call(target.calls[0], {})
        trial.crash_copy()


def test_a_second_close_is_a_violation(tmp_path: Path) -> None:
    with pytest.raises(Violation, match="a file descriptor was closed that the store had not opened"):
        played(ClosesItTwice, tmp_path)
    played(ClosesItsLock, tmp_path)
