"""The reference ledger as a target; known bugs are the same target with one part replaced.

An action is named after the part and the method that it calls (``tasks.start``, ``outbox.ack``); a few do more.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tornpage.faults.sqlite_library import sqlite3
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Action, Configuration, Environment, Machine, Session, Target, View
from tornpage.scenarios.targets.reference.compared.lockstep import check_call
from tornpage.scenarios.targets.reference.compared.looks import check_lists, check_looks
from tornpage.scenarios.targets.reference.draws.simpler_actions import simpler_actions
from tornpage.scenarios.targets.reference.environment import text_or_bytes
from tornpage.scenarios.targets.reference.model import in_order, is_readable
from tornpage.scenarios.targets.reference.own_session import MANY_COMMITS
from tornpage.scenarios.targets.reference.rules.invariants import BY_ANOTHERS_HAND, check_change, check_view
from tornpage.scenarios.targets.reference.scripts import Script, scripts
from tornpage.scenarios.targets.reference.session import ReferenceSession
from tornpage.scenarios.targets.reference.workload import HEARTBEAT, WORKLOAD

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class Reference(Target):
    """Target: the reference ledger, or a build of it in which a part (an argument of `Ledger.open`) has a defect."""

    name = "reference"
    title = "the reference ledger: tasks, run history and outbox on SQLite, with memory over it"
    configurations = tuple(
        Configuration(journal_mode, synchronous)
        for journal_mode, synchronous in (
            ("wal", "FULL"), ("delete", "EXTRA"), ("wal", "NORMAL"), ("truncate", "FULL"), ("persist", "FULL"),
            ("delete", "FULL"), ("wal", "EXTRA"), ("truncate", "EXTRA"), ("persist", "EXTRA"), ("delete", "NORMAL"),
            ("truncate", "NORMAL"), ("persist", "NORMAL"), ("wal", "OFF"), ("delete", "OFF"), ("truncate", "OFF"),
            ("persist", "OFF"),
        )
    )  # fmt: skip
    depths: tuple[str, ...] = ("vfs", "statement")
    unpromised: Mapping[str, str] = {}
    # A failed COMMIT is settled by another one, which writes the same pages again, before anything is acknowledged.
    survives_failed_sync = True
    # No hook controls a cron task, and cancelling one reports that.
    refuses: frozenset[str] = frozenset({"tasks.cancel"})

    # The first call of a restarted process.
    recovery: Action | None = Action("recover")
    # Each message, and each row of the upkeep, is a separate transaction.
    many_commits: frozenset[str] = MANY_COMMITS
    # Made without the connections of the ledger under test: out of reach of armed faults, and of a recorder.
    by_others: frozenset[str] = frozenset(
        {
            "elsewhere", "overtaken", "meanwhile", "legacy_file", "older_row", "damaged_payload", "spoiled_row",
            "cancel_while", "maintenance_while", "command",
        }
    )  # fmt: skip

    # As another version of the ledger may, or a hand.
    breaks_constraints: bool = True
    # If other processes can't see that a pass is running (`PretendedWorkers`), one is made at a time.
    by_one_caller: frozenset[str] = frozenset() if sys.platform == "linux" else frozenset({"outbox.recover"})
    callers: tuple[Callers, ...] = ("processes", "threads")
    packages: tuple[str, ...] = ("tornpage.ledger",)

    def __init__(self, name: str = "reference", *, calls: tuple[Action, ...] = (), **parts: Any) -> None:
        self.name = name
        self._calls = calls
        self._parts = parts

    def workload(self) -> tuple[Action, ...]:
        """Every kind of change to tasks, runs and messages, each at least once; or a build's own calls."""
        return self._calls or WORKLOAD

    def actions(self, view: View) -> "SearchStrategy[Action]":
        """A new object, or any change to an existing one; or a build's own calls."""
        from hypothesis import strategies  # noqa: PLC0415 - takes long to load, and only a fuzz needs it

        from tornpage.scenarios.targets.reference.draws.strategies import draw  # noqa: PLC0415 - as above

        return strategies.sampled_from(self._calls) if self._calls else draw(view)

    @property
    def scripts(self) -> tuple[Script, ...]:  # type: ignore[override]  # read, never set
        """Each transition, argument and limit; a build that has its own calls has none."""
        return () if self._calls else scripts()

    @property
    def machines(self) -> Mapping[str, Machine]:
        """One for each part, and one for the whole; a build that has its own calls has none."""
        if self._calls:
            return {}
        from tornpage.scenarios.targets.reference.draws.strategies import MACHINES  # noqa: PLC0415 - as above

        return MACHINES

    def heartbeat(self) -> Action:
        """One more task."""
        return HEARTBEAT

    def simpler_actions(self, action: Action) -> Iterator[Action]:
        """Plainer calls, to shrink a scenario by."""
        return simpler_actions(action)

    def database(self, directory: Path) -> Path:
        """The ledger's one file."""
        return directory / DATABASE_NAME

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the ledger with the directory as its state directory."""
        return ReferenceSession(directory, configuration, environment, self._parts)

    def check_view(self, view: View) -> None:
        """The specification's rules for every state."""
        check_view(view)

    def check_change(self, before: View, action: Action, after: View, *, is_done: bool, now_ms: int) -> None:
        """The specification's rules for every call."""
        check_change(before, action, after, is_done=is_done, now_ms=now_ms)

    def check_session(
        self, session: Session, view: View, called: tuple[View, Action, Answer] | None, *, now_ms: int, looks: bool
    ) -> None:
        """Compare the last call's result, and the current answers, with the model."""
        if not isinstance(session, ReferenceSession):
            return
        if called is not None:
            before, action, answer = called
            session.note_unreadable_keys(before)
            check_call(before, action, view, answer.kind, session.told, now_ms)
        if looks and (called is None or called[0] != view):
            check_lists(session.listed, view, now_ms)
            if called is not None:
                # Memory and its indexes were compared with the rows; queries differ only after other calls.
                check_looks(session.ledger, view, now_ms)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of all tables by plain SQL, nothing of the ledger's code in between."""
        view: dict[str, Any] = {}
        there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, prefix, key in _TABLES:
            for row in _rows(connection, table) if table in there else ():
                del row["insertion"]
                if is_readable(prefix, row):
                    view[f"{prefix}/{row[key]}"] = _as_shown(row)
                elif prefix in _REPORTED:
                    view[f"unreadable/{table}/{row[key]}"] = {"table": table, "key": row[key]}
        # Rows that belong to an unreadable task are not shown without it.
        hidden = [key for key in view if key.startswith("unreadable/tasks/")]
        for key in hidden:
            view.pop(key.replace("unreadable/tasks", "delivery"), None)
        return view


