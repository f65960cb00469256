"""Whether what a call does to files depends on the last checkpoint: the check ``checkpoints-change-nothing``.

In WAL mode what was committed lies in the log until a checkpoint has written it back, and both hold the same state. So
on two copies of the store's files the small change is made, and then the call; on the second one the log is written
back between them.

- A file beside the database that is a copy of it there, with the rows from before or after the call, has to be one on
  the first, too: who copies the database file without its log loses the newest changes.
- A row that the call changes there may not be as before on the first: who puts another file in the place of the
  database and leaves the log there gets the old pages back.

Each is made twice, and what differs from run to run is not compared. Not covered: copies that are no SQLite database,
such as archives, and what is copied while another caller writes.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.file_sizes import write_back
from tornpage.scenarios.execution.reopen import contents_of, view_of
from tornpage.scenarios.execution.snapshots import Files, is_own, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View

_CODE: Final = "checkpoints-change-nothing"
_MAGIC: Final = b"SQLite format 3\0"
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Left(NamedTuple):
    """What a call has left: the rows of the database, or the error in reading them, and of each other one."""

    view: View
    damage: str
    rows: list[Any]
    others: dict[str, list[Any]]


class WrittenBack:
    """Makes calls of one target on copies of files; `home` is a directory of its own."""

    def __init__(self, target: Target, configuration: Configuration, home: Path) -> None:
        self._target, self._configuration, self._home = target, configuration, home

    def require_the_same(self, action: Action, files: Files, now_ms: int) -> None:
        """Require that a call does the same where the log has been written back before it; raises `Violation`."""
        try:
            before = self._made(None, files, now_ms, is_back=True)
            starts, ends = (
                [self._made(action, files, now_ms, is_back=is_back) for _ in range(2)] for is_back in (False, True)
            )
        except Violation:
            # Closing it fails: that is for other checks.
            return
        except Exception as error:
            raise TargetError(f"a copy of its files can't be opened and read: {error!r}") from error
        self._require_rows(action, before.view, starts, ends)
        self._require_copies(action, before, starts, ends)

    def _made(self, action: Action | None, files: Files, now_ms: int, *, is_back: bool) -> _Left:
        place(files, self._home)
        with Trial(self._target, self._configuration, self._home, {}) as trial:
            trial.environment.now_ms = now_ms
            trial.open()
            trial.ask(self._target.heartbeat())
            if is_back:
                write_back(self._target.database(self._home))
            if action is not None:
                trial.ask(action)
        return self._looked()

    def _looked(self) -> _Left:
        database = self._target.database(self._home)
        own = str(database.relative_to(self._home))
        paths = (path for path in sorted(self._home.rglob("*")) if path.is_file())
        others = {
            name: contents_of(path)
            for path in paths
            if not is_own(name := str(path.relative_to(self._home)), own) and _is_one(path)
        }
        try:
            view, damage = view_of(self._target, database, integrity=True), ""
        except Violation as error:
            view, damage = {}, error.message
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
            view, damage = {}, repr(error)
        return _Left(view, damage, contents_of(database), others)

    def _require_copies(self, action: Action, before: _Left, starts: list[_Left], ends: list[_Left]) -> None:
        for name in ends[0].others:
            is_a_copy = all(name in one.others and one.others[name] in (before.rows, one.rows) for one in ends)
            is_none = all(one.others.get(name) not in (before.rows, one.rows) for one in starts)
            if is_a_copy and is_none:
                raise Violation(
                    _CODE,
                    f"{action} leaves in {name} a copy of the database that has not what was committed before; where "
                    "the log has been written back before it, it has",
                )

    def _require_rows(self, action: Action, before: View, starts: list[_Left], ends: list[_Left]) -> None:
        if ends[0].damage or ends[0].view != ends[1].view:
            return
        if starts[0].damage and starts[1].damage:
            message = f"{action} leaves a database that is damaged: {starts[0].damage}"
            raise Violation(_CODE, f"{message}; where the log has been written back before it, it is whole")
        after, wanted = starts[0].view, ends[0].view
        again = [one for one in differences(after, wanted) if before.get(one.key, ABSENT) == after.get(one.key, ABSENT)]
        if again and starts[1].view == after:
            message = f"{action} leaves what was there before: {describe(again, 'the file', 'the file then')}"
            raise Violation(_CODE, f"{message}, where the log has been written back before it")


def _is_one(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
