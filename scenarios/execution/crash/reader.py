"""Opens the state that a crash left, with a plain reader and with the target.

Each directory is put down where its files were written, and read by SQLite alone: hot journals are rolled back, the WAL
is recovered, integrity is checked, and the view is taken by plain SQL. Opening the target is dearer; so a verdict is
shared by states in which every file that the store could read is equal: the database by all that is in its tables,
every other file by its content. The target is opened once for each of those, and once for each way in which SQLite's
own files are there (`_shape`), as another process than the one that wrote the files, and has to show what the plain
reader has seen, to pass its own checks and to work. A store may also complete or undo, as it opens, what the crash has
interrupted (it applies a log of its own, removes a row whose file is missing): if the plain reader then sees what the
store shows, that is what the crash has left. Where it does not, each further state that is equal in this way is
opened by itself, too: none is blamed for another one. A store whose Python code touches SQLite's own files (it reads a
header, removes a log that it takes for stale, moves the database away) is opened for each disk that differs in what it
touched (`footprint`).

Equal directories are read once. Of databases that come to the same pages after their recovery the view is taken once.

Not covered: stores that read a database past its log or journal through SQLite (``immutable=1``) or through C code of
their own, and programs in other languages that read or change its files; they are opened once for each of the above.
"""

import contextlib
import hashlib
import os
from collections import deque
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time
from tornpage.scenarios.execution.crash.footprint import Footprint, Touches, name_in, own_there
from tornpage.scenarios.execution.dropped import collected
from tornpage.scenarios.execution.generic_checks.file_modes import StrictUmask
from tornpage.scenarios.execution.in_place import another_process
from tornpage.scenarios.execution.reopen import (
    fresh_view_on,
    is_damage,
    require_integrity,
    require_whole,
    view_of,
    view_without,
)
from tornpage.scenarios.execution.snapshots import Files, is_own, left_open, place
from tornpage.scenarios.model.beats_key import own_keys
from tornpage.scenarios.model.clock import EPOCH_MS
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.refusals import says_no
from tornpage.scenarios.model.target import Configuration, Refused, Session, Target, View, completed, environment_of
from tornpage.scenarios.targets.process import ProcessTarget, WriterLivesError

Identity = tuple[tuple[str, bytes], ...]
AFTER_A_CRASH: Final = "after a crash, opening, looking or one small change"
REFUSED_AFTER_A_CRASH: Final = f"{AFTER_A_CRASH} is refused"
_FEW: Final = 4
# What a database says of itself: a store may ask for it.
_KEPT: Final = ("user_version", "application_id", "journal_mode", "page_size", "auto_vacuum", "encoding")


class _Plain(msgspec.Struct, frozen=True):
    """The result of a plain reader: the view, and a digest of the database's contents."""

    view: View
    content: bytes


Kind = tuple[bytes, Identity]
"""What a store could read: a digest of the database's tables, and its other files."""


