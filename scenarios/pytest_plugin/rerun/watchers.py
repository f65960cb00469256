"""Injectors around a run: which operations it makes, which databases it opens, whether it may have committed.

None of them injects a fault. `Unsynced` skips the wait of a sync: no power fails while a test runs, so the test can't
see a difference, and a sweep on a real disk takes a tenth of the time.
"""

import threading
from dataclasses import dataclass
from typing import Final

from tornpage import faults
from tornpage.scenarios.pytest_plugin.points import Operation

_LASTING: Final = frozenset({"db", "wal", "journal"})


@dataclass(frozen=True, slots=True)
class _Done(faults.Fault):
    """A result that replaces an operation: it is skipped, and reported as done."""

    @property
    def code(self) -> int:
        """SQLITE_OK."""
        return 0


_DONE: Final = _Done("sync", "OK")


class Unsynced:
    """Asks another injector, and skips syncs that it does not fault; not while they are recorded."""

    def __init__(self, shim: faults.Shims, inner: faults.Injector | None = None) -> None:
        self._shim = shim
        self._inner = inner
        self._asked = inner.kinds if inner is not None else frozenset[str]()
        self.kinds = self._asked | {"sync"}

    def decide(self, kind: str, role: str, path: str | None) -> faults.Fault | None:
        """The other's decision, else that a sync is skipped."""
        fault = self._inner.decide(kind, role, path) if self._inner is not None and kind in self._asked else None
        if fault is None and kind == "sync" and not self._shim.is_recording:
            return _DONE
        return fault


class Operations:
    """Every operation, in its order."""

    kinds = frozenset((*faults.VFS_KINDS, faults.SHM_RELEASE, *faults.FILE_KINDS))

    def __init__(self) -> None:
        self.made: list[Operation] = []
        # The threads that made them.
        self.workers: set[int] = set()
        self._lock = threading.Lock()

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Write it down."""
        with self._lock:
            self.made.append((kind, role))
            self.workers.add(threading.get_ident())


class Workers:
    """The threads that work below SQLite: each makes one of a few kinds of operation."""

    kinds = frozenset({"open", "read", "lock"})

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Write the thread down."""
        self.seen.add(threading.get_ident())


class Databases:
    """The files that are opened as databases, and whether any other operation than an open was made."""

    kinds = frozenset({"open"})

    def __init__(self) -> None:
        self.paths: dict[str, None] = {}

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Write it down."""
        if role == "db" and path is not None:
            self.paths[path] = None


class Commits:
    """Whether something may have been committed between `reset` and the fault: a lock was released after a write.

    That is the end of every transaction that wrote, also of one that was rolled back: the answer errs on the safe side.
    """

    kinds = frozenset({"write", "unlock", faults.SHM_RELEASE})

    def __init__(self, armed: faults.Armed) -> None:
        self._armed = armed
        self.reset()

    def reset(self) -> None:
        """Start again."""
        self._wrote = self.may_have_committed = False

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Count operations until the fault has fired."""
        if self._armed.firings:
            return
        if kind != "write":
            self.may_have_committed |= self._wrote
        elif role in _LASTING:
            self._wrote = True
