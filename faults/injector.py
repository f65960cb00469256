"""Injectors: each is called with every operation and returns the fault to carry out, or None.

The shim and the statement depth only describe operations, ask, and carry out. Every *policy* (which operation, when, on
which files) is an injector, and new policies are compositions of these:

- `PlanInjector` follows a fault plan and counts what matched and what fired,
- `OnPath` restricts another injector to the files of one database or one directory,
- `OperationCounter` never fires; it counts, for dry runs.
"""

import fnmatch
import os
from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol

from tornpage.faults import forks
from tornpage.faults.locks import new_lock
from tornpage.faults.plan import FILE_KINDS, STATEMENT_KINDS, VFS_KINDS, Fault, FaultPlan

# A release of a shared-memory lock reaches the shim through the same slot as its acquisition, but only the
# acquisition can be refused and only the release can report an error after the fact: two operations.
SHM_RELEASE = "shmunlock"
# Likewise at the statement depth. A deferred BEGIN touches no file, so only a BEGIN that takes a lock can fail with a
# lock error; a COMMIT takes a lock only with a rollback journal, or if one statement is the whole transaction; and only
# a COMMIT that ends its rollback journal can make the change visible and still report an error.
BEGIN_LOCK = "beginlock"
COMMIT_LOCK = "commitlock"
COMMIT_END = "commitend"
# And a statement inside a transaction takes a lock only where the transaction has none yet, or has only read and now
# writes: only there it can be BUSY; BUSY_SNAPSHOT only with a log, where what was read may not be the newest any more.
STATEMENT_LOCK = "statementlock"
STATEMENT_RISE = "statementrise"
_LOCKS_OF_A_STATEMENT = {"BUSY": STATEMENT_LOCK, "BUSY_SNAPSHOT": STATEMENT_RISE}
_ENDINGS = {"shmlock": SHM_RELEASE, "commit": COMMIT_END}
_MOST_PATHS_KNOWN = 1_000
_ANY_BEFORE = frozenset((*VFS_KINDS, BEGIN_LOCK, "statement", "commit")) - {"unlock"}
_ANY_AFTER = frozenset({"write", "truncate", "sync", "delete", "unlock", SHM_RELEASE, COMMIT_END})


class Injector(Protocol):
    """Decides about operations; `kinds` are the operations that it must be asked about."""

    @property
    def kinds(self) -> frozenset[str]: ...  # noqa: D102 - the class says it

    def decide(self, kind: str, role: str, path: str | None) -> Fault | None:
        """The fault to carry out on this operation, or None to let it pass."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One fault that was carried out: on its `ordinal`-th match (from 1), on this file."""

    fault: Fault
    ordinal: int
    kind: str
    role: str
    path: str | None

    def __str__(self) -> str:
        return f"{self.fault} at {self.kind}:{self.role} #{self.ordinal}"


def operations_of(fault: Fault) -> frozenset[str]:
    """The kinds of operation that a fault can match, including `SHM_RELEASE`, `BEGIN_LOCK` and the like."""
    if fault.effect == "KILL":
        every = (*VFS_KINDS, *STATEMENT_KINDS, SHM_RELEASE, *FILE_KINDS)
        return frozenset(every if fault.kind == "any" else (fault.kind,))
    if fault.kind == "any":
        return _ANY_AFTER if fault.timing == "after" else _ANY_BEFORE
    if fault.kind == "begin" and fault.effect != "NOMEM":
        return frozenset({BEGIN_LOCK})
    if fault.kind == "commit" and fault.effect == "BUSY":
        return frozenset({COMMIT_LOCK})
    if fault.kind == "statement" and fault.effect in _LOCKS_OF_A_STATEMENT:
        return frozenset({_LOCKS_OF_A_STATEMENT[fault.effect]})
    return frozenset({_ENDINGS.get(fault.kind, fault.kind) if fault.timing == "after" else fault.kind})