class CrashReader:
    """Opens the states of crashes and caches the views."""

    def __init__(self, target: Target, configuration: Configuration) -> None:
        self.target = completed(target)
        self.configuration = configuration
        # Each kind, in the order they were met: what the store touched of SQLite's own files at each of its openings.
        self.opened: dict[Kind, list[Footprint]] = {}
        # Starting from one of these files a recovery may differ: for files beside a database, their presence matters.
        self.beginnings: set[Kind | tuple[bytes, tuple[str, ...]]] = set()
        self.read = 0
        self._seen: dict[Identity, View | Violation] = {}
        self._plain: dict[Kind, _Plain | Violation] = {}
        self._wrong: set[Kind] = set()
        # What the target shows, and a plain reader then, where opening it has changed the view.
        self._recovered: dict[Kind, View] = {}
        # How SQLite's own files were where the target was opened.
        self._shapes: set[tuple[object, ...]] = set()
        self._touches_own = False
        self._last: View = {}
        # By the time at which it is made, for a deterministic target.
        self._beat_adds: dict[int, View] = {}
        # The database that was read last as it is after its recovery; None where there is none, or SQLite can't say.
        self._pages: bytes | None = None
        # Databases after their recovery, each with its digest.
        self._last_pages: deque[tuple[bytes, bytes]] = deque(maxlen=_FEW)

    def knows(self, state: faults.State) -> bool:
        """Whether an equal directory was read before."""
        return state.identity in self._seen

    def view_of(self, state: faults.State, now_ms: int, directory: Path) -> View:
        """The view of the store after the crash; raises `Violation` if it is damaged or can't be opened.

        `directory` is where the files were written. Its contents are overwritten, and no session may be open on it.
        """
        known = self._seen.get(state.identity)
        if known is None:
            try:
                # An interrupt inside SQLite makes its call fail: that is no violation.
                with another_process(), StrictUmask(), faults.shims().telling():
                    known = self._look(state, now_ms, directory)
            except Violation as violation:
                # Without its causes: their frames have the store that could not be opened, and what it holds open.
                known = violation.with_message(violation.message)
            self._seen[state.identity] = known
            if isinstance(known, Violation):
                # A store that could not be opened may be part of a cycle, and hold a lock.
                left_open(directory)
        if isinstance(known, Violation):
            raise known.with_message(known.message)
        return known

    def _look(self, state: faults.State, now_ms: int, directory: Path) -> View:
        self.read += 1
        self._pages = None
        files = dict(state.files)
        place(files, directory)
        # A store of plain files has none, and of others it is asked once: pathlib is not quick.
        database = "" if self.target.files_view is not None else os.fspath(self.target.database(directory))
        others = self._others(state, database, directory)
        try:
            plain = self._read(directory, database, others)
        except Violation as unreadable:
            return self._made_readable(unreadable, state, now_ms, directory)
        shape = self._shape(files, database, directory)
        kind = plain.content, others
        name = name_in(database, directory)
        if kind in self._wrong or shape not in self._shapes or not self._was_opened_on(kind, name, files):
            plain_files = self.target.files_view is not None
            self.beginnings.add(kind if plain_files else (plain.content, tuple([other for other, _ in others])))
            try:
                view = self._open_first(kind, files, plain.view, now_ms, directory, watches=shape not in self._shapes)
            except Violation:
                self._wrong.add(kind)
                raise
            self._shapes.add(shape)
            if view != plain.view:
                self._recovered[kind] = view
            return view
        return self._recovered.get(kind, plain.view)

    def _made_readable(self, unreadable: Violation, state: faults.State, now_ms: int, directory: Path) -> View:
        """What the target shows on files that a plain reader can't read; raises `unreadable` if it can't read on.

        Each of them is opened by itself. A store may complete, replace or remove what a crash has left half done; then
        the reader sees the same as the store, and SQLite finds no damage.
        """
        place(dict(state.files), directory)
        try:
            view = self._open(None, now_ms, directory)
            self.target.check_view(view)
        except Violation:
            raise unreadable from None
        self.beginnings.add((unreadable.message.encode(), ()))
        return view

    def _was_opened_on(self, kind: Kind, name: str, files: Files) -> bool:
        """Whether the target was opened on a disk of this kind that is equal in what it touched there."""
        before = self.opened.get(kind, ())
        if self._touches_own and kind in self._recovered:
            return False
        return any(one.fits(name, files) for one in before) if self._touches_own else bool(before)

    def _others(self, state: faults.State, database: str, directory: Path) -> Identity:
        """The files other than SQLite's files of the one database; all files if the target reads plain files."""
        if self.target.files_view is not None:
            return state.identity
        name = name_in(database, directory)
        return tuple([(one, digest) for one, digest in state.identity if not is_own(one, name)])

    def _shape(self, files: Files, database: str, directory: Path) -> tuple[object, ...]:
        """How SQLite's own files are: which are there, the database's size, and whether it is what they come to.

        The target is opened at least once on each of these, whatever the tables hold: what it does then is seen.
        """
        if self.target.files_view is not None:
            return ()
        name = name_in(database, directory)
        content = files.get(name, b"")
        return own_there(name, files), len(content), content == self._pages

    def _open_first(self, kind: Kind, files: Files, view: View, now_ms: int, directory: Path, *, watches: bool) -> View:
        """Open the target, and check the view that it shows then, or else the plain reader's."""
        place(files, directory)
        database = self.target.database(directory)
        touches = Touches(database, name_in(os.fspath(database), directory), files)
        try:
            # It costs a fifth of an opening.
            with touches.noted() if watches or self._touches_own else contextlib.nullcontext():
                shown = self._open(view, now_ms, directory)
        except Violation:
            self.target.check_view(view)
            raise
        finally:
            self._note(kind, touches)
        self.target.check_view(shown)
        return shown

    def _note(self, kind: Kind, touches: Touches) -> None:
        if touches.seen and not self._touches_own:
            # It was not watched at each of the kinds before.
            self._touches_own = True
            self.opened.clear()
        self.opened.setdefault(kind, []).append(touches.footprint)

    def _read(self, directory: Path, database: str, others: Identity) -> _Plain:
        try:
            return self._read_plainly(directory, database, others)
        except Violation:
            raise
        except Exception as error:  # noqa: BLE001 - files that a crash has torn can make a reader raise anything
            # It is the context of the raised error: its frames would keep cursors alive, and with them the connection.
            error.__traceback__ = None
            code = "still-usable-after-the-fault"
            if not isinstance(error, sqlite3.DatabaseError) or is_damage(error):
                code = "integrity"
            raise Violation(code, f"after a crash, a plain reader fails: {error!r}") from None

    def _read_plainly(self, directory: Path, database: str, others: Identity) -> _Plain:
        if self.target.files_view is not None:
            return _Plain(self._shared(self.target.files_view(directory)), b"")
        if not os.path.exists(database):  # noqa: PTH110
            return _Plain(view_without(self.target, Path(database)), b"")
        if _has_only_a_log(database):
            # A read-only connection leaves the log as it is at close: that is faster than to checkpoint it.
            with contextlib.suppress(sqlite3.OperationalError):
                return self._read_on(database, others, read_only=True)
        return self._read_on(database, others)

    def _read_on(self, database: str, others: Identity, *, read_only: bool = False) -> _Plain:
        """Read on one connection. It may checkpoint a log: the files are placed again afterwards."""
        with contextlib.closing(faults.connect_unwatched(database, read_only=read_only)) as connection:
            pages = self._digest_of_pages(connection)
            known = None if pages is None else self._plain.get((pages, others))
            if known is None:
                known = self._read_database(connection, Path(database), pages)
                if pages is not None:
                    self._plain[pages, others] = known
        if isinstance(known, Violation):
            raise known
        return known

    def _read_database(self, connection: sqlite3.Connection, database: Path, pages: bytes | None) -> _Plain | Violation:
        try:
            require_integrity(connection, self.target)
        except Violation as violation:
            return violation
        content = _digest_of_tables(connection) or pages or b""
        return _Plain(self._shared(fresh_view_on(connection, self.target, database)), content)

    def _digest_of_pages(self, connection: sqlite3.Connection) -> bytes | None:
        """A digest of the database as it is after its recovery, page by page; None where SQLite can't give it."""
        pages = self._pages = _pages(connection)
        if pages is None:
            return None
        # Most disks equal one of the last few: a comparison costs a tenth of a digest.
        digest = next((digest for known, digest in self._last_pages if known == pages), None)
        if digest is None:
            digest = hashlib.blake2b(pages, digest_size=16).digest()
            self._last_pages.append((pages, digest))
        return digest

    def _shared(self, view: View) -> View:
        """Most disks show the same view as the one before: share one object."""
        if view != self._last:
            self._last = view
        return self._last

    def _open(self, view: View | None, now_ms: int, directory: Path) -> View:
        """Open the target itself; it has to open the files, agree with a plain reader, and work; return its view.

        `view` is what the plain reader saw before; None if it could not read the files.
        """
        environment = environment_of(self.target)
        environment.now_ms = now_ms
        try:
            with collected(), in_time(AFTER_A_CRASH):
                session = self.target.open(directory, self.configuration, environment)
                # The small change was made before, maybe at this time: a deterministic target draws other values.
                environment.now_ms += 2
                try:
                    view = self._shown(session, view, directory)
                    self._try_out(session, view, directory, now_ms)
                    self._require_whole(directory)
                finally:
                    session.close()
        except (Violation, WriterLivesError):
            raise
        except TookTooLongError as hang:
            raise Violation("still-usable-after-the-fault", str(hang)) from None
        except Exception as error:
            said = REFUSED_AFTER_A_CRASH if says_no(error) else f"{AFTER_A_CRASH} fails"
            raise Violation("still-usable-after-the-fault", f"{said}: {error!r}") from error
        return view

    def _require_whole(self, directory: Path) -> None:
        database = self.target.database(directory)
        if isinstance(self.target, ProcessTarget) and database.exists():
            with contextlib.closing(faults.connect_unwatched(database)) as connection:
                require_whole(connection, self.target)

    def _shown(self, session: Session, view: View | None, directory: Path) -> View:
        """What the store shows; raises `Violation` unless a plain reader saw it before the opening or sees it now."""
        memory = session.live_view()
        if view is not None and memory == view:
            return view
        disk = self._view_again(directory, integrity=view is None)
        if memory != disk:
            detail = describe(differences(memory, disk), "the reopened store", "a plain reader")
            raise Violation("memory-equals-disk", f"after a crash: {detail}", {"memory": memory, "disk": disk})
        return disk

    def _view_again(self, directory: Path, *, integrity: bool) -> View:
        with faults.spare():
            if self.target.files_view is not None:
                return self.target.files_view(directory)
            return view_of(self.target, self.target.database(directory), integrity=integrity)

    def _try_out(self, session: Session, view: View, directory: Path, now_ms: int) -> None:
        session.self_check()
        try:
            session.call(self.target.heartbeat())
        except Refused:
            pass  # If the small change was made before, the store may refuse it.
        except Exception as error:
            if not says_no(error) or not self._has_the_beat(view, directory, now_ms):
                raise

    def _has_the_beat(self, view: View, directory: Path, now_ms: int) -> bool:
        """Whether the small change was made before; the keys of a deterministic target depend on when.

        A key that the file counts (AUTOINCREMENT) depends on earlier calls: there the entry's content shows it.
        """
        earlier = range(now_ms, EPOCH_MS - 1, -self.target.clock_step_ms)
        steps = earlier if getattr(self.target, "deterministic", False) else (now_ms,)
        contents = [one for one in view.values() if isinstance(one, (str, list, tuple, dict))]
        added = (self._added_by_the_beat(directory, at) for step in steps for at in (step, step + 1))
        return any(view.keys() & one.keys() or any(value in contents for value in one.values()) for one in added)

    def _added_by_the_beat(self, directory: Path, now_ms: int) -> View:
        """What the small change adds to the view of an empty store, created beside `directory`."""
        at = now_ms if getattr(self.target, "deterministic", False) else 0
        if at not in self._beat_adds:
            home = directory.with_name(f"{directory.name}.beat")
            place({}, home)
            environment = environment_of(self.target)
            environment.now_ms = now_ms
            with collected():
                session = self.target.open(home, self.configuration, environment)
                try:
                    session.call(self.target.heartbeat())
                    self._beat_adds[at] = own_keys(session.live_view(), self.target.beat_touches)
                finally:
                    session.close()
        return self._beat_adds[at]


