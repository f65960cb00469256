"""First targets show data in memory whose keys are several columns, or whose values have some of them as parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

GRANTS = """
import collections, json, sqlite3
from dataclasses import dataclass

@dataclass
class Role:
    role: str
    until: list

class Grants:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        columns = "user TEXT, project TEXT, role TEXT, until TEXT"
        self.db.execute(f"CREATE TABLE IF NOT EXISTS grants ({columns}, PRIMARY KEY (user, project))")
        self.kept = EMPTY
        for user, project, role, until in self.db.execute("SELECT * FROM grants").fetchall():
            self.remember(user, project, role, json.loads(until))

    def remember(self, user, project, role, until):
        REMEMBER

    def _forget(self, user, project):
        FORGET

    def grant(self, user: str, project: str, role: str, until: list):
        if FIRST:
            self.remember(user, project, role, until)
        values = (user, project, role, json.dumps(until))
        self.db.execute("INSERT OR REPLACE INTO grants VALUES (?, ?, ?, ?)", values)
        self.remember(user, project, role, until)

    def revoke(self, user: str, project: str):
        self.db.execute("DELETE FROM grants WHERE user = ? AND project = ?", (user, project))
        self._forget(user, project)

    def role(self, user: str, project: str) -> str | None:
        query = "SELECT role FROM grants WHERE user = ? AND project = ?"
        return next((role for (role,) in self.db.execute(query, (user, project)).fetchall()), None)

    def close(self):
        self.db.close()
"""
POP = "self.kept.pop((user, project), None)"
INNER = "self.kept.get(user, {}).pop(project, None)"
SHAPES = {
    "by_tuple": ("{}", "self.kept[user, project] = role", POP, "user, project, role"),
    "of_tuples": ("{}", "self.kept[user, project] = (role, until)", POP, "user, project, role, until"),
    "of_objects": ("{}", "self.kept[user, project] = Role(role, until)", POP, "user, project, role, until"),
    "nested": (
        "collections.defaultdict(dict)",
        'self.kept[user][project] = {"role": role}',
        INNER,
        "user, project, role",
    ),
    "grouped": (
        "{}",
        "self.kept.setdefault(user, set()).add((project, role))",
        "self.kept[user] = {one for one in self.kept.get(user, ()) if one[0] != project}",
        "user, project, role",
    ),
    "listed": (
        "set()",
        "self.kept.add((project, user))",
        "self.kept.discard((project, user))",
        "project, user",
    ),
}


def written(command: Command, tmp_path: Path, shape: str, *, is_first: bool = False) -> str:
    empty, remember, forget, columns = SHAPES[shape]
    text = GRANTS.replace("REMEMBER", remember).replace("FORGET", forget).replace("EMPTY", empty)
    module = f"{shape}_{is_first}".lower()
    (tmp_path / f"{module}.py").write_text(text.replace("FIRST", str(is_first)))
    wrote = command("new", "target", "--from", f"{module}:Grants")
    assert wrote.code == 0, wrote
    assert f"view: kept: {columns} of grants" in wrote.out
    assert "not checked" not in wrote.out
    # What takes away, by whatever name, comes after what needs it.
    assert "calls: grant, role, revoke" in wrote.out
    return f"{module}_target:GrantsTarget"


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_store_keeps_by_several_columns_is_in_the_view(command: Command, tmp_path: Path, shape: str) -> None:
    written(command, tmp_path, shape)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_mapping_by_tuples_that_is_changed_first_is_found(
    command: Command, tmp_path: Path, *, is_first: bool
) -> None:
    target = written(command, tmp_path, "of_objects", is_first=is_first)
    swept = command("sweep", "--target", target, "--plan", "write:journal@1=FULL", "--quiet", "--jobs", 1)
    assert swept.code == int(is_first), swept
    assert ("memory has" in swept.out) is is_first


BY_POSITION = """
import sqlite3

class Feeds:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS feeds (url TEXT PRIMARY KEY, title TEXT)")

    def add(self, url: str, /, title: str, *, again: bool = False):
        self.db.execute(f"INSERT {'OR REPLACE' if again else 'OR IGNORE'} INTO feeds VALUES (?, ?)", (url, title))

    def title(_self, _url: str, /) -> str | None:
        row = _self.db.execute("SELECT title FROM feeds WHERE url = ?", (_url,)).fetchone()
        return row and row[0]

    def close(self):
        self.db.close()
"""


def test_what_methods_take_by_position_only_has_its_name_in_the_calls(command: Command, tmp_path: Path) -> None:
    (tmp_path / "feeds.py").write_text(BY_POSITION)
    wrote = command("new", "target", "--from", "feeds:Feeds")
    assert "calls: add, title" in wrote.out, wrote
    assert "Action(\"add\", {'url':" in (tmp_path / "feeds_target.py").read_text().replace('"url"', "'url'")
    plan = "write:journal@1=FULL"
    swept = command("sweep", "--target", "feeds_target:FeedsTarget", "--plan", plan, "--quiet", "--jobs", 1)
    assert swept.code == 0, swept
