"""A store that begins with a file of an older version: its upgrade is tried by each search."""

import errno
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.model.older_file import beyond, content_of, put_in_place
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import SetUpError, TargetError
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import

OLDER = "CREATE TABLE note (name TEXT PRIMARY KEY); INSERT INTO note VALUES ('milk'), ('tea'); PRAGMA user_version = 1"


class InSteps:
    """Notes. The version is there before the titles, and each statement is a transaction."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.upgrade()
        except BaseException:
            self.db.close()
            raise

    def upgrade(self) -> None:
        if self.db.execute("PRAGMA user_version").fetchone()[0] < 2:
            self.db.execute("ALTER TABLE note ADD COLUMN title TEXT")
            self.db.execute("PRAGMA user_version = 2")
            self.db.execute("UPDATE note SET title = upper(name)")

    def put(self, name: str, title: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, title))

    def drop(self, name: str) -> None:
        self.db.execute("DELETE FROM note WHERE name = ?", (name,))

    def close(self) -> None:
        self.db.close()


class AtOnce(InSteps):
    """Sound."""

    def upgrade(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            super().upgrade()
            self.db.execute("COMMIT")
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")


class NotesTarget(SimpleTarget):
    title = "notes"
    callers = ("processes",)
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("put", {"name": "milk", "title": "1 l"}), Action("drop", {"name": "tea"}))
    beat = Action("put", {"name": "heartbeat", "title": ""})
    older_file: str | Path | None = OLDER
    upgraded: Mapping[str, Any] = {"milk": "MILK", "tea": "TEA"}
    kind: type[InSteps] = AtOnce

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> InSteps:
        return self.kind(path)

    def view(self, store: InSteps) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(connection.execute("SELECT name, title FROM note").fetchall())


class InStepsTarget(NotesTarget):
    kind = InSteps


def searched(name: str, search: str) -> Recorder:
    profile = Profile("test", 1, 8, 0, 0, crash_states=100, kills=6, limit_points=8, schedules=12)
    return campaign.run(find_or_import(f"{__name__}:{name}"), Plan((search,), profile, report=None))


@pytest.mark.parametrize(
    ("search", "code", "says"),
    [
        ("sweep", "still-usable-after-the-fault", "duplicate column name: title"),
        ("crash", "all-or-nothing", "the reopened file has None"),
        ("interleave", "opens-together", "duplicate column name: title"),
    ],
)
def test_an_upgrade_in_steps_is_found(search: str, code: str, says: str) -> None:
    found = [one.finding for one in searched("InStepsTarget", search).findings]
    assert any(one.code == code and says in one.message for one in found), found


@pytest.mark.parametrize("search", ["sweep", "crash", "interleave", "limits", "kill"])
def test_an_upgrade_in_one_transaction_is_silent(search: str) -> None:
    recorder = searched("NotesTarget", search)
    assert not recorder.findings
    assert not recorder.vacuous


@pytest.mark.parametrize(
    ("attributes", "error", "says"),
    [
        ({"upgraded": {"milk": "MILK"}}, SetUpError, "shows 'tea': 'TEA', unlike `upgraded`"),
        ({"upgraded": {**NotesTarget.upgraded, "a": 1}}, SetUpError, r"shows 'a': '\(gone\)', unlike `upgraded`"),
        ({"older_file": "CREATE note"}, TargetError, "neither a file nor SQL that makes one: near"),
        ({"older_file": b"SQLite format 3"}, TargetError, "neither a file nor SQL that makes one: .*must be str"),
        ({"older_file": Path("/no/such.db")}, TargetError, "neither a file nor SQL that makes one: .*No such file"),
        (
            {"files_view": lambda _: {}, "configurations": (Configuration("file", "FULL"),)},
            TargetError,
            "is for a store",
        ),
    ],
)
def test_a_wrong_declaration_is_told(attributes: dict[str, Any], error: type[Exception], says: str) -> None:
    target = type("Wrong", (NotesTarget,), attributes)()
    plan = Plan(("sweep",), Profile("test", 1, None, 0, 0), report=None)
    with pytest.raises(error, match=says):
        campaign.run(target, plan)


def test_the_file_is_whole_or_not_there_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.db"
    with (
        faults.install(),
        faults.arm("file-write@1/half=ENOSPC", tmp_path),
        pytest.raises(OSError, match="No space left") as raised,
    ):
        put_in_place(path, content_of(OLDER))
    assert raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
    put_in_place(path, content_of(OLDER))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content_of(OLDER)
    assert content_of(path) == content_of(OLDER)
    put_in_place(path, b"another")
    assert path.read_bytes() == content_of(OLDER)
    # Another process has put it there after the look.
    monkeypatch.setattr(Path, "exists", lambda _: False)
    put_in_place(path, b"another")
    assert path.read_bytes() == content_of(OLDER)
    assert list(tmp_path.iterdir()) == [path]


def test_what_differs_from_the_upgraded_state_is_shown() -> None:
    assert beyond({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == {"b": 2, "c": "(gone)"}
    assert beyond({"a": None}, {}) == {"a": None}