def _has_only_a_log(database: str) -> bool:
    """Whether there is a log to recover and no journal, which a connection that can't write could not roll back."""
    return os.path.exists(f"{database}-wal") and not os.path.exists(f"{database}-journal")  # noqa: PTH110


def _pages(connection: sqlite3.Connection) -> bytes | None:
    """The recovered database; None if SQLite can't read it."""
    serialize: Any = getattr(connection, "serialize", None)
    if serialize is None:
        return None
    try:
        return bytes(serialize())
    except (sqlite3.Error, MemoryError):
        return None


def _digest_of_tables(connection: sqlite3.Connection) -> bytes | None:
    """A digest of the schema, all rows, and what the header says; None where they can't be read."""
    cursor = connection.cursor()
    cursor.row_factory = None
    factory, connection.text_factory = connection.text_factory, bytes
    digest = hashlib.blake2b(digest_size=16)
    try:
        schema = cursor.execute("SELECT type, name, sql, rootpage > 0 FROM sqlite_master ORDER BY 1, 2").fetchall()
        kept = [cursor.execute(f"PRAGMA {name}").fetchall() for name in _KEPT]
        digest.update(msgspec.msgpack.encode((schema, kept)))
        for kind, name, _, is_stored in schema:
            if kind == b"table" and is_stored:
                quoted = name.decode().replace('"', '""')
                rows = cursor.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - the name is the schema's own
                digest.update(msgspec.msgpack.encode(rows.fetchall()))
    except (sqlite3.Error, MemoryError, UnicodeDecodeError, OverflowError):
        return None
    finally:
        connection.text_factory = factory
        cursor.close()
    return digest.digest()
