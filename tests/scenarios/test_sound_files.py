"""SQLite's own checks run once over equal bytes, and over anything that differs from them."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.scenarios.tiny_stores import Tiny

from tornpage.scenarios.execution import reopen
from tornpage.scenarios.execution.generic_checks.sound_files import SoundFiles, content_of
from tornpage.scenarios.execution.snapshots import Holder
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Configuration, Target

WAL, DELETE = Configuration("wal", "FULL"), Configuration("delete", "FULL")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """One entry for each time that SQLite's checks run."""
    made: list[sqlite3.Connection] = []
    require_integrity = reopen.require_integrity

    def counted(connection: sqlite3.Connection, target: Target) -> None:
        made.append(connection)
        require_integrity(connection, target)

    monkeypatch.setattr(reopen, "require_integrity", counted)
    monkeypatch.setattr("tornpage.scenarios.execution.fresh_reader._SOUND", SoundFiles())
    return made


@contextlib.contextmanager
def opened(configuration: Configuration, directory: Path) -> Iterator[Trial]:
    directory.mkdir()
    with Trial(Tiny(), configuration, directory, {}) as trial:
        trial.open()
        for number in range(50):
            trial.call(Action("put", {"key": f"{number:02}", "value": number}), trial.fresh_view(integrity=False))
        yield trial


@pytest.mark.parametrize("configuration", [WAL, DELETE], ids=str)
def test_equal_bytes_are_checked_once_and_a_change_is_checked(
    configuration: Configuration, checks: list[sqlite3.Connection], tmp_path: Path
) -> None:
    with opened(configuration, tmp_path / "a") as trial:
        assert trial.fresh_view() == trial.fresh_view() == trial.fresh_view()
        assert len(checks) == 1
        trial.call(Action("put", {"key": "one more", "value": 1}), {})
        trial.fresh_view()
        assert len(checks) == 2


def test_damage_to_a_file_that_was_sound_is_found(checks: list[sqlite3.Connection], tmp_path: Path) -> None:
    with opened(DELETE, tmp_path / "a") as trial:
        trial.fresh_view()
        database = trial.target.database(trial.directory)
        content = bytearray(database.read_bytes())
        # The key of the last row, in place: the header, and so the change counter, stays as it is.
        at = content.rindex(b"49")
        content[at : at + 2] = b"00"
        with database.open("r+b") as file:
            file.write(content)
        for _ in range(2):
            with pytest.raises(Violation, match="integrity"):
                trial.fresh_view()
    assert len(checks) == 3


def test_a_log_of_the_same_bytes_of_which_more_is_valid_is_another_content(tmp_path: Path) -> None:
    known = SoundFiles()
    known.add((b"database", b"log", b"one frame"))
    assert (b"database", b"log", b"one frame") in known
    assert (b"database", b"log", b"two frames") not in known
    assert (b"database", b"lag", b"one frame") not in known


def test_beside_a_journal_that_may_have_to_be_rolled_back_nothing_is_remembered(tmp_path: Path) -> None:
    path, journal, holder = tmp_path / "a.db", tmp_path / "a.db-journal", Holder()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t(a)")
    assert content_of(path, holder) is not None
    journal.write_bytes(bytes.fromhex("d9d505f920a163d7"))
    assert content_of(path, holder) is None
    # SQLite's own rule: one whose first byte is zero is left alone.
    journal.write_bytes(bytes(28))
    assert content_of(path, holder) is not None
    holder.release()


def test_large_files_and_missing_ones_are_not_remembered(tmp_path: Path) -> None:
    holder = Holder()
    assert content_of(tmp_path / "none.db", holder) is None
    (tmp_path / "large.db").write_bytes(bytes(2**20 + 1))
    assert content_of(tmp_path / "large.db", holder) is None
    holder.release()
