"""First targets for stores that a function makes: from a configuration, by a class method, without a `close`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("collected")

CONFIGURED = """
import dataclasses, pathlib, sqlite3

@dataclasses.dataclass
class Config:
    path: pathlib.Path

class Notes:
    def __init__(self, config: Config):
        self.db = sqlite3.connect(config.path)
        self.db.execute("CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT)")

    def add(self, text: str) -> int:
        with self.db:
            return self.db.execute("INSERT INTO note (text) VALUES (?)", (text,)).lastrowid

class Forgets(Notes):
    # A BUSY at its COMMIT leaves the transaction open.
    def add(self, text: str) -> int:
        number = self.db.execute("INSERT INTO note (text) VALUES (?)", (text,)).lastrowid
        self.db.commit()
        return number

def make(path):
    return Notes(Config(path))

def make_forgets(path):
    return Forgets(Config(path))
"""

FUNCTIONS = """
import sqlite3

def connect(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (a)")
    return db
"""


@pytest.mark.parametrize(("function", "code"), [("make", 0), ("make_forgets", 1)])
def test_a_store_that_a_function_makes_needs_no_close(
    command: Command, tmp_path: Path, function: str, code: int
) -> None:
    module = f"configured_{function}"
    (tmp_path / f"{module}.py").write_text(CONFIGURED)
    wrote = command("new", "target", "--from", f"{module}:{function}")
    assert wrote.code == 0, wrote
    name = f"{function[:1].upper()}{function[1:]}Target"
    ran = command("sweep", "--target", f"{module}_target:{name}", "--quiet")
    assert ran.code == code, ran
    assert ("memory-equals-disk" in ran.out) == bool(code)


def test_what_can_not_be_made_from_a_path_says_that_a_function_can(command: Command, tmp_path: Path) -> None:
    (tmp_path / "configured.py").write_text(CONFIGURED)
    ended = command("new", "target", "--from", "configured:Notes")
    assert ended.code == 2
    assert (
        "write a function (or an `async def`) that takes a path and returns such a store, and name that: --from "
        "MODULE:FUNCTION" in ended.err
    )
    ended = command("new", "target", "--from", "configured:Notes.open")
    assert ended.code == 2
    assert "nor MODULE:FUNCTION, a function that takes a path and returns a store" in ended.err


def test_a_store_of_plain_files_is_told_where_its_target_is_described(command: Command, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "class Plain:\n    def __init__(self, path):\n        self.file = open(path, 'a')\n"
        "    def put(self, name):\n        self.file.write(name)\n"
        "    def close(self):\n        self.file.close()\n"
    )
    ended = command("new", "target", "--from", "plain:Plain")
    assert ended.code == 2
    assert "docs/your-own-store.md#a-store-of-plain-files" in ended.err


def test_functions_of_a_module_need_a_class_that_calls_them(command: Command, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    ended = command("new", "target", "--from", "functions:connect")
    assert ended.code == 2
    assert "a store of functions needs a class whose methods call them" in ended.err
