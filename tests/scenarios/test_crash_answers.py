"""After a power cut that has taken nothing from the rows, a read may still miss what was beside them."""

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.reproduce.replay_file import read, write
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ADAPTERS, ProcessTarget
from tornpage.scenarios.targets.registry import find_or_import


class Pages:
    """Texts in files, and their lengths in rows. The files are not synced."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        self.directory = path.parent
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL").fetchall()
            self.db.execute(f"PRAGMA synchronous = {synchronous}")
            self.db.execute("CREATE TABLE IF NOT EXISTS page (name TEXT PRIMARY KEY, length INTEGER)")
        except BaseException:
            self.db.close()
            raise

    def put(self, name: str, text: str) -> None:
        with self.directory.joinpath(f"{name}.txt").open("w") as file:
            file.write(text)
            file.flush()
            self.sync(file.fileno())
        self.sync_directory()
        self.db.execute("INSERT OR REPLACE INTO page VALUES (?, ?)", (name, len(text)))

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self) -> None:
        pass

    def drop(self, name: str) -> None:
        self.db.execute("DELETE FROM page WHERE name = ?", (name,))
        self.directory.joinpath(f"{name}.txt").unlink(missing_ok=True)

    def text(self, name: str) -> str:
        return self.directory.joinpath(f"{name}.txt").read_text()

    def files(self) -> int:
        return len(list(self.directory.glob("*.txt")))

    def beat(self, name: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO page VALUES (?, 0)", (name,))

    def close(self) -> None:
        self.db.close()


class Synced(Pages):
    """Sound; but the removal of a file may be undone."""

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Appended(Pages):
    """All texts in one file, to which each is appended. Its beginning is there, and it is not synced, either."""

    def put(self, name: str, text: str) -> None:
        with self.directory.joinpath("all.log").open("a") as file:
            file.write(f"{name}={text}\n")
        self.db.execute("INSERT OR REPLACE INTO page VALUES (?, ?)", (name, len(text)))

    def drop(self, name: str) -> None:
        self.db.execute("DELETE FROM page WHERE name = ?", (name,))

    def text(self, name: str) -> str:
        lines = self.directory.joinpath("all.log").read_text().splitlines()
        return next((line for line in reversed(lines) if line.startswith(f"{name}=")), "")


class Noted(Synced):
    """Sound: a note of the last use, which is not synced, and which no call returns."""

    def put(self, name: str, text: str) -> None:
        super().put(name, text)
        self.directory.joinpath("last.use").write_text(name)


class Unnamed(Synced):
    """The folder of the files is not synced: a name may be lost with its row there."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        path.parent.joinpath("pages").mkdir(exist_ok=True)
        super().__init__(path, synchronous)
        self.sync_directory()
        self.directory = path.parent / "pages"

    def put(self, name: str, text: str) -> None:
        draft = self.directory / f"{name}.new"
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.directory / f"{name}.txt")
        self.db.execute("INSERT OR REPLACE INTO page VALUES (?, ?)", (name, len(text)))


class MayBeMissing(Unnamed):
    """Sound: what the files hold can be made again, and a missing one is none."""

    def text(self, name: str) -> str:
        path = self.directory / f"{name}.txt"
        return path.read_text() if path.exists() else "made again"


class PagesTarget(SimpleTarget):
    title = "pages"
    callers = ()
    configurations = (Configuration("wal", "FULL"),)
    calls = (
        Action("put", {"name": "a", "text": "one"}),
        Action("text", {"name": "a"}),
        Action("put", {"name": "b", "text": "two"}),
        # Once it is dropped, it fails with and without a cut.
        Action("text", {"name": "b"}),
        Action("put", {"name": "a", "text": "ten"}),
        Action("drop", {"name": "b"}),
        Action("files"),
    )
    beat = Action("beat", {"name": "heartbeat"})

    def __init__(self, kind: type[Pages]) -> None:
        super().__init__()
        self.kind = kind

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Pages:
        return self.kind(path, configuration.synchronous)

    def view(self, store: Pages) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(connection.execute("SELECT name, length FROM page").fetchall())


class OnceTarget(PagesTarget):
    """Each file is written once."""

    calls = tuple(one for one in PagesTarget.calls if one.args != {"name": "a", "text": "ten"})


class NormalTarget(PagesTarget):
    configurations = (Configuration("wal", "NORMAL"),)


NORMAL = NormalTarget(Pages)
PAGES, SYNCED = PagesTarget(Pages), PagesTarget(Synced)
APPENDED, NOTED = PagesTarget(Appended), PagesTarget(Noted)
UNNAMED, MAY_BE_MISSING = PagesTarget(Unnamed), OnceTarget(MayBeMissing)


def crashed(name: str) -> Recorder:
    profile = Profile("test", 1, None, 0, 0, crash_states=60)
    return campaign.run(find_or_import(f"{__name__}:{name}"), Plan(("crash",), profile, report=None))


@pytest.mark.parametrize("name", ["PAGES", "APPENDED", "UNNAMED"])
def test_a_file_that_is_not_synced_is_missed_by_a_read(name: str, tmp_path: Path) -> None:
    found = [one.finding for one in crashed(name).findings]
    assert [one.code for one in found if "the rows are there, and text(name=" in one.message], found
    finding = next(one for one in found if "the rows are there" in one.message)
    assert finding.code == "acknowledged-is-durable"
    assert "without the cut it returns" in finding.message
    with faults.install():
        again, _ = play(
            read(write(finding, tmp_path, 0)).scenario, find_or_import(f"{__name__}:{name}"), tmp_path / "x"
        )
    assert again is not None
    assert again.message == finding.message


@pytest.mark.parametrize("name", ["SYNCED", "NOTED", "NORMAL", "MAY_BE_MISSING"])
def test_what_no_read_misses_or_nothing_promises_is_no_finding(name: str) -> None:
    recorder = crashed(name)
    assert not recorder.findings
    assert not recorder.vacuous


@pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
def test_a_program_of_its_own_is_asked_as_well(tmp_path: Path) -> None:
    here, adapter = Path(__file__).with_name("blob_program.py"), ADAPTERS / "python"
    profile = Profile("test", 1, None, 0, 0, crash_states=20)
    for mode, wanted in (("unsynced", ["acknowledged-is-durable"]), ("synced", [])):
        with ProcessTarget((sys.executable, str(here), str(adapter), mode), mode) as target:
            recorder = campaign.run(target, Plan(("crash",), profile, report=None))
        assert [one.finding.code for one in recorder.findings] == wanted
        assert all("the rows are there, and get(name='a')" in one.finding.message for one in recorder.findings)
