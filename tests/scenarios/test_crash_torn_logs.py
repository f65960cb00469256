"""A plain log whose torn last line is not cut at the start: the next line joins it, and a later crash loses both."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any, ClassVar

import pytest
from crash_places import Base, Keys
from renamed_stores import sync_directory
from seeds import first_of

from tornpage import Configuration
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run.campaign import run


class Logged(Keys):
    """Each change is a line of a log, synced first; at the start the whole lines are put into the database."""

    synchronous = "NORMAL"
    cuts = True

    def __init__(self, path: Path) -> None:
        self.log = open(path.with_name(f"{path.name}.changes"), "ab+", buffering=0)  # noqa: PTH123, SIM115 - closed by `close`
        try:
            sync_directory(path.parent)
            super().__init__(path)
        except BaseException:
            self.log.close()
            raise

    def begin(self) -> None:
        changes, size = lines_of(Path(self.log.name))
        for name, value in changes.items():
            super().put(name, value)
        if self.cuts:
            self.log.truncate(size)
            os.fsync(self.log)

    def put(self, name: str, value: Any) -> None:
        self.log.write(json.dumps([name, value]).encode() + b"\n")
        os.fsync(self.log)
        super().put(name, value)

    def close(self) -> None:
        self.log.close()
        self.db.close()


class LeavesTheTail(Logged):
    cuts = False


def lines_of(log: Path) -> tuple[dict[str, Any], int]:
    """The changes in the whole lines of a log, and their size in bytes."""
    changes, size = {}, 0
    for line in log.read_bytes().splitlines(keepends=True) if log.exists() else ():
        try:
            name, value = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        changes[name] = value
        size += len(line)
    return changes, size


class LogBeside(Base):
    kind = Logged
    configurations: ClassVar[tuple[Configuration, ...]] = (Configuration("wal", "FULL"),)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        (database,) = (file for _, name, file in connection.execute("PRAGMA database_list") if name == "main")
        return {**super().rows(connection), **lines_of(Path(f"{database}.changes"))[0]}


class LogLeavesTheTail(LogBeside):
    kind = LeavesTheTail


@pytest.mark.parametrize("seed", first_of([1, 2]))
@pytest.mark.parametrize(("target", "found"), [(LogBeside(), set()), (LogLeavesTheTail(), {"acknowledged-is-durable"})])
def test_a_start_on_a_torn_line_is_always_tried(target: Target, found: set[str], seed: int) -> None:
    profile = Profile("test", 1, 1, 1, 1, crash_states=60, shrinks=False)
    recorder = run(target, Plan(("crash",), profile, seed=seed, report=None, most_findings=1))
    # Neither store undoes a line whose change could not be made.
    without_faults = [one.finding for one in recorder.findings if "arm " not in str(one.finding.scenario)]
    assert {one.code for one in without_faults} == found
