"""A store that reads SQLite's files by itself is opened on each disk: SQLite shows some alike that it does not."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from crash_places import Base, Keys

from tornpage import Action, Configuration, faults
from tornpage.faults.files import watching
from tornpage.faults.files.in_place import is_supported
from tornpage.scenarios.execution.crash import reader
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Call

pytestmark = pytest.mark.skipif(not is_supported(), reason="built-in functions of this interpreter are out of reach")
EXTRA = Configuration("delete", "EXTRA")


class Numbered(Keys):
    """Its header has the number of rows, and is read before SQLite opens the file: a journal may still take it back."""

    mode, synchronous = "DELETE", "EXTRA"

    def connect(self) -> sqlite3.Connection:
        header = self.path.read_bytes()[60:64] if self.path.exists() else b""
        connection = super().connect()
        rows = connection.execute("SELECT count(*) FROM kv").fetchone()[0] if header else 0
        if int.from_bytes(header, "big") > rows:
            connection.close()
            raise RuntimeError(f"rows are missing: there are {rows}")
        return connection

    def put(self, name: str, value: Any) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            super().put(name, value)
            self.db.execute(f"PRAGMA user_version = {len(self.all())}")
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


class ReadsHeader(Base):
    kind = Numbered
    configurations = (EXTRA,)


def test_a_store_that_reads_a_file_of_sqlites_is_opened_on_each_disk(tmp_path: Path) -> None:
    with faults.install(), faults.shims().deterministic():
        executor = Executor(ReadsHeader(), EXTRA, tmp_path / "recorded", record=True)
        with executor:
            for name in ("a", "b"):
                executor.do(Call(Action("put", {"name": name, "value": 1})))
            executor.close_session()
        recording = executor.recording
        assert recording is not None
        operations = recording.tape.operations
        written = [index for index, one in enumerate(operations) if (one.kind, one.path) == ("write", "store.sqlite")]
        # Of the last transaction: to the header's page, and to those of the table and of its index.
        header, *rows = written[-3:]
        states, opens = recording.states(), recording.reader()
        # To SQLite both are the same: the journal is rolled back.
        harmless = states.at(faults.Crash(rows[-1] + 1, (header,)))
        harmful = states.at(faults.Crash(rows[-1] + 1, tuple(rows)))
        assert recording.judge(harmless, opens)[0] == {"a": 1}
        with pytest.raises(Violation, match="rows are missing"):
            recording.judge(harmful, opens)


def test_a_database_that_is_moved_away_is_noticed(tmp_path: Path) -> None:
    database = tmp_path / "store.sqlite"
    database.write_bytes(b"")
    (tmp_path / "other").write_bytes(b"")
    touches = reader._Touches(database)
    with faults.install(), watching(touches):
        (tmp_path / "other").rename(tmp_path / "another")
        assert not touches.seen
        database.rename(tmp_path / "old.sqlite")
        assert touches.seen
