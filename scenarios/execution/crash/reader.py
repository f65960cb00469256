"""Reading what a crash left: what a plain reader finds, and what the target makes of it.

Each directory is read by SQLite alone: hot journals are rolled back, the WAL is recovered, integrity is checked, and
the view is taken by plain SQL. Opening the target is dearer, and what it meets is what the plain reader has seen; so it
is opened once for each distinct view and set of files, and has to show the same, to pass its own checks and to work.

Equal directories are read once.
"""

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.reopen import is_damage, view_of
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.model.checks import Violation, describe, differences
from tornpage.scenarios.model.target import Configuration, Environment, Refused, Session, Target, View

Identity = tuple[tuple[str, bytes], ...]


class CrashReader:
    """Opens the states of crashes, in a directory of its own, and remembers what they showed."""

    def __init__(self, target: Target, configuration: Configuration, directory: Path) -> None:
        self.target = target
        self.configuration = configuration
        self.directory = directory
        # One representative of each distinct view and set of files, in the order they were met.
        self.classes: dict[tuple[bytes, tuple[str, ...]], faults.State] = {}
        self.read = 0
        self._seen: dict[Identity, View | Violation] = {}
        self._views: dict[bytes, View] = {}
        self._last: tuple[View, bytes] | None = None
        # What was wrong with a class, whichever of its states showed it.
        self._wrong: dict[tuple[bytes, tuple[str, ...]], Violation] = {}

    def view_of(self, state: faults.State, now_ms: int) -> View:
        """What the store shows after the crash; raises `Violation` where it is damaged or can't be opened."""
        known = self._seen.get(state.identity)
        if known is None:
            try:
                known = self._look(state, now_ms)
            except Violation as violation:
                known = violation
            self._seen[state.identity] = known
        if isinstance(known, Violation):
            raise known.with_message(known.message)
        return known

    def _look(self, state: faults.State, now_ms: int) -> View:
        self.read += 1
        place(dict(state.files), self.directory)
        view = self._plain_view(state.files.keys())
        # Most disks show the same as the one before.
        if self._last is None or view != self._last[0]:
            encoded = msgspec.json.encode(view, order="deterministic")
            self._last = self._views.setdefault(encoded, view), encoded
        view, encoded = self._last
        kind = (encoded, tuple(name for name, _ in state.identity))
        if kind not in self.classes:
            self.classes[kind] = state
            try:
                self._open_first(state, view, now_ms)
            except Violation as violation:
                self._wrong[kind] = violation
        if kind in self._wrong:
            raise self._wrong[kind]
        return view

    def _open_first(self, state: faults.State, view: View, now_ms: int) -> None:
        if check := getattr(self.target, "check_view", None):
            check(view)
        place(dict(state.files), self.directory)
        self._open(view, now_ms)

    def _plain_view(self, files: Collection[str]) -> View:
        try:
            return self._read_plainly(files)
        except Violation:
            raise
        except Exception as error:  # noqa: BLE001 - files that a crash has torn can make a reader fail in any way
            # It is the context of what is raised: its frames would keep cursors, and with them the connection.
            error.__traceback__ = None
            code = "still-usable-after-the-fault"
            if not isinstance(error, sqlite3.DatabaseError) or is_damage(error):
                code = "integrity"
            raise Violation(code, f"after a crash, a plain reader fails: {error!r}") from None

    def _read_plainly(self, files: Collection[str]) -> View:
        read_files = getattr(self.target, "files_view", None)
        if read_files is not None:
            found: View = read_files(self.directory)
            return found
        database = self.target.database(self.directory)
        if not database.exists():
            return {}
        # Nobody reads what comes of a WAL that is written back. A hot journal, though, has to be rolled back first.
        keeps_log = f"{database.name}-wal" in files and not any(name.endswith("-journal") for name in files)
        return view_of(self.target, database, integrity=True, keeps_log=keeps_log)

    def _open(self, view: View, now_ms: int) -> None:
        """The target itself has to open it, to agree with the plain reader, and to work."""
        environment = Environment()
        environment.now_ms = now_ms
        try:
            session = self.target.open(self.directory, self.configuration, environment)
            try:
                self._try_out(session, view)
            finally:
                session.close()
        except Violation:
            raise
        except Exception as error:
            message = f"after a crash, opening, looking or one small change fails: {error!r}"
            raise Violation("still-usable-after-the-fault", message) from error

    def _try_out(self, session: Session, view: View) -> None:
        memory = session.live_view()
        if memory != view:
            detail = describe(differences(memory, view), "the reopened store", "a plain reader")
            raise Violation("memory-equals-disk", f"after a crash: {detail}", {"memory": memory, "disk": view})
        session.self_check()
        # Where the small change has been made before, the store may say no to it.
        with contextlib.suppress(Refused):
            session.call(self.target.heartbeat())
