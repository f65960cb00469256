"""Stores whose own thread writes after a call has returned: what it does then belongs to that call."""

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from seeds import first_of

from tornpage import Action, Configuration, SimpleTarget
from tornpage.scenarios.execution import snapshots
from tornpage.scenarios.execution.snapshots import Holder
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.campaign import run


def save(path: Path, values: dict[str, str]) -> None:
    new = path.with_name("new")
    with new.open("w") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Values:
    """A JSON file, saved in the call; a thread then writes a copy for other programs, in which it may fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.thread: threading.Thread | None = None

    @property
    def values(self) -> dict[str, str]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def wait(self) -> None:
        if self.thread is not None:
            self.thread.join()

    def behind(self, work: Any, *args: Any) -> None:
        self.thread = threading.Thread(target=self.without_errors, args=(work, *args))
        self.thread.start()

    def without_errors(self, work: Any, *args: Any) -> None:
        with contextlib.suppress(OSError):
            work(*args)

    def put(self, name: str, value: str) -> None:
        self.wait()
        values = {**self.values, name: value}
        save(self.path, values)
        self.behind(self.copy, values)

    def copy(self, values: dict[str, str]) -> None:
        for number in range(4):
            self.path.with_name(f"copy-{number}").write_text(json.dumps(values))

    def close(self) -> None:
        self.wait()


class Behind(Values):
    def put(self, name: str, value: str) -> None:
        self.wait()
        self.behind(save, self.path, {**self.values, name: value})


class CopiesBehind(SimpleTarget):
    title = "a thread that writes copies after the answer"
    file = "values.json"
    configurations = (Configuration("file", "FULL"),)
    calls = tuple(Action("put", {"name": name, "value": value}) for name, value in (("a", "1"), ("a", "2")))
    beat = Action("put", {"name": "heartbeat", "value": "1"})
    kind: type[Values] = Values

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Values:
        return self.kind(path)

    def view(self, store: Values) -> dict[str, str]:
        store.wait()
        return store.values

    def files_view(self, directory: Path) -> dict[str, str]:
        path = directory / "values.json"
        return json.loads(path.read_text()) if path.exists() else {}


class WritesBehind(CopiesBehind):
    """acknowledged-is-durable: the thread writes what the call has acknowledged."""

    title = "a thread that writes the values after the answer"
    kind = Behind


def found(target: Any, search: str, seed: int = 0) -> tuple[set[str], list[str]]:
    plan = Plan((search,), Profile("test", 1, 20, 0, 0, crash_states=20), seed=seed, report=None)
    recorder = run(target, plan)
    return {one.finding.code for one in recorder.findings}, [one.reason for one in recorder.vacuous]


@pytest.mark.parametrize("search", ["sweep", "crash"])
def test_a_thread_that_writes_a_copy_that_is_never_read_is_silent_and_each_of_its_operations_fails(search: str) -> None:
    assert found(CopiesBehind(), search) == (set(), [])


@pytest.mark.parametrize("seed", first_of([0, 1, 2]))
def test_a_thread_that_writes_after_the_answer_what_was_acknowledged_is_found(seed: int) -> None:
    assert found(WritesBehind(), "crash", seed) == ({"acknowledged-is-durable"}, [])


def test_a_copy_is_begun_again_if_a_file_is_renamed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_text("content")
    listed = iter([["new", "there"], ["there"]])
    monkeypatch.setattr(snapshots, "_names", lambda _root: next(listed))
    holder = Holder()
    assert holder.copy(tmp_path) == {"there": b"content"}
    holder.release()


def test_files_that_come_and_go_all_the_time_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_names", lambda _root: ["new"])
    with pytest.raises(TargetError, match="come and go while no call is made"):
        Holder().copy(tmp_path)