class PlanInjector:
    """Follows a plan. Each fault counts its own matches; the first one due in plan order is carried out."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.matches = [0] * len(plan.faults)
        self.fired: list[Firing] = []
        # While True, nothing is counted and no fault fires.
        self.paused = False
        self._forks = forks.depth()
        self._operations = [operations_of(fault) for fault in plan.faults]
        self.kinds = frozenset[str]().union(*self._operations)
        # Two connections may run on two threads; a lost count would make the run depend on the scheduler.
        self._lock = new_lock()

    def decide(self, kind: str, role: str, path: str | None) -> Fault | None:
        """Count the operation for each fault that matches it and return the first that is due."""
        due: tuple[Fault, int] | None = None
        if self.paused or self._forks != forks.depth():
            return None
        with self._lock:
            for index, fault in enumerate(self.plan.faults):
                if kind not in self._operations[index]:
                    continue
                if fault.role not in ("any", role) and not _is_meant(fault, path):
                    continue
                self.matches[index] += 1
                if due is None and self.matches[index] in fault.when:
                    due = fault, self.matches[index]
            if due is None:
                return None
            self.fired.append(Firing(due[0], due[1], kind, role, path))
            return due[0]


def _is_meant(fault: Fault, path: str | None) -> bool:
    """Whether a plain file's name matches the pattern that the fault has as its role."""
    return path is not None and fault.kind in FILE_KINDS and fnmatch.fnmatchcase(path.rpartition(os.sep)[2], fault.role)


class OperationCounter:
    """Counts operations by (kind, role) and lets all of them pass."""

    def __init__(self, kinds: frozenset[str] = frozenset((*VFS_KINDS, SHM_RELEASE, *FILE_KINDS))) -> None:
        self.kinds = kinds
        # Adding to a Counter takes twice as long as adding to a plain dict.
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = new_lock()

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """The number of operations so far, by (kind, role)."""
        with self._lock:
            return Counter(self._counts)

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Count, and let it pass."""
        key = kind, role
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1


class UnreadablePart:
    """A part of one of SQLite's files that can't be read: every read that touches it returns IOERR_READ.

    `start` and `stop` are byte offsets. A plan counts operations and has no offsets, so the shim calls `covers`.
    """

    kinds: Final = frozenset({"read"})
    code: Final = 10 | 1 << 8  # SQLITE_IOERR_READ

    def __init__(self, path: str | os.PathLike[str], start: int, stop: int) -> None:
        # SQLite's own full path name has its symbolic links resolved.
        self._path = os.path.realpath(path)
        self._start, self._stop = start, stop
        self.fired = 0

    def decide(self, kind: str, role: str, path: str | None) -> None:
        """Let the read pass: its offset is not known here."""

    def covers(self, path: str | None, size: int, offset: int) -> bool:
        """Whether a read of `size` bytes at `offset` touches the part; counts it if so."""
        touches = path == self._path and offset < self._stop and offset + size > self._start
        self.fired += touches
        return touches


class OnPath:
    """Restricts an injector to the files of one database (with its ``-wal``, ``-journal`` …) or one directory."""

    def __init__(self, inner: Injector, path: str | os.PathLike[str]) -> None:
        self._inner = inner
        # SQLite's own full path name has its symbolic links resolved.
        self._path = os.path.realpath(path)
        self._beside, self._below = self._path + "-", self._path + os.sep
        self.kinds = inner.kinds
        # A cache: the same few paths occur again and again.
        self._known: dict[str | None, bool] = {None: False}

    def decide(self, kind: str, role: str, path: str | None) -> Fault | None:
        """Ask the inner injector about files of this path only, never about files without a name."""
        is_ours = self._known.get(path)
        if is_ours is None and path is not None:
            if len(self._known) >= _MOST_PATHS_KNOWN:
                self._known = {None: False}
            is_ours = self._known[path] = self._is_ours(path)
        return self._inner.decide(kind, role, path) if is_ours else None

    def _is_ours(self, path: str) -> bool:
        if path.startswith(self._beside):
            return os.sep not in path[len(self._beside) :]
        return path == self._path or path.startswith(self._below)
