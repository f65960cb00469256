"""Targets whose `rows` read files beside the database, and stores that hold symbolic links."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from crash_places import Base, Keys, synced

from tornpage import faults
from tornpage.scenarios.execution.preflight.contract import require_contract
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import Action, TargetError
from tornpage.scenarios.run.campaign import run

SWEEP = Plan(("sweep",), Profile("test", 1, 20, 0, 0), report=None)


class FileFirst(Keys):
    """Each row names a file that is written before it, and stays."""

    row_first = False

    def put(self, name: str, value: Any) -> None:
        if self.row_first:
            super().put(name, value)
        synced(self.path.with_name(f"{name}.blob"), b"x")
        if not self.row_first:
            super().put(name, value)


class RowFirst(FileFirst):
    row_first = True


class Contents(Base):
    kind = FileFirst

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        home = Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent
        return {name: home.joinpath(f"{name}.blob").read_text() for name in super().rows(connection)}

    def view(self, store: Any) -> dict[str, Any]:
        return {name: store.path.with_name(f"{name}.blob").read_text() for name in store.all()}


class ContentsLate(Contents):
    """integrity: after a call that failed, a row has no file."""

    kind = RowFirst


def test_rows_that_raise_after_a_fault_are_a_finding_and_no_internal_error() -> None:
    codes = {found.finding.code for found in run(ContentsLate(), SWEEP).findings}
    assert "integrity" in codes


def test_rows_that_read_files_which_are_there_are_silent() -> None:
    assert not [found.finding.message for found in run(Contents(), SWEEP).findings]


class Linked(Keys):
    leads_to = ""

    def put(self, name: str, value: Any) -> None:
        version = self.path.with_name(f"version-{name}")
        version.mkdir(exist_ok=True)
        self.path.with_name("new").unlink(missing_ok=True)
        self.path.with_name("new").symlink_to(self.leads_to or version.name)
        self.path.with_name("new").replace(self.path.with_name("current"))
        super().put(name, value)


class LinksToDirectories(Base):
    kind = Linked
    calls = (Action("put", {"name": "a", "value": 1}),)


def test_a_store_with_a_link_to_a_directory_of_its_own_is_tested() -> None:
    recorder = run(LinksToDirectories(), SWEEP)
    assert not [found.finding.message for found in recorder.findings]
    assert not recorder.vacuous


def test_a_store_with_a_link_to_a_directory_elsewhere_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = LinksToDirectories()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(Linked, "leads_to", os.fspath(tmp_path / "elsewhere"))
    with faults.install(), pytest.raises(TargetError, match="current is a symbolic link to a directory"):
        require_contract(target, target.configurations[0], tmp_path)
