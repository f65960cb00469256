"""First targets for stores of which a call ends them, and for connections that return rows of another shape."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

JARS = """
import os
import sqlite3


class Jars:
    def __init__(self, path):
        self.path = path
        self.db = self._connected()
        self.db.execute("CREATE TABLE IF NOT EXISTS jar (label TEXT PRIMARY KEY, grams INTEGER)")

    def _connected(self):
        return sqlite3.connect(self.path, isolation_level=None)

    def put(self, label: str, grams: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO jar VALUES (?, ?)", (label, grams))
"""
ENDING = """
    def halt(self) -> None:
        self.db.close()

    def weigh(self, label: str) -> list:
        return self.db.execute("SELECT grams FROM jar WHERE label = ?", (label,)).fetchall()

    def remove(self, label: str) -> None:
        self.db.execute("DELETE FROM jar WHERE label = ?", (label,))

    def delete(self) -> None:
        self.db.close()
        os.unlink(self.path)
"""
# It goes on with another connection at its next call, as a pool does.
ENDING_NOTHING = """
    def trim(self) -> None:
        self.db.execute("DELETE FROM jar WHERE grams > 0")
        self.db.close()
        self.db = None

    def put(self, label: str, grams: int) -> None:
        self.db = self.db or self._connected()
        super().put(label, grams)
"""
# Its connections are closed by the garbage collector, at any time.
DROPS = """
import gc
import sqlite3


class Drops:
    def __init__(self, path):
        self.path = path
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE IF NOT EXISTS jar (label TEXT PRIMARY KEY, grams INTEGER)")

    def about(self) -> None:
        gc.collect()

    def put(self, label: str, grams: int) -> None:
        with sqlite3.connect(self.path) as db:
            db.execute("INSERT OR REPLACE INTO jar VALUES (?, ?)", (label, grams))
"""
# What the harness reads through a store's connection, it reads in its own way.
SHAPES = {
    "dicts": "self.db.row_factory = lambda cursor, row: {one[0]: it for one, it in zip(cursor.description, row)}",
    "bytes": "self.db.text_factory = bytes",
}


def written(command: Command, directory: Path, text: str, store: str) -> tuple[str, str]:
    """The output, and the target; a module of one name is imported once in a process."""
    module = store.partition(":")[0]
    (directory / f"{module}.py").write_text(text)
    wrote = command("new", "target", "--from", store, "--out", f"pantry_of_{module}.py")
    assert wrote.code == 0, wrote
    return wrote.out, (directory / f"pantry_of_{module}.py").read_text()


def test_a_call_that_ends_the_store_is_left_out_and_the_others_are_tried_without_it(
    command: Command, tmp_path: Path
) -> None:
    out, source = written(command, tmp_path, JARS + ENDING, "ending:Jars")
    assert "not called: halt: it closes the store's connection\n" in out
    assert "not called: delete: it removes the database\n" in out
    assert "calls: put, weigh, remove\n" in out
    assert "self.halt()" in source
    assert "tornpage sweep --target pantry_of_ending:JarsTarget" in source


def test_a_call_after_which_the_store_connects_again_is_tried(command: Command, tmp_path: Path) -> None:
    text = JARS + ENDING_NOTHING.join(["\n\nclass Shelf(Jars):", ""])
    out, _ = written(command, tmp_path, text, "connecting:Shelf")
    assert "put, trim\n" in out


def test_a_call_in_which_the_collector_closes_something_ends_nothing(command: Command, tmp_path: Path) -> None:
    out, _ = written(command, tmp_path, DROPS, "dropping:Drops")
    assert "calls: put\n" in out
    assert "closes" not in out
    assert "open" not in out


@pytest.mark.parametrize("shape", SHAPES)
def test_a_connection_with_rows_of_another_shape_is_asked_for_its_level(
    command: Command, tmp_path: Path, shape: str
) -> None:
    opened = f"        {SHAPES[shape]}\n        self.db.execute('PRAGMA synchronous = EXTRA')\n"
    text = JARS.replace('        self.db.execute("CREATE', f'{opened}        self.db.execute("CREATE')
    _, source = written(command, tmp_path, text, f"{shape}:Jars")
    assert 'Configuration("delete", "EXTRA")' in source


CLOSING = """
import sqlite3


class Closing:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS jar (name PRIMARY KEY)")

    def add(self, name: str):
        self.db.execute("INSERT OR REPLACE INTO jar VALUES (?)", (name,))
        self.db.commit()
        self.db.close()
"""
KEEPING = """

class Keeping(Closing):
    def keep(self, name: str):
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO jar VALUES (?)", (name,))
"""


def test_calls_that_close_the_store_are_named_and_how_to_have_them_called(command: Command, tmp_path: Path) -> None:
    (tmp_path / "closing.py").write_text(CLOSING)
    ended = command("new", "target", "--from", "closing:Closing")
    assert ended.code == 2
    assert "tried: add (it closes the store's connection); a store makes several calls while open" in ended.err


def test_a_call_with_arguments_that_closes_the_store_is_no_way_to_close_it(command: Command, tmp_path: Path) -> None:
    out, source = written(command, tmp_path, CLOSING + KEEPING, "keeping:Keeping")
    assert "not called: add: it closes the store's connection\n" in out
    assert "self.add(" not in source


COMPACTED = '''
import json
import sqlite3


class Compacted:
    """Its events, of which a snapshot takes the place now and then."""

    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.executescript("CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, body); "
                              "CREATE TABLE IF NOT EXISTS snapshot (id, state)")
        self.state = {}

    def _append(self, name, state):
        with self.db:
            (number,) = self.db.execute("INSERT INTO event (body) VALUES (?) RETURNING id", (name,)).fetchone()
            if number % 3 == 0:
                self.db.execute("DELETE FROM snapshot")
                self.db.execute("INSERT INTO snapshot VALUES (?, ?)", (number, json.dumps(state)))
                self.db.execute("DELETE FROM event")
        self.state = state

    def put(self, name: str):
        self._append(name, {**self.state, name: 1})

    def drop(self, name: str):
        self._append(name, {key: 1 for key in self.state if key != (self.state[name] and name)})

    def close(self):
        self.db.close()
'''


def test_of_proposals_that_fail_the_one_is_named_whose_beat_can_be_made(command: Command, tmp_path: Path) -> None:
    (tmp_path / "compacted.py").write_text(COMPACTED)
    ended = command("new", "target", "--from", "compacted:Compacted")
    assert ended.code == 2
    assert "drop(name='heartbeat') fails" not in ended.err
    assert "put(name='heartbeat')" in ended.err


WRITES_ELSEWHERE = """
import sqlite3, threading

class Words:
    def __init__(self, path):
        self.path, self._by_thread = path, {}
        self._connection.execute("CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY, many INTEGER)")

    @property
    def _connection(self):
        mine = threading.get_ident()
        if mine not in self._by_thread:
            self._by_thread[mine] = sqlite3.connect(self.path, isolation_level=None)
        return self._by_thread[mine]

    def put(self, word: str, many: int):
        self._connection.execute("INSERT OR REPLACE INTO words VALUES (?, ?)", (word, many))

    def save_as(self, name: str):
        copy = sqlite3.connect(name)
        self._connection.backup(copy)
        copy.close()
"""


def test_a_call_that_writes_into_the_working_directory_is_left_out(command: Any, tmp_path: Path) -> None:
    (tmp_path / "spoken.py").write_text(WRITES_ELSEWHERE)
    wrote = command("new", "target", "--from", "spoken:Words")
    assert "not called: save_as: it writes into the working directory: 'alpha'" in wrote.out, wrote
    assert not (tmp_path / "alpha").exists()


def test_a_connection_by_thread_is_asked_for_in_each_process(command: Any, tmp_path: Path) -> None:
    (tmp_path / "spoken.py").write_text(WRITES_ELSEWHERE)
    assert command("new", "target", "--from", "spoken:Words").code == 0
    target = (tmp_path / "spoken_target.py").read_text()
    assert "_by_thread[threading.get_ident()].close()" in target
    assert "import threading" in target
    plan = "write:journal@1=FULL"
    swept = command("sweep", "--target", "spoken_target:WordsTarget", "--plan", plan, "--quiet", "--jobs", 1)
    assert swept.code == 0, swept


BREAKS = """
import sqlite3

class Breaks:
    def __init__(self, path):
        self.path, self.db = path, sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS pages (name TEXT PRIMARY KEY, text TEXT NOT NULL)")

    def put(self, name: str, text: str):
        self.db.execute("INSERT OR REPLACE INTO pages VALUES (?, ?)", (name, text))

    def shrink(self, name: str):
        self.db.execute("DELETE FROM pages WHERE name = ?", (name,))
        with open(self.path, "r+b") as file:
            file.seek(4096)
            file.write(bytes(4096))

    def close(self):
        self.db.close()
"""


def test_a_call_that_damages_the_file_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS)
    wrote = command("new", "target", "--from", "breaks:Breaks")
    assert wrote.code == 2
    assert "after shrink(name=" in wrote.err
    assert "the store's file can't be read, without any fault: DatabaseError(" in wrote.err
