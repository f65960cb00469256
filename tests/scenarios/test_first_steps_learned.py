"""First targets learn from the rows which arguments fit, and call a method that takes two keys both ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

# As many schedules of two callers as the command makes by default.
# What calls are made is learned alike for callers of each kind.
ALL = ("--callers", "threads", "--schedules", 120)
# As many of them as show a race.
SOME = ("--callers", "threads", "--schedules", 40)
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

# A text is accepted as an amount, and computing with it fails later: a sound store was accused of that.
PURSES = """
import sqlite3

class Purses:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=5)
        self.db.execute("CREATE TABLE IF NOT EXISTS purses (owner TEXT PRIMARY KEY, amount INTEGER NOT NULL)")

    def put_in(self, owner, amount):
        self.db.execute(
            "INSERT INTO purses VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET amount = amount + excluded.amount",
            (owner, amount),
        )

    def take_out(self, owner, amount):
        BEGIN
        row = self.db.execute("SELECT amount FROM purses WHERE owner = ?", (owner,)).fetchone()
        enough = row is not None and row[0] >= amount
        if enough:
            self.db.execute("UPDATE purses SET amount = ? WHERE owner = ?", (row[0] - amount, owner))
        END
        return enough

    def close(self):
        self.db.close()
"""
# A text is a JSON value, too, and has no fields.
PROFILES = """
import json
import sqlite3

class Profiles:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=5)
        self.db.execute("CREATE TABLE IF NOT EXISTS profiles (id TEXT PRIMARY KEY, body TEXT)")

    def create(self, id, body):
        self.db.execute("INSERT OR REPLACE INTO profiles VALUES (?, ?)", (id, json.dumps(body)))

    def count(self, id, field):
        (body,) = self.db.execute("SELECT body FROM profiles WHERE id = ?", (id,)).fetchone() or (None,)
        if not isinstance(body and json.loads(body), dict):
            return
        path = "$." + field
        set_to = f"json_set(body, '{path}', coalesce(json_extract(body, '{path}'), 0) + 1)"
        self.db.execute(f"UPDATE profiles SET body = {set_to} WHERE id = ?", (id,))

    def close(self):
        self.db.close()
"""
# A folder is never moved below itself, if nothing comes between the look and the move.
FOLDERS = """
import sqlite3

class Folders:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=5)
        self.db.execute("CREATE TABLE IF NOT EXISTS folders (name TEXT PRIMARY KEY, parent TEXT)")

    def add(self, name):
        self.db.execute("INSERT OR IGNORE INTO folders VALUES (?, NULL)", (name,))

    def move(self, name, parent):
        BEGIN
        tree = dict(self.db.execute("SELECT name, parent FROM folders").fetchall())
        above, ok = parent, {name, parent} <= tree.keys()
        while ok and above is not None:
            ok, above = above != name, tree[above]
        if ok:
            self.db.execute("UPDATE folders SET parent = ? WHERE name = ?", (parent, name))
        END
        return ok

    def close(self):
        self.db.close()
"""
# The same with an error in the place of False, and a way to take a folder away.
REFUSING = FOLDERS.replace(
    "return ok",
    """if not ok:
            raise ValueError(f"{name} can't be below {parent}")

    def remove(self, name):
        self.db.execute("UPDATE folders SET parent = NULL WHERE parent = ?", (name,))
        self.db.execute("DELETE FROM folders WHERE name = ?", (name,))""",
)
# Two arguments that are no two keys.
PLACES = """
import sqlite3

class Places:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, town TEXT, land TEXT)")

    def put(self, name, town, land):
        self.db.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (name, town, land))

    def close(self):
        self.db.close()
