"""Files that a store keeps beside its database: a failed call leaves them as they were, or not."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, SimpleTarget, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Restart, Scenario
from tornpage.scenarios.model.target import Configuration

SOURCE = """
import json, sqlite3
from pathlib import Path

class Cards:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS cards (front TEXT PRIMARY KEY, back TEXT)")
        self.out = Path(path).with_name("cards.json")

    def add(self, front, back):
        self.db.execute("INSERT OR REPLACE INTO cards VALUES (?, ?)", (front, back))

    def export(self):
        self.out.write_text(json.dumps(dict(self.db.execute("SELECT front, back FROM cards"))))
        return json.loads(self.out.read_text())

    def close(self):
        self.db.close()
"""


class Cards:
    """It exports its rows into a file."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS cards (front TEXT PRIMARY KEY, back TEXT)")
        self.out = path.with_name("cards.json")

    def all(self) -> dict[str, str]:
        return dict(self.db.execute("SELECT front, back FROM cards"))

    def add(self, front: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO cards VALUES (?, 'x')", (front,))

    def export(self) -> None:
        self.out.write_text(json.dumps(self.all()))

    def exported(self) -> Any:
        return json.loads(self.out.read_text()) if self.out.exists() else None

    def close(self) -> None:
        self.db.close()


class CardsTarget(SimpleTarget):
    name = "cards"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("add", {"front": "a"}), Action("export"), Action("exported"))
    beat = Action("add", {"front": "beat"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Cards:
        return Cards(path)

    def view(self, store: Cards) -> dict[str, str]:
        return store.all()

    def rows(self, connection: sqlite3.Connection) -> dict[str, str]:
        return dict(connection.execute("SELECT front, back FROM cards"))


def test_what_a_failed_export_did_not_write_is_not_asked_for(tmp_path: Path) -> None:
    target = CardsTarget()
    add, export, exported = map(Call, target.calls)
    steps = (add, Restart(), Arm("read:db@1..=IOERR_READ"), export, exported, Clear())
    with faults.install():
        violation, counts = play(Scenario("cards", target.configurations[0], steps), target, tmp_path)
    assert violation is None
    assert counts["surfaced"] == 1


@pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
class Journal(Cards):
    """Adds what stands in its file."""

    def note(self, front: str) -> None:
        with self.out.open("a") as file:
            file.write(f"{front}\n")

    def take(self) -> None:
        for front in self.out.read_text().split() if self.out.exists() else ():
            self.add(front)


class JournalTarget(CardsTarget):
    configurations = (Configuration("wal", "FULL"),)
    calls = (Action("add", {"front": "a"}), Action("note", {"front": "b"}), Action("take"))

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Cards:
        store = Journal(path)
        store.db.execute("PRAGMA journal_mode = WAL")
        return store


def test_a_write_that_comes_back_brings_no_older_files_with_it(tmp_path: Path) -> None:
    target = JournalTarget()
    add, note, take = map(Call, target.calls)
    steps = (Arm("sync:wal@1=IOERR_FSYNC"), add, Clear(), note, Restart(crash=True), take)
    with faults.install():
        violation, counts = play(Scenario(target.name, target.configurations[0], steps), target, tmp_path)
    assert counts["fired"] == 1
    assert violation is None


def test_a_call_that_writes_a_file_is_no_view(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "exports_cards.py").write_text(SOURCE)
    wrote = command("new", "target", "--from", "exports_cards:Cards")
    assert "view: cards, through store.db" in wrote.out
    assert 'Action("export")' in (tmp_path / "exports_cards_target.py").read_text()
