"""The fresh reader of a trial: reads a store's files past the shim, as a process that starts now would see them."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.at_rest import read_at_rest
from tornpage.scenarios.execution.frames import forget_frames
from tornpage.scenarios.execution.generic_checks.file_modes import StrictUmask
from tornpage.scenarios.execution.generic_checks.sound_files import SoundFiles, content_of
from tornpage.scenarios.execution.reopen import contents_of, is_damage, kept_logs, view_of
from tornpage.scenarios.execution.snapshots import Holder
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Session, Target, TargetError, View

# SQLite's own checks of a file; they are the same for every store.
_SOUND: Final = SoundFiles()


class FreshReader:
    """Reads the files of one directory. `holder` keeps descriptors open until the session there is closed."""

    def __init__(self, target: Target, directory: Path, holder: Holder) -> None:
        # Called first: a rival that blocks every reader releases its lock for ours.
        self.before_reading: list[Callable[[], None]] = []
        self._target = target
        self._directory = directory
        self._holder = holder

    def view(self, session: Session | None, *, integrity: bool) -> View:
        """The view; raises `Violation` if the files can't be read or, with `integrity`, SQLite finds damage.

        `session` is what has the store open, if anything.
        """
        # No fault applies, also not to a second database that `rows` opens by itself; what reading creates is private.
        with faults.spare(), StrictUmask():
            for make_way in self.before_reading:
                make_way()
            if self._target.files_view is not None:
                return self._view_of_plain_files()
            return self._view_of_database(session, integrity=integrity)

    def _view_of_plain_files(self) -> View:
        assert self._target.files_view is not None  # noqa: S101 - asked for above
        try:
            return self._target.files_view(self._directory)
        except Exception as error:  # a file that a fault has torn can make a reader raise anything
            forget_frames(error)
            raise Violation("integrity", f"a fresh reader of the files fails: {error!r}") from error

    def _view_of_database(self, session: Session | None, *, integrity: bool) -> View:
        database = self._database
        # The descriptors are released where the session is closed.
        content = content_of(database, self._holder) if integrity and session is not None else None
        is_known = content is not None and content in _SOUND
        try:
            integrity = integrity and not is_known
            view = read_at_rest(lambda: view_of(self._target, database, integrity=integrity), session)
        except sqlite3.DatabaseError as error:
            code = "integrity" if is_damage(error) else "still-usable-after-the-fault"
            raise Violation(code, f"a fresh reader fails: {error!r}") from error
        except (Violation, TargetError):
            raise
        except Exception as error:  # `rows` may read what a fault has left half done, such as a file
            forget_frames(error)
            raise Violation("integrity", f"a fresh reader of the rows fails: {error!r}") from error
        # A store's own thread may have written meanwhile.
        if content is not None and not is_known and content_of(database, self._holder) == content:
            _SOUND.add(content)
        return view

    def contents(self) -> list[Any]:
        """Every row of the store's database, also those that its view does not show; see `contents_of`."""
        return contents_of(self._database) if self._target.files_view is None else []

    def journal_mode(self) -> str:
        """SQLite's journal mode; "" if there is no database.

        The header alone does not decide it: if there is a log, SQLite uses it whatever the header says.
        """
        database = self._database
        if self._target.files_view is not None or not _has_content(database):
            return ""
        try:
            with kept_logs(database.parent), contextlib.closing(faults.connect_unwatched(database)) as connection:
                return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        except sqlite3.DatabaseError:
            # It can't be read now; the checks that read the file report its errors.
            return ""

    @property
    def _database(self) -> Path:
        return self._target.database(self._directory)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
