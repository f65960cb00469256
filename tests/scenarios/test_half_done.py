"""A failed call of which the view shows nothing leaves what reads return as before it, or as after it."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, Configuration, Environment, SimpleTarget, faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Sweep


class Pages:
    """Pages, a copy of them in a database beside, and a list of their names in a plain file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures = 0
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS page (url TEXT PRIMARY KEY)")

    def add(self, url: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO page VALUES (?)", (url,))

    def urls(self, connection: sqlite3.Connection) -> list[str]:
        return [url for (url,) in connection.execute("SELECT url FROM page ORDER BY url")]

    def snapshot(self) -> None:
        draft = self.path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        try:
            self.db.execute("VACUUM INTO ?", (str(draft),))
        except sqlite3.Error:
            self.failures += 1
            raise
        draft.replace(self.path.with_suffix(".copy"))

    def saved(self) -> list[str]:
        if not self.path.with_suffix(".copy").exists():
            return []
        with contextlib.closing(sqlite3.connect(self.path.with_suffix(".copy"))) as copy:
            return self.urls(copy) if copy.execute("SELECT 1 FROM sqlite_master").fetchone() else []

    def export(self) -> None:
        draft = self.path.with_suffix(".draft")
        self.write(draft)
        draft.replace(self.path.with_suffix(".txt"))

    def write(self, path: Path) -> None:
        with path.open("w") as file:
            file.writelines(f"{url}\n" for url in self.urls(self.db))
            file.flush()
            os.fsync(file.fileno())

    def exported(self) -> list[str]:
        text = self.path.with_suffix(".txt")
        return text.read_text().splitlines() if text.exists() else []

    def stats(self) -> dict[str, int]:
        return {"failures": self.failures}

    def close(self) -> None:
        self.db.close()


class RemovesFirst(Pages):
    """Has no copy while the new one is made."""

    def snapshot(self) -> None:
        copy = self.path.with_suffix(".copy")
        copy.unlink(missing_ok=True)
        self.db.execute("VACUUM INTO ?", (str(copy),))


class SaysNothing(RemovesFirst):
    """Returns None where there is no copy."""

    def saved(self) -> Any:
        return super().saved() or None


class WritesInPlace(Pages):
    """Has half of the list while it is written."""

    def export(self) -> None:
        self.write(self.path.with_suffix(".txt"))


class PagesTarget(SimpleTarget):
    title = "pages, with copies beside them"
    file = "pages.sqlite"
    configurations = (Configuration("delete", "FULL"),)
    calls = (
        Action("add", {"url": "beta"}),
        Action("snapshot"),
        Action("snapshot"),
        Action("export"),
        Action("saved"),
        Action("exported"),
        Action("stats"),
    )
    beat = Action("add", {"url": "beat"})
    kind: type[Pages] = Pages

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Pages:
        return self.kind(path)

    def view(self, store: Pages) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return {url: True for (url,) in connection.execute("SELECT url FROM page")}


class RemovesFirstTarget(PagesTarget):
    kind = RemovesFirst


class SaysNothingTarget(PagesTarget):
    kind = SaysNothing


class WritesInPlaceTarget(PagesTarget):
    kind = WritesInPlace


class MayStopHalfWay(WritesInPlaceTarget):
    many_commits = ("export",)


CUT_SHORT = "file-write@1/half=ENOSPC"


@pytest.mark.parametrize(
    ("target", "plan", "returned"),
    [
        (
            RemovesFirstTarget,
            "file-unlink@1/after=EIO",
            "snapshot() failed, and saved() then returned []; before the call",
        ),
        (RemovesFirstTarget, "write:db@1=FULL", "snapshot() failed, and saved() then returned []; before the call"),
        (SaysNothingTarget, "write:db@1=FULL", "snapshot() failed, and saved() then returned nothing; before the call"),
        (WritesInPlaceTarget, CUT_SHORT, "export() failed, and exported() then returned ['be']; before the call"),
        (PagesTarget, "write:db@1=FULL", ""),
        (PagesTarget, CUT_SHORT, ""),
        (MayStopHalfWay, CUT_SHORT, ""),
    ],
)
def test_a_read_finds_no_copy_half_made(target: type[PagesTarget], plan: str, returned: str, tmp_path: Path) -> None:
    recorder = Recorder(most_findings=1)
    with faults.install():
        Sweep(target(), recorder, tmp_path / "sweep", plan=faults.FaultPlan.parse(plan)).run()
        for one in recorder.findings:
            assert one.finding.code == "all-or-nothing"
            assert returned in one.finding.message
            violation, _ = play(one.finding.scenario, target(), tmp_path / "again")
            assert returned in str(violation)
    assert bool(recorder.findings) is bool(returned)
