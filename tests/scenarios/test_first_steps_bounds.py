"""First targets lower the limit of what a store keeps in memory, so that their few calls reach it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

PAGES = """
import collections, sqlite3

class Pages:
    def __init__(self, path, most: int = 64):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS pages (name TEXT PRIMARY KEY, text TEXT NOT NULL)")
        self.most, self.kept = most, collections.OrderedDict()

    def _keep(self, name, text):
        self.kept[name] = text
        while len(self.kept) > self.most:
            GONE

    def put(self, name: str, text: str):
        if FIRST and len(self.kept) >= self.most:
            self._keep(name, text)
        self.db.execute("INSERT OR REPLACE INTO pages VALUES (?, ?)", (name, text))
        self._keep(name, text)

    def remove(self, name: str):
        self.db.execute("DELETE FROM pages WHERE name = ?", (name,))
        self.kept.pop(name, None)

    def close(self):
        self.db.close()
"""
FORGET = "self.kept.popitem(last=False)"
DELETE = 'self.db.execute("DELETE FROM pages WHERE name = ?", (self.kept.popitem(last=False)[0],))'
# The limit is of the mapping itself.
OF_ITS_OWN = """
class Kept(collections.OrderedDict):
    def __init__(self, size):
        super().__init__()
        self._size = size
    def __setitem__(self, name, text):
        super().__setitem__(name, text)
        while len(self) > self._size:
            self.popitem(last=False)
"""


def written(command: Command, tmp_path: Path, module: str, source: str) -> tuple[str, str]:
    (tmp_path / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:Pages")
    assert wrote.code == 0, wrote
    return wrote.out, (tmp_path / f"{module}_target.py").read_text()


@pytest.mark.parametrize("is_first", [True, False])
def test_what_goes_wrong_only_when_a_cache_is_full_is_found(
    command: Command, tmp_path: Path, *, is_first: bool
) -> None:
    module = f"pages_{is_first}".lower()
    out, source = written(command, tmp_path, module, PAGES.replace("GONE", FORGET).replace("FIRST", str(is_first)))
    assert "lowered: store.most = 1, so that the calls reach this limit" in out
    assert "        store.most = 1\n" in source
    found = command("fuzz", "--target", f"{module}_target:PagesTarget", "--steps", 20, "--quiet", "--jobs", 1)
    assert found.code == int(is_first), found
    assert ("memory has" in found.out) is is_first


def test_a_limit_of_rows_is_left_alone(command: Command, tmp_path: Path) -> None:
    out, source = written(command, tmp_path, "rows", PAGES.replace("GONE", DELETE).replace("FIRST", "False"))
    assert "lowered" not in out
    assert "store.most" not in source


def test_a_limit_that_a_cache_has_itself_is_lowered(command: Command, tmp_path: Path) -> None:
    text = PAGES
    for old, new in (
        ("self.most, self.kept = most, collections.OrderedDict()", "self.kept = Kept(most)"),
        ("        while len(self.kept) > self.most:\n            GONE\n", ""),
        ("FIRST and len(self.kept) >= self.most", "False"),
        ("class Pages", f"{OF_ITS_OWN}\nclass Pages"),
    ):
        assert old in text
        text = text.replace(old, new)
    out, _ = written(command, tmp_path, "own", text)
    assert "lowered: store.kept._size = 1, so that" in out


COUNTED = """
import sqlite3

class Table:
    def __init__(self, db):
        self.db = db
    def __len__(self):
        return self.db.execute("SELECT count(*) FROM others").fetchone()[0]

class Pages:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS pages (name TEXT PRIMARY KEY, text TEXT NOT NULL)")
        self.table = Table(self.db)

    def put(self, name: str, text: str):
        self.db.execute("INSERT OR REPLACE INTO pages VALUES (?, ?)", (name, text))

    def close(self):
        self.db.close()
"""


def test_a_collection_that_cannot_tell_its_size_is_left_alone(command: Command, tmp_path: Path) -> None:
    written(command, tmp_path, "counted", COUNTED)
