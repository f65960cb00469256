"""What a failed call, or a thread of the store's own, has left beside the database, and the power cut after it."""

import json
import mmap
import os
import queue
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from crash_places import Base, Keys
from seeds import first_of

from tornpage import Action, Configuration, SimpleTarget, faults
from tornpage.faults.files.in_place import is_supported
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, Clear, CrashAt, Restart
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.campaign import run

pytestmark = pytest.mark.skipif(not is_supported(), reason="built-in functions of this interpreter are out of reach")


def found_in(
    target: Any, seed: int = 0, states: int = 20, most_findings: int = 25, shorter: int | None = None
) -> set[str]:
    profile = Profile("test", 1, None, 0, 0, crash_states=states, shorter=shorter)
    plan = Plan(("crash",), profile, seed=seed, report=None, most_findings=most_findings)
    recorder = run(target, plan)
    assert not recorder.vacuous
    return {found.finding.code for found in recorder.findings}


def sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


# -- a call that is made again --------------------------------------------------------------------------------


class Blobs(Keys):
    """The row names a file; a start removes the files that no row names."""

    skips = False

    def begin(self) -> None:
        used = set(self.all())
        for blob in self.path.parent.glob("*.blob"):
            if blob.name.removesuffix(".blob") not in used:
                blob.unlink()

    def put(self, name: str, value: Any) -> None:
        blob = self.path.with_name(f"{name}.blob")
        if not (self.skips and blob.exists()):
            new = blob if self.skips else blob.with_suffix(".new")
            with new.open("w") as file:
                file.write(str(value))
                file.flush()
                os.fsync(file.fileno())
            new.replace(blob)
            sync_directory(blob.parent)
        super().put(name, blob.name)


class BlobsInPlace(Blobs):
    skips = True


class ByBlob(Base):
    kind = Blobs

    def view(self, store: Any) -> dict[str, Any]:
        return {name: store.path.with_name(blob).read_text() for name, blob in store.all().items()}

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        home = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
        return {name: home.joinpath(blob).read_text() for name, blob in super().rows(connection).items()}


class TakesTheRestForWhole(ByBlob):
    """acknowledged-is-durable: the file that a failed call has left is not written, or synced, by the next one."""

    kind = BlobsInPlace


@pytest.mark.parametrize("seed", first_of([0, 1, 2]))
def test_a_call_that_is_made_again_and_takes_what_is_left_for_whole_is_found(seed: int) -> None:
    assert "acknowledged-is-durable" in found_in(TakesTheRestForWhole(), seed, most_findings=1, shorter=50)


def test_a_call_that_is_made_again_and_writes_again_is_silent() -> None:
    assert found_in(ByBlob()) == set()


# -- a change of a failed call, beside the database -----------------------------------------------------------


class Exported(Keys):
    """A snapshot beside the database, written and renamed by a call of its own."""

    is_synced = True
    named = "export.json"

    def export(self) -> None:
        export = self.path.with_name(self.named.format(self.path.name))
        new = export.with_name(f"{export.name}.new")
        with new.open("w") as file:
            json.dump(self.all(), file)
            file.flush()
            if self.is_synced:
                os.fsync(file.fileno())
        new.replace(export)
        sync_directory(self.path.parent)


class ExportedUnsynced(Exported):
    is_synced = False


class ShowsItsExport(Base):
    kind: type[Exported] = Exported
    calls = (Action("put", {"name": "a", "value": 1}), Action("export", {}))

    def view(self, store: Any) -> dict[str, Any]:
        return self._with_export(store.all(), store.path.parent)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        home = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
        return self._with_export(super().rows(connection), home)

    def _with_export(self, rows: dict[str, Any], home: Path) -> dict[str, Any]:
        export = home / self.kind.named.format(self.file)
        return {**rows, **({f"export/{key}": 1 for key in json.loads(export.read_text())} if export.exists() else {})}


@pytest.mark.parametrize("seed", first_of([0, 1]))
def test_a_rename_that_reported_failure_may_be_lost_after_later_changes_of_the_database(seed: int) -> None:
    assert found_in(ShowsItsExport(), seed, states=60) == set()


class ShowsWhatIsNotSynced(ShowsItsExport):
    """acknowledged-is-durable: the snapshot is renamed before its content is on the disk."""

    kind = ExportedUnsynced


def test_a_snapshot_that_is_renamed_before_it_is_synced_is_found() -> None:
    assert "acknowledged-is-durable" in found_in(ShowsWhatIsNotSynced(), most_findings=2, shorter=50)


class NamesItAfterTheDatabase(Exported):
    named = "{}.json"


class ShowsItsNamesake(ShowsItsExport):
    kind = NamesItAfterTheDatabase


