"""First targets reach calls that need a number, or what others have prepared; and a copy that is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

# As many schedules of two callers as the command makes by default.
ALL = ("--callers", "threads", "--schedules", 120)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

# Its amounts are numbers, which only the CHECK says, and the two keys have names of their own.
BANK = """
import sqlite3

class Bank:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        kinds = "name TEXT PRIMARY KEY, balance INTEGER CHECK (balance >= 0)"
        self.db.execute(f"CREATE TABLE IF NOT EXISTS account ({kinds}) STRICT")

    def open_account(self, name, balance):
        self.db.execute("INSERT INTO account VALUES (?, ?)", (name, balance))

    def transfer(self, source, target, amount):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            for name, change in ((source, -amount), (target, amount)):
                cursor = self.db.execute("UPDATE account SET balance = balance + ? WHERE name = ?", (change, name))
                if not cursor.rowcount:
                    raise KeyError(name)
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def close(self):
        self.db.close()
"""
# A job that is taken away must be put and claimed again before it can be taken away again.
JOBS = """
import sqlite3

class Jobs:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, owner TEXT)")

    def put(self, name):
        self.db.execute("INSERT OR IGNORE INTO job VALUES (?, NULL)", (name,))

    def claim(self, name, owner):
        self.db.execute("UPDATE job SET owner = ? WHERE name = ? AND owner IS NULL", (owner, name))

    def finish(self, name, owner):
        self.db.execute("DELETE FROM job WHERE name = ? AND owner = ?", (name, owner))

    def close(self):
        self.db.close()
"""
# A sale that is refused is in the memory of the defective one.
SALES = """
import sqlite3

class Sales:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS sale (ref TEXT PRIMARY KEY, region TEXT, cents INTEGER)")
        self.totals = dict(self.db.execute("SELECT region, sum(cents) FROM sale GROUP BY region"))
        self.seen = {ref: 1 for (ref,) in self.db.execute("SELECT ref FROM sale")}

    def sell(self, ref, region, cents: int):
        FIRST
        self.db.execute("INSERT INTO sale VALUES (?, ?, ?)", (ref, region, cents))
        THEN

    def void(self, ref):
        gone = self.db.execute("DELETE FROM sale WHERE ref = ? RETURNING region, cents", (ref,)).fetchall()
        for region, cents in gone:
            self.totals[region] -= cents
            del self.seen[ref]

    def close(self):
        self.db.close()
"""
# Settings of a user in one JSON object, and of a key in a row of its own, which the next value replaces.
SETTINGS = """
import json
import sqlite3

class Settings:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=5)
        self.db.execute("CREATE TABLE IF NOT EXISTS profile (user TEXT PRIMARY KEY, data TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT, colour TEXT)")

    def set(self, user, name, value):
        BEGIN
        row = self.db.execute("SELECT data FROM profile WHERE user = ?", (user,)).fetchone()
        data = {**(json.loads(row[0]) if row else {}), name: value}
        self.db.execute("INSERT OR REPLACE INTO profile VALUES (?, ?)", (user, json.dumps(data, sort_keys=True)))
        END

    def note(self, name, text, colour):
        self.db.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (name, text, colour))

    def close(self):
        self.db.close()
"""
COUNTS = "self.totals[region] = self.totals.get(region, 0) + cents; self.seen[ref] = self.seen.get(ref, 0) + 1"
DIARY = """
import contextlib
import sqlite3
from pathlib import Path

class Diary:
    def __init__(self, path):
        self.copy = Path(path).with_suffix(".copy")
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS page (day TEXT PRIMARY KEY, text TEXT)")

    def write(self, day, text):
        self.db.execute("INSERT OR REPLACE INTO page VALUES (?, ?)", (day, text))

    def backup(self):
        self.copy.unlink(missing_ok=True)
        self.db.execute("VACUUM INTO ?", (str(self.copy),))

    def dump(self, target):
        self.db.execute("VACUUM INTO ?", (str(target),))

    def read_backup(self):
        if not self.copy.exists():
            return None
        with contextlib.closing(sqlite3.connect(self.copy)) as copy:
            return copy.execute("SELECT * FROM page ORDER BY day").fetchall()

    def close(self):
        self.db.close()
"""


def written(command: Command, folder: Path, module: str, source: str) -> tuple[str, str]:
    """The text of the module's target, and what the command says."""
    (folder / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:{module.rstrip('0123').capitalize()}")
    assert wrote.code == 0, wrote
    return (folder / f"{module}_target.py").read_text(), wrote.out


def test_a_call_of_two_keys_and_a_number_without_a_type_is_made_both_ways(command: Command, tmp_path: Path) -> None:
    target, said = written(command, tmp_path, "bank", BANK)
    assert "not called" not in said
    for source, to in (("alpha", "beta"), ("beta", "alpha")):
        assert f'Action("transfer", {{"source": "{source}", "target": "{to}", "amount": 1}})' in target


def test_what_takes_away_is_called_where_another_call_has_prepared_it(command: Command, tmp_path: Path) -> None:
    target, said = written(command, tmp_path, "jobs", JOBS)
    assert "not called" not in said
    assert target.index('Action("claim", {"name": "alpha"') < target.index('Action("finish", {"name": "alpha"')


@pytest.mark.parametrize(
    ("module", "first", "then", "code"),
    [("sales", "pass", COUNTS, 0), ("sales1", COUNTS, "pass", 1)],
    ids=["sound", "memory-first"],
)
def test_what_a_refused_call_leaves_in_memory_is_for_the_search(
    command: Command, tmp_path: Path, module: str, first: str, then: str, code: int
) -> None:
    _, said = written(command, tmp_path, module, SALES.replace("FIRST", first).replace("THEN", then))
    assert "not called" not in said
    found = command("sweep", "--plan", "write:journal@1=FULL", "--target", f"{module}_target:SalesTarget", "--quiet")
    assert found.code == code, found
    assert ("memory-equals-disk" in found.out) is bool(code)


@pytest.mark.parametrize(
    ("module", "begin", "end", "code"),
    [("settings", "self.db.execute('BEGIN IMMEDIATE')", "self.db.execute('COMMIT')", 0), ("settings1", "", "", 1)],
    ids=["sound", "reads-then-writes"],
)
def test_what_two_calls_add_to_one_row_is_tried_by_two_callers(
    command: Command, tmp_path: Path, module: str, begin: str, end: str, code: int
) -> None:
    target, _ = written(command, tmp_path, module, SETTINGS.replace("BEGIN", begin).replace("END", end))
    assert 'Action("set", {"user": "alpha", "name": "other", "value": "one"}),' in target
    assert '"text": "other"' not in target
    found = command("interleave", "--target", f"{module}_target:SettingsTarget", "--quiet", "--jobs", 1, *ALL)
    assert found.code == code, found
    assert ("not-serializable" in found.out) is bool(code)


def test_a_copy_is_made_and_read_unless_its_place_has_to_be_told(command: Command, tmp_path: Path) -> None:
    target, said = written(command, tmp_path, "diary", DIARY)
    assert 'Action("backup"),' in target
    assert 'Action("read_backup"),' in target
    assert "not called: dump: by its name it waits" in said
