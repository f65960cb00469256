"""A store that reads SQLite's files by itself is opened on each disk that differs in what it has read there."""

import mmap
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crash_places import Base, Keys

from tornpage import Action, Configuration, faults
from tornpage.faults.files.in_place import is_supported
from tornpage.scenarios.execution.crash.footprint import Touches
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


class Peeks(Keys):
    """Looks at the number of pages in the header before SQLite opens the file, or after."""

    mode, synchronous = "DELETE", "EXTRA"
    after = False

    def connect(self) -> sqlite3.Connection:
        connection = super().connect() if self.after else None
        if self.path.exists():
            with self.path.open("rb", buffering=0) as file:
                file.read(16)
        return connection or super().connect()


class PeeksAfter(Peeks):
    after = True


@pytest.mark.parametrize("kind", [Peeks, PeeksAfter])
def test_what_was_read_before_sqlite_opened_the_database_says_which_disks_are_alike(tmp_path: Path, kind: type) -> None:
    target = ReadsHeader()
    target.kind = kind
    with faults.install(), faults.shims().deterministic():
        with Executor(target, EXTRA, tmp_path / "recorded", record=True) as executor:
            for name in ("a", "b"):
                executor.do(Call(Action("put", {"name": name, "value": 1})))
            executor.close_session()
        recording = executor.recording
        assert recording is not None
        states, opens = recording.states(), recording.reader()
        for position in range(recording.history.spans[0].begin, len(recording.tape)):
            for state in states.power(position):
                recording.judge(state, opens)
    openings = sum(map(len, opens.opened.values()))
    # The magic is there or not: the rest is what SQLite shows, and whether there is a journal.
    assert openings == opens.read if kind is PeeksAfter else 2 < openings < opens.read / 2


NAME = "store.sqlite"
FILES = {NAME: b"0123456789" * 1000, f"{NAME}-wal": b"log"}


def touched(directory: Path, touch: Callable[[Path], object]) -> Touches:
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    touches = Touches(directory / NAME, NAME, FILES)
    with faults.install(), touches.noted():
        touch(directory / NAME)
    return touches


def by_descriptor(read: Callable[[int], object]) -> Callable[[Path], object]:
    def touch(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            read(descriptor)
        finally:
            os.close(descriptor)

    return touch


def opened(read: Callable[[Any], object], buffering: int = 0) -> Callable[[Path], object]:
    def touch(path: Path) -> None:
        with path.open("rb", buffering=buffering) as file:
            read(file)

    return touch


@pytest.mark.parametrize(
    "touch",
    [
        by_descriptor(lambda descriptor: os.read(descriptor, 4)),
        by_descriptor(lambda descriptor: os.pread(descriptor, 4, 0)),
        by_descriptor(lambda descriptor: os.readv(descriptor, [bytearray(2), bytearray(2)])),
        by_descriptor(lambda descriptor: os.preadv(descriptor, [bytearray(4)], 0)),
        opened(lambda file: file.read(4)),
        opened(lambda file: file.readinto(bytearray(4))),
        opened(lambda file: file.read(4), buffering=4),
    ],
)
def test_a_part_that_was_read_is_all_that_counts(tmp_path: Path, touch: Callable[[Path], object]) -> None:
    touches = touched(tmp_path, touch)
    assert touches.seen
    assert touches.footprint.fits(NAME, FILES)
    assert touches.footprint.fits(NAME, {**FILES, NAME: b"0123, other from here"})
    assert not touches.footprint.fits(NAME, {**FILES, NAME: b"012_" + FILES[NAME][4:]})
    assert not touches.footprint.fits(NAME, {NAME: FILES[NAME]}), "the log is gone"


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: path.read_bytes(),
        lambda path: path.read_text(),
        lambda path: shutil.copyfile(path, path.with_name("copy")),
        by_descriptor(os.fstat),
        by_descriptor(lambda descriptor: os.lseek(descriptor, 0, os.SEEK_END)),
        by_descriptor(lambda descriptor: mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ).close()),
        opened(lambda file: file.seek(0, os.SEEK_END)),
        opened(lambda file: file.readall()),
        lambda path: path.rename(path.with_name("away")),
        lambda path: path.with_name(f"{NAME}-wal").unlink(),
        lambda path: os.truncate(path, 5),
        lambda path: path.write_bytes(b""),
    ],
)
def test_what_asks_for_the_length_or_changes_a_file_depends_on_the_whole(
    tmp_path: Path, touch: Callable[[Path], object]
) -> None:
    touches = touched(tmp_path, touch)
    assert touches.seen
    assert touches.footprint.fits(NAME, FILES)
    assert not touches.footprint.fits(NAME, {**FILES, NAME: FILES[NAME] + b"more"})


def test_what_is_read_once_sqlite_has_opened_the_database_depends_on_the_whole(tmp_path: Path) -> None:
    def touch(path: Path) -> None:
        with path.open("rb", buffering=0) as file, closing(sqlite3.connect(path)) as connection:
            with pytest.raises(sqlite3.DatabaseError, match="not a database"):
                connection.execute("SELECT * FROM sqlite_master")
            assert file.read(4) == b"0123"

    touches = touched(tmp_path, touch)
    assert touches.footprint.fits(NAME, FILES)
    assert not touches.footprint.fits(NAME, {**FILES, NAME: b"0123, other from here"})


def test_a_read_of_another_file_is_no_touch(tmp_path: Path) -> None:
    touches = touched(tmp_path, lambda path: path.with_name("other").write_bytes(b"x"))
    assert not touches.seen


def test_a_database_that_is_moved_away_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    assert not touched(tmp_path, lambda path: path.with_name("other").rename(path.with_name("another"))).seen
    assert touched(tmp_path, lambda path: path.rename(path.with_name("old.sqlite"))).seen