def _as_shown(row: dict[str, Any]) -> dict[str, Any]:
    """A readable row as the ledger shows it."""
    if row.get("label") == BY_ANOTHERS_HAND:
        # §2: on restore and fresh reads its times are put in order; the ledger's own rows have to be so.
        row = dict(in_order(row))
    for name in _JSON_COLUMNS & row.keys():
        row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    if isinstance(row.get("payload"), bytes):
        row["payload"] = row["payload"].decode(errors="backslashreplace")
    if "valid" in row:
        row["valid"] = bool(row["valid"])
    return row


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """All rows; a text that is not UTF-8 as bytes."""
    try:
        return _read(connection, table)
    except sqlite3.OperationalError as error:
        if "decode to UTF-8" not in str(error):
            raise
    kept, connection.text_factory = connection.text_factory, text_or_bytes
    try:
        return _read(connection, table)
    finally:
        connection.text_factory = kept


def _read(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - a literal below
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor]


_TABLES: Final = (
    ("tasks", "task", "task_id"),
    ("task_delivery_state", "delivery", "task_id"),
    ("task_history", "run", "id"),
    ("agent_sessions", "session", "session_id"),
    ("message_outbox", "message", "id"),
)
# The kinds for which the ledger's view reports unreadable rows.
_REPORTED: Final = frozenset({"task", "delivery", "run", "message"})
_JSON_COLUMNS: Final = frozenset({"requester_origin", "artifacts"})