def test_a_file_whose_name_begins_with_the_database_s_is_beside_it(tmp_path: Path) -> None:
    target = ShowsItsNamesake()
    put, export = map(Call, target.calls)
    with faults.install(), Executor(target, target.configurations[0], tmp_path / "it", record=True) as executor:
        for step in (Restart(), put, Arm("file-fsync:dir@1=EIO"), export, Clear(), Call(target.beat)):
            executor.do(step)
        assert executor.recording is not None
        made = executor.recording.tape.operations
        renamed = next(number for number, one in enumerate(made) if one.kind == "rename")
        executor.do(CrashAt(len(made), (renamed,)))
        assert executor.real.fresh_view() == {"a": 1, "heartbeat": 1}


# -- a thread of the store's own ------------------------------------------------------------------------------


class Log:
    """Lines that a thread appends and syncs; a call waits until it has."""

    early = False

    def __init__(self, path: Path) -> None:
        self.lines = path.read_text().split() if path.exists() else []
        self.file = path.open("ab", buffering=0)
        try:
            sync_directory(path.parent)
        except OSError:
            self.file.close()
            raise
        self.jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        while (job := self.jobs.get()) is not None:
            line, done, failed = job
            try:
                self.file.write(line)
                if self.early:
                    done.set()
                os.fsync(self.file.fileno())
            except OSError as error:
                failed.append(error)
            done.set()

    def put(self, name: str) -> None:
        done, failed = threading.Event(), list[OSError]()
        self.jobs.put((f"{name}\n".encode(), done, failed))
        done.wait()
        if failed:
            raise failed[0]
        self.lines.append(name)

    def close(self) -> None:
        self.jobs.put(None)
        self.thread.join()
        self.file.close()


class EarlyLog(Log):
    early = True


class Lines(SimpleTarget):
    title = "lines, appended by a thread"
    file = "log"
    configurations = (Configuration("file", "FULL"),)
    calls = tuple(Action("put", {"name": name}) for name in "abcdef")
    beat = Action("put", {"name": "heartbeat"})
    kind: type[Log] = Log

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Log:
        return self.kind(path)

    def view(self, store: Log) -> dict[str, int]:
        return dict.fromkeys(store.lines, 1)

    def files_view(self, directory: Path) -> dict[str, int]:
        log = directory / "log"
        return dict.fromkeys(log.read_text().split(), 1) if log.exists() else {}


class AcknowledgesEarly(Lines):
    """acknowledged-is-durable: the thread reports the line before it has synced it."""

    kind = EarlyLog


def lost_without_a_fault(target: Any) -> bool:
    plan = Plan(("crash",), Profile("test", 1, None, 0, 0, crash_states=10), report=None, most_findings=1)
    found = run(target, plan).findings
    return any(one.finding.code == "acknowledged-is-durable" and not one.finding.scenario.faults for one in found)


def test_a_thread_that_reports_before_it_syncs_is_found() -> None:
    assert lost_without_a_fault(AcknowledgesEarly())


def test_a_thread_that_reports_after_it_has_synced_is_silent_without_a_fault() -> None:
    assert not lost_without_a_fault(Lines())


# -- what is not seen -----------------------------------------------------------------------------------------


class Mapped:
    def __init__(self, path: Path) -> None:
        path.touch()
        os.truncate(path, 4096)
        self.file = path.open("r+b")
        self.map = mmap.mmap(self.file.fileno(), 4096)

    def put(self, name: str) -> None:
        at = self.map.find(b"\0")
        self.map[at : at + len(name) + 1] = f"{name} ".encode()
        self.map.flush()

    @property
    def lines(self) -> list[str]:
        return self.map[:].rstrip(b"\0").decode().split()

    def close(self) -> None:
        self.map.close()
        self.file.close()


class ByMapMadeOnce(Lines):
    kind = Mapped  # type: ignore[assignment]

    def files_view(self, directory: Path) -> dict[str, int]:
        log = directory / "log"
        return dict.fromkeys(log.read_bytes().rstrip(b"\0").decode().split(), 1) if log.exists() else {}


def test_a_map_that_was_made_when_the_store_was_opened_is_named_at_each_call() -> None:
    with pytest.raises(TargetError, match="log was mapped into memory"):
        found_in(ByMapMadeOnce())


# -- files that break a check without any fault ---------------------------------------------------------------


class WithoutParents(Keys):
    """Each key has a row in another table, whose foreign key names a parent that is missing."""

    def begin(self) -> None:
        self.db.execute("CREATE TABLE IF NOT EXISTS child (name TEXT REFERENCES kv(name))")

    def put(self, name: str, value: Any) -> None:
        super().put(name, value)
        self.db.execute("INSERT INTO child VALUES ('nobody')")


class BreaksItsOwnKeys(Base):
    kind = WithoutParents


def test_calls_that_begin_with_files_which_break_a_check_are_left_to_the_workload() -> None:
    recorder = run(BreaksItsOwnKeys(), Plan(("crash",), Profile("test", 1, None, 0, 0, crash_states=20), report=None))
    assert {one.finding.code for one in recorder.findings} == {"integrity"}
    assert [one.reason for one in recorder.vacuous] == ["no crash state was tried"]
