"""Two callers of stores that keep plain files, beside a database or alone: operations on files are switch points."""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from meeting_stores import Jobs, JobsTarget

from tornpage import Action, Configuration, Environment, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.campaign import Exit, searches_for, verdict
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import


class Page:
    """Values in one JSON file, which is replaced under a lock of the system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def values(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self.path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def put(self, name: str, value: int) -> None:
        with self.locked():
            values = {**self.values, name: value}
            draft = self.path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            draft.write_text(json.dumps(values))
            draft.replace(self.path)

    def close(self) -> None:
        pass


class PageWithoutALock(Page):
    """Wrong: what the other caller has put since the file was read is gone."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield


class PageTarget(SimpleTarget):
    title = "values in a JSON file"
    configurations = (Configuration("file", "FULL"),)
    callers = ("processes",)
    file = "values.json"
    kind: type[Page] = Page
    calls = (Action("put", {"name": "a", "value": 1}), Action("put", {"name": "b", "value": 2}))
    beat = Action("put", {"name": "heartbeat", "value": 1})

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Page:
        return self.kind(path)

    def view(self, store: Page) -> dict[str, Any]:
        return store.values

    def files_view(self, directory: Path) -> dict[str, Any]:
        return Page(directory / self.file).values


class RacyPageTarget(PageTarget):
    kind = PageWithoutALock


class PageOfThreadsTarget(PageTarget):
    callers = ("shared",)


class RacyPageOfThreadsTarget(RacyPageTarget):
    callers = ("shared",)


class Indexed(Jobs):
    """Jobs, whose names are also in a file beside the database, which is written after the row."""

    page: type[Page] = Page

    def add(self, name: str) -> None:
        super().add(name)
        self.page(self.path.with_suffix(".json")).put(name, 1)


class IndexedWithoutALock(Indexed):
    page = PageWithoutALock


class IndexedTarget(JobsTarget):
    kind = Indexed
    callers = ("threads",)
    calls = (Action("add", {"name": "a"}), Action("add", {"name": "b"}))
    many_commits = ("add",)

    def view(self, store: Any) -> Any:
        return self.rows(store.db)

    def rows(self, connection: Any) -> Any:
        path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        index = Page(path.with_suffix(".json")).values
        return {name: index.get(name) for (name,) in connection.execute("SELECT id FROM job").fetchall()}


class RacyIndexedTarget(IndexedTarget):
    kind = IndexedWithoutALock


def interleave(name: str) -> Recorder:
    target = find_or_import(f"test_interleave_files:{name}")
    return campaign.run(
        target, Plan(("interleave",), Profile("test", 1, 1, 0, 0, schedules=48), report=None, most_findings=1)
    )


@pytest.mark.parametrize("name", ["PageTarget", "PageOfThreadsTarget", "IndexedTarget"])
def test_a_lost_change_of_a_file_is_found_and_the_sound_twin_is_silent(name: str) -> None:
    silent = interleave(name)
    assert [found.finding.message for found in silent.findings] == []
    assert verdict(silent) is Exit.HOLDS
    (found,) = interleave(f"Racy{name}").findings
    assert found.finding.code == "not-serializable"


def test_a_store_of_plain_files_is_tried_if_it_says_that_it_is_for_two_callers() -> None:
    assert "interleave" in searches_for(PageTarget())
    alone = PageTarget()
    for callers in (None, ()):
        alone.callers = callers  # type: ignore[assignment]
        assert "interleave" not in searches_for(alone)
