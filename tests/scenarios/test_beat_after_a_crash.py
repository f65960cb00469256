"""The small change after a crash: a store may refuse it because it was made before, and for no other reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Its keys are counted by the file and never used again, so the small change's key depends on the calls before it.
NUMBERED = """
import sqlite3

from tornpage import Action, Configuration, SimpleTarget


class Events:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE)"
        )
        self.db.execute("CREATE TABLE IF NOT EXISTS busy (one INTEGER PRIMARY KEY)")

    def append(self, name):
        {before}
        self.db.execute("INSERT INTO events (name) VALUES (?)", (name,))
        {after}

    def clear(self):
        self.db.execute("DELETE FROM events")

    def close(self):
        self.db.close()


class EventsTarget(SimpleTarget):
    title = "events"
    file = "events.sqlite"
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("append", {{"name": "one"}}), Action("clear"))
    beat = Action("append", {{"name": "beat"}})

    def make(self, path, configuration, environment):
        return Events(path)

    def view(self, store):
        return self.rows(store.db)

    def rows(self, connection):
        return {{f"events/{{number}}": [name] for number, name in connection.execute("SELECT * FROM events")}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before", "after", "code"),
    [
        ("sound", "", "", 0),
        # A mark that a crash leaves behind, and that refuses all later calls.
        ("marked", 'self.db.execute("INSERT INTO busy VALUES (1)")', 'self.db.execute("DELETE FROM busy")', 1),
    ],
)
def test_a_refusal_is_allowed_if_the_small_change_was_made_before(
    command: Callable[..., Any], tmp_path: Path, name: str, before: str, after: str, code: int
) -> None:
    (tmp_path / f"events_{name}.py").write_text(NUMBERED.format(before=before, after=after))
    ended = command("crash", "--target", f"events_{name}:EventsTarget", "--quiet", "--jobs", 1)
    assert ended.code == code, ended
    assert ("after a crash, opening, looking or one small change is refused: IntegrityError" in ended.out) is bool(code)
