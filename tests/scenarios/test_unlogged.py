"""A store that logs each failure: a search prints no thousands of records, a replay prints those of its scenario."""

import logging
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.run.unlogged import unlogged

STORE = """
import logging, sqlite3
from tornpage import Action, SimpleTarget

class Store:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY)")

    def add(self, name):
        try:
            self.db.execute("INSERT OR IGNORE INTO names VALUES (?)", (name,))
        except sqlite3.Error as error:
            LOG("not added: %s", error)

    def close(self):
        self.db.close()

class Logs(SimpleTarget):
    calls = (Action("add", {"name": "ada"}),)
    beat = Action("add", {"name": "beat"})

    def make(self, path, configuration, environment):
        return Store(path)

    def view(self, store):
        return self.rows(store.db)

    def rows(self, connection):
        return {name: True for (name,) in connection.execute("SELECT name FROM names")}
"""


@pytest.mark.parametrize("log", ["logging.getLogger('names').warning", "logging.warning"])
@pytest.mark.parametrize("is_configured", [False, True])
def test_only_a_replay_prints_what_a_store_logs(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, is_configured: bool
) -> None:
    # Without the handlers of pytest.
    handlers = [logging.StreamHandler()] if is_configured else []
    monkeypatch.setattr(logging.getLogger(), "handlers", handlers)
    module = f"logs_{'root' if 'getLogger' not in log else 'named'}_{is_configured}".lower()
    (tmp_path / f"{module}.py").write_text(STORE.replace("LOG(", f"{log}("))
    swept = command("sweep", "--target", f"{module}:Logs", "--quiet", "--plan", "write@1=FULL", "--jobs", 1)
    assert swept.code == 1, swept
    assert ("not added" in swept.err) is is_configured
    replay = re.search(r"tornpage (replay \S+ --target \S+)", swept.out)
    assert replay is not None
    assert "not added" in command(*replay[1].split()).err


def test_a_first_target_is_written_without_what_the_store_logs(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    speaks = STORE.replace('LOG("not added: %s", error)', "raise").replace(
        "        try:\n", "        logging.getLogger('names').warning('it adds')\n        try:\n"
    )
    (tmp_path / "speaks.py").write_text(speaks)
    wrote = command("new", "target", "--from", "speaks:Store")
    assert wrote.code == 0, wrote
    assert "it adds" not in wrote.err


def test_a_thread_that_ends_by_a_fault_is_not_reported_and_any_other_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_by(error: Exception, *, cause: Exception | None = None) -> None:
        def run() -> None:
            raise error from cause

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    reported = list[Any]()
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_type))
    with unlogged():
        ends_by(sqlite3.OperationalError("disk I/O error"))
        ends_by(RuntimeError("not written"), cause=OSError(28, "No space left on device"))
        ends_by(KeyError("ada"))
    assert reported == [KeyError]
    ends_by(sqlite3.OperationalError("disk I/O error"))
    assert reported == [KeyError, sqlite3.OperationalError]


def test_a_finalizer_that_fails_by_a_fault_is_not_reported_and_any_other_one_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class HalfMade:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    reported = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(str(args.exc_value)))
    with unlogged():
        HalfMade(sqlite3.OperationalError("disk I/O error"))
        for name in ("head", "tail", "head"):
            HalfMade(AttributeError(f"it has no {name}"))
    assert reported == ["it has no head", "it has no tail"]
    HalfMade(AttributeError("it has no head"))
    assert reported == ["it has no head", "it has no tail", "it has no head"]


@pytest.mark.parametrize("options", [(), ("-W", "default")])
def test_a_search_shows_no_warnings_unless_the_user_asks_for_them(options: tuple[str, ...]) -> None:
    program = """
import warnings
from tornpage.scenarios.run.unlogged import unlogged

with unlogged():
    warnings.warn("nothing was deleted")
warnings.warn("and here nothing was inserted")
"""
    ran = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=True)
    assert ("nothing was deleted" in ran.stderr) is bool(options)
    assert "nothing was inserted" in ran.stderr
