"""Real lock contention: a rival takes a lock just before the nth operation of a store, and releases it later.

Method. An injector that never fires counts the store's lock operations. At the nth of a kind it makes a rival take a
real lock, on another connection of this process or in a separate process, and then lets the operation pass. So two
users of one database are interleaved at every point where a lock can matter, with one thread and without sleeping. The
rival never waits: if it can't get its lock it has *missed*, and nothing is counted.

The rival releases its lock at the end of the scope, or when the store has waited `held_ms` in virtual time (in SQLite's
busy handler, or in Python: `faults.contention.virtual_time`) and tries again.

Evidence that the rival blocked the store: `refused`, the store's lock operations that failed while the rival held its
lock; `waited_ms`, the time that the store slept meanwhile; and BUSY errors that reached the caller (`saw`). `contended`
is True if there is at least one of the three.

Faults that are armed for the same files also hit a rival on a connection of this process. Not covered: two rivals at
once.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from tornpage.faults.contention.kinds import RIVAL_KINDS, RivalPlace, perform
from tornpage.faults.contention.process import RivalProcess, shared_rival_process
from tornpage.faults.contention.virtual_time import VirtualTime, virtual_time
from tornpage.faults.errors import FaultError, NotInstalledError
from tornpage.faults.injector import OnPath
from tornpage.faults.locks import new_reentrant_lock
from tornpage.faults.plan import Fault
from tornpage.faults.reach.bindings import result_code
from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.arm import causes, connect_beside
from tornpage.faults.vfs.shims import shims

LOCKING: Final = frozenset({"lock", "shmlock"})
_REFUSALS: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
# A limit of the process's memory is also one for a rival in it.
_NOT_TAKEN: Final = (sqlite3.Error, MemoryError)


class RivalError(FaultError):
    """An invalid rival: an unknown kind, operation or place."""


class _Overheard(Fault):
    """Changes no result; the shim reads `code` only if the operation succeeded, and that counts a granted lock."""

    __slots__ = ("_rival",)
    _rival: "Rival"

    @classmethod
    def by(cls, rival: "Rival") -> "_Overheard":
        made = cls("lock", "OK", "db", timing="after")
        object.__setattr__(made, "_rival", rival)
        return made

    @property
    def code(self) -> int:
        """OK; as a side effect, count that the store got its lock."""
        self._rival.granted += 1
        return 0


class Rival:
    """A rival for one scope; `contend` makes one. See the module for what its counts mean."""

    kinds = LOCKING

    def __init__(
        self,
        kind: str,
        operation: str,
        ordinal: int,
        *,
        held_ms: int | None = None,
        journal_mode: str | None = None,
        process: RivalProcess | None = None,
        clock: VirtualTime,
    ) -> None:
        self.kind = RIVAL_KINDS[kind]
        self.operation = operation
        self.ordinal = ordinal
        self.held_ms = held_ms
        self.journal_mode = journal_mode
        self.seen = self.asked = self.granted = self.surfaced = 0
        self.missed: str | None = None
        self.was_held = self.holds = False
        self._process = process
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._waited_us = self._slept_before_us = 0
        self._working = self._paused = False
        self._overheard = _Overheard.by(self)
        # A store may use its connections on several threads; they share this one rival.
        self._lock = new_reentrant_lock()

    # -- evidence ------------------------------------------------------------------------------------------

    @property
    def refused(self) -> int:
        """How many lock operations failed while the rival held its lock."""
        return self.asked - self.granted

    @property
    def waited_ms(self) -> float:
        """How long the store has waited in virtual time while the rival held its lock, in milliseconds."""
        now = self._clock.slept_us - self._slept_before_us if self.holds else 0
        return (self._waited_us + now) / 1000

    @property
    def contended(self) -> bool:
        """Whether the rival blocked the store."""
        return self.was_held and bool(self.refused or self.waited_ms or self.surfaced)

    @property
    def fired(self) -> int:
        """1 if the rival blocked the store."""
        return int(self.contended)

    def saw(self, error: BaseException) -> bool:
        """Report an error that reached a caller; True if SQLite reported BUSY in it and the rival held its lock."""
        if not self.was_held or not any(is_busy(cause) for cause in causes(error)):
            return False
        self.surfaced += 1
        return True

    # -- the injector --------------------------------------------------------------------------------------

    def decide(self, kind: str, role: str, path: str | None) -> Fault | None:
        """Take or release the rival's lock if it is time; the operation always passes."""
        with self._lock:
            if self._working or self._paused or role != "db" or path is None:
                return None
            if self.holds and self.held_ms is not None and self.waited_ms >= self.held_ms:
                self.let_go()
            elif kind == self.operation and self.seen < self.ordinal:
                self.seen += 1
                if self.seen == self.ordinal:
                    self._take(path)
            if not self.holds:
                return None
            self.asked += 1
            return self._overheard

    def _take(self, path: str) -> None:
        self._working = True
        try:
            if self._process is not None:
                self.missed = self._process.take(self.kind, path, self.journal_mode) or None
            else:
                self.missed = self._take_here(path)
            self.was_held = self.holds = self.missed is None
        finally:
            self._working = False
            self._slept_before_us = self._clock.slept_us

    def _take_here(self, path: str) -> str | None:
        try:
            self._connection = connect_beside(path)
            perform(self._connection, self.kind, self.journal_mode)
        except _NOT_TAKEN as error:
            self._close_here()
            return str(error) or "no memory"
        return None

    def _close_here(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(*_NOT_TAKEN):
            connection.execute("ROLLBACK")
        connection.close()

    # -- releasing -----------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Roll back the rival's transaction and close its connection; may be called twice."""
        with self._lock:
            if not self.holds:
                return
            self._waited_us += self._clock.slept_us - self._slept_before_us
            self.holds = False
            self._working = True
            try:
                if self._process is not None:
                    self._process.release()
                else:
                    self._close_here()
            finally:
                self._working = False

    def make_way(self) -> None:
        """Release the lock if it prevents other users from reading."""
        if self.kind.shuts_readers_out:
            self.let_go()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside this scope; a rival that holds its lock releases it and doesn't take it again."""
        self.let_go()
        outer, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = outer

    def __str__(self) -> str:
        state = "never came" if not self.was_held else f"{self.refused} refused, {self.waited_ms:.0f} ms waited"
        return f"{self.kind.name} at {self.operation}@{self.ordinal}: {state}"


def is_busy(error: BaseException) -> bool:
    """Whether SQLite reports a lock that another connection holds: BUSY, LOCKED or PROTOCOL."""
    code = result_code(error)
    return code is not None and code & 0xFF in _REFUSALS


@contextlib.contextmanager
def contend(
    kind: str,
    operation: str,
    ordinal: int,
    path: str | os.PathLike[str],
    *,
    place: RivalPlace = "connection",
    held_ms: int | None = None,
    journal_mode: str | None = None,
) -> Iterator[Rival]:
    """Make a rival take its lock just before an operation of the store; `path` is a database or a directory.

    `kind` is one of `RIVAL_KINDS`; `operation` is "lock" or "shmlock", `ordinal` counts from 1; `held_ms` is virtual
    time, None for as long as the scope lasts; `journal_mode` is the store's. Raises `RivalError` for an unknown kind,
    operation or place, `NotInstalledError` outside `install`, and at the end any exception that a callback kept.
    """
    if kind not in RIVAL_KINDS or operation not in LOCKING or place not in RIVAL_KINDS[kind].places or ordinal < 1:
        known = ", ".join(f"{one.name} ({' or '.join(one.places)})" for one in RIVAL_KINDS.values())
        raise RivalError(
            f"no rival {kind!r} in a {place} at {operation}@{ordinal}; there are {known}, at lock@N or shmlock@N"
        )
    shim = shims()
    if not shim.is_installed:
        raise NotInstalledError("let rivals contend inside `with faults.install():`, or no file is watched")
    with contextlib.ExitStack() as scope:
        process = scope.enter_context(shared_rival_process()) if place == "process" else None
        clock = scope.enter_context(virtual_time(shim))
        rival = Rival(
            kind, operation, ordinal, held_ms=held_ms, journal_mode=journal_mode, process=process, clock=clock
        )
        scope.enter_context(shim.telling())
        scope.callback(rival.let_go)
        scope.enter_context(shim.watching(OnPath(rival, path)))
        yield rival
