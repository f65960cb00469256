"""A finding of a crash says so if the database was to have a log, and SQLite is not in WAL mode."""

import sqlite3
from contextlib import closing
from pathlib import Path

import others_stores
import pytest

from tornpage import faults
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation


class Wal(others_stores.ShelfTarget):
    """Its adapter is asked for a log; the file may have none."""

    configurations = others_stores.WAL


@pytest.mark.parametrize(
    ("mode", "journal", "is_named"), [("wal", False, False), ("wal", True, False), ("delete", False, True)]
)
@pytest.mark.usefixtures("shim")
def test_a_database_without_its_log_is_named(home: Path, mode: str, journal: bool, is_named: bool) -> None:
    target = Wal()
    made = home / "made.sqlite"
    with closing(sqlite3.connect(made)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE item(key)")
    with Trial(target, target.configurations[0], home / "trial", {}) as trial:
        name = target.database(trial.directory).name
        # An empty journal rolls nothing back; SQLite is asked all the same.
        files = {name: made.read_bytes(), **({f"{name}-journal": b""} if journal else {})}
        recording = Recording(trial, files, {})
        state = faults.State(faults.Crash(0, power=False), files, ())
        violation = recording._with_mode(Violation("integrity", "it is damaged"), state)
        recording.end()
    assert violation.message.startswith("it is damaged")
    assert violation.message.endswith("PRAGMA journal_mode did not set it") == is_named
