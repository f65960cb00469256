"""A database that the store makes private, and side files that give more access: ``files-are-private``."""

import os
import stat
from pathlib import Path
from typing import Any

import others_stores
import pytest

from tornpage import faults
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import UsualUmask
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.run.reproduce.replay_file import Verdict, read, replay, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="it has no modes")


class InWal(others_stores.ShelfTarget):
    configurations = (Configuration("wal", "FULL"),)

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            try:
                self.db.execute("PRAGMA journal_mode = WAL").fetchone()
            except BaseException:
                self.db.close()
                raise
            self.opened(path)

        def opened(self, path: Path) -> None:
            """What it does once it is open."""


class PrivateFirst(InWal):
    """Makes the file with its mode before SQLite opens it."""

    class kind(InWal.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def __init__(self, path: Path) -> None:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            super().__init__(path)


class PrivateTooLate(InWal):
    """Its log is there before the database gets its mode."""

    class kind(InWal.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def opened(self, path: Path) -> None:
            self.db.execute("INSERT OR IGNORE INTO item VALUES ('first', 'x')")
            self.db.execute("DELETE FROM item WHERE key = 'first'")
            path.chmod(0o600)


def codes(target: Any) -> list[str]:
    recorder = run(target, Plan(("sweep",), Profile("test", 1, 5, 0, 0), report=None))
    return [one.finding.code for one in recorder.findings]


@pytest.mark.parametrize("target", [InWal, PrivateFirst])
def test_side_files_with_the_mode_of_their_database_are_silent(target: Any) -> None:
    assert "files-are-private" not in codes(target())


def test_a_log_that_is_there_before_the_database_is_made_private_is_found_and_replays(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    os.umask(umask)
    recorder = run(PrivateTooLate(), Plan(("sweep",), Profile("test", 1, 5, 0, 0), report=None))
    found = [one.finding for one in recorder.findings if one.finding.code == "files-are-private"]
    assert len(found) == 1
    assert "-wal has the mode 0644" in found[0].message
    assert found[0].scenario.steps == (UsualUmask(),)
    with faults.install():
        made = read(write(found[0], tmp_path, 0))
        assert replay(made, PrivateTooLate(), tmp_path / "broken")[0] is Verdict.FAILED
        assert replay(made, PrivateFirst(), tmp_path / "sound")[0] is Verdict.FIXED
    # The process has its own umask again.
    probe = tmp_path / "probe"
    probe.touch()
    assert stat.S_IMODE(probe.stat().st_mode) == 0o666 & ~umask