"""


def whole(source: str, *, in_one: bool) -> str:
    """The source with a transaction round the read and the write, or without."""
    begin, end = ("self.db.execute('BEGIN IMMEDIATE')", "self.db.execute('COMMIT')") if in_one else ("pass", "pass")
    return source.replace("BEGIN\n", f"{begin}\n").replace("END\n", f"{end}\n")


def target_of(command: Command, folder: Path, module: str, source: str) -> str:
    """The text of the target of a module: its name is that of its class, and a number."""
    (folder / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:{module.rstrip('0123').capitalize()}")
    assert wrote.code == 0, wrote
    assert "not called" not in wrote.out
    return (folder / f"{module}_target.py").read_text()


def test_a_column_of_numbers_gets_a_number(command: Command, tmp_path: Path) -> None:
    target = target_of(command, tmp_path, "purses", whole(PURSES, in_one=False))
    assert 'Action("put_in", {"owner": "alpha", "amount": 1})' in target
    assert 'Action("take_out", {"owner": "alpha", "amount": 1})' in target
    found = command("interleave", "--target", "purses_target:PursesTarget", "--quiet", "--jobs", 1, *SOME)
    assert found.code == 1, found
    assert "not-serializable" in found.out


def test_a_sound_store_is_not_accused_of_computing_with_a_text(command: Command, tmp_path: Path) -> None:
    target_of(command, tmp_path, "purses1", whole(PURSES, in_one=True))
    for search, *more in (("interleave", *ALL), ("fuzz", "--steps", 20)):
        found = command(search, *more, "--target", "purses1_target:PursesTarget", "--quiet", "--jobs", 1)
        assert "TypeError" not in found.out, found
        assert "not-serializable" not in found.out


def test_what_is_written_as_json_gets_a_mapping_if_more_calls_work_with_it(command: Command, tmp_path: Path) -> None:
    target = target_of(command, tmp_path, "profiles", PROFILES)
    assert """Action("create", {"id": "alpha", "body": {'one': 1}})""" in target
    assert 'Action("count", {"id": "alpha", "field": "one"})' in target


@pytest.mark.parametrize(
    ("module", "source", "in_one", "code"),
    [("folders1", FOLDERS, True, 0), ("folders2", FOLDERS, False, 1), ("folders3", REFUSING, False, 1)],
)
def test_a_cycle_that_two_callers_make_is_found(
    command: Command, tmp_path: Path, module: str, source: str, in_one: bool, code: int
) -> None:
    target = target_of(command, tmp_path, module, whole(source, in_one=in_one))
    for name, parent in (("alpha", "beta"), ("beta", "alpha")):
        assert f'Action("move", {{"name": "{name}", "parent": "{parent}"}})' in target
    found = command("interleave", "--target", f"{module}_target:FoldersTarget", "--quiet", "--jobs", 1, *ALL)
    assert found.code == code, found
    if code:
        assert "not-serializable" in found.out


def test_arguments_that_are_no_keys_do_not_change_places(command: Command, tmp_path: Path) -> None:
    target = target_of(command, tmp_path, "places", PLACES)
    assert '"beta", "alpha"' not in target
    assert target.count('Action("put"') == 4


# Names of several words say of what: an account is closed, a run is finished; a worker, or everything, is not.
ACCOUNTS = """
import sqlite3

class Accounts:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, is_open INTEGER)")

    def open_account(self, name):
        self.db.execute("INSERT OR REPLACE INTO accounts VALUES (?, 1)", (name,))

    def close_account(self, name):
        self.db.execute("UPDATE accounts SET is_open = 0 WHERE name = ?", (name,))

    def close_all(self):
        self.db.close()

    def run(self, name):
        raise SystemExit("it was called")

    def close(self):
        self.db.close()
"""


def test_a_method_that_closes_or_runs_something_by_name_is_called(command: Command, tmp_path: Path) -> None:
    (tmp_path / "accounts.py").write_text(ACCOUNTS)
    wrote = command("new", "target", "--from", "accounts:Accounts")
    assert wrote.code == 0, wrote
    target = (tmp_path / "accounts_target.py").read_text()
    assert 'Action("close_account", {"name": "alpha"})' in target
    for name in ("close_all", "run"):
        assert f"not called: {name}: by its name it waits" in wrote.out


# The calls that add most rows need what another one has made: none of them is a beat.
LEDGERS = """
import sqlite3

class Ledgers:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS events (name TEXT, version INTEGER, PRIMARY KEY (name, version))")
        self.db.execute("CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, total INTEGER)")
        self.totals = dict(self.db.execute("SELECT name, total FROM totals"))

    def create(self, name):
        if name in self.totals:
            raise KeyError(name)
        self._append(name, 0)

    def pay_in(self, name, amount: int):
        self._append(name, self.totals[name] + amount)

    def pay_out(self, name, amount: int):
        self._append(name, self.totals[name] - amount)

    def correct(self, name, amount: int):
        self._append(name, self.totals[name] + amount)

    def charge(self, name, amount: int):
        self._append(name, self.totals[name] - amount)

    def all_totals(self):
        return dict(self.totals)

    def _append(self, name, total):
        self.db.execute("BEGIN")
        ((version,),) = self.db.execute("SELECT count(*) FROM events WHERE name = ?", (name,))
        self.db.execute("INSERT INTO events VALUES (?, ?)", (name, version + 1))
        self.db.execute("INSERT OR REPLACE INTO totals VALUES (?, ?)", (name, total))
        self.db.execute("COMMIT")
        self.totals[name] = total

    def close(self):
        self.db.close()
"""


def test_a_call_that_needs_what_another_one_has_made_is_no_beat(command: Command, tmp_path: Path) -> None:
    target = target_of(command, tmp_path, "ledgers", LEDGERS)
    assert 'beat = Action("create", {"name": "heartbeat"})' in target
