"""Which messages an import of the old queue has taken, where another program puts down files meanwhile."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tornpage import ledger
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Call, Clear, Restart, Rival, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.targets.reference.old_queue import LegacyQueue
from tornpage.scenarios.targets.registry import find


def content(name: str) -> dict[str, Any]:
    return {"id": name, "channel": "mail", "to": "you"}


@pytest.fixture
def queue(tmp_path: Path) -> LegacyQueue:
    with ledger.Ledger.open(tmp_path):
        pass
    return LegacyQueue(tmp_path / "legacy", tmp_path / "ledger.sqlite")


@pytest.mark.parametrize("kind", ["another", "later"])
def test_a_message_whose_file_another_program_replaced_was_not_lost_by_the_import(
    queue: LegacyQueue, kind: str
) -> None:
    queue.put("a.json", content("a"))
    with queue.importing():
        queue.replace("a.json", content("b"), kind)
    queue.check()


def test_a_message_that_came_during_an_import_and_was_removed_by_it_is_lost(queue: LegacyQueue) -> None:
    queue.put("a.json", content("a"))
    with queue.importing() as directory:
        queue.replace("a.json", content("b"), "another")
        (directory / "a.json").unlink()
    with pytest.raises(Violation, match="the file of message b was removed"):
        queue.check()


def test_a_message_that_was_removed_before_another_file_came_is_lost(queue: LegacyQueue) -> None:
    for name in ("a", "c"):
        queue.put(f"{name}.json", content(name))
    with queue.importing() as directory:
        (directory / "a.json").unlink()
        queue.replace("c.json", content("b"))
    with pytest.raises(Violation, match="the file of message a was removed"):
        queue.check()


def test_a_copied_file_is_of_the_same_size_and_time(queue: LegacyQueue) -> None:
    queue.put("a.json", content("a long name"))
    before = (queue.directory / "a.json").stat()
    queue.put("a.json", content("b"), "another")
    after = (queue.directory / "a.json").stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert before.st_ino != after.st_ino


@pytest.mark.parametrize("kind", ["another", "later"])
def test_a_file_may_be_gone_before_it_is_replaced(queue: LegacyQueue, kind: str) -> None:
    queue.put("a.json", content("a"), kind)
    assert queue.contents() == {"a.json": content("a")}


@pytest.mark.parametrize("name", ["a", "new"])
def test_an_import_that_fails_has_met_no_other_file(queue: LegacyQueue, name: str) -> None:
    queue.put("a.json", content("a"))
    with contextlib.suppress(ledger.StoreError), queue.importing():
        queue.replace(f"{name}.json", content("b"))
        raise ledger.StoreBusy("it is locked")
    queue.check()
    assert queue.contents() == {"a.json": content("a")}


def test_a_message_that_an_import_has_removed_and_not_taken_is_lost_although_the_import_failed(
    queue: LegacyQueue,
) -> None:
    queue.put("a.json", content("a"))
    with contextlib.suppress(ledger.StoreError), queue.importing() as directory:
        queue.replace("a.json", content("b"))
        (directory / "a.json").unlink()
        raise ledger.StoreBusy("it is locked")
    with pytest.raises(Violation, match="the file of message b was removed"):
        queue.check()


def test_an_import_under_a_lock_may_be_made_again_although_its_file_was_replaced(tmp_path: Path, shim: Any) -> None:
    changes = {"name": "a.json", "content": content("b"), "kind": "another"}
    steps = (
        Restart(),
        Rival("reader", "lock", 2, "connection"),
        Call(Action("legacy_file", {"name": "a.json", "content": content("a")})),
        Call(Action("outbox.import_legacy", {"changes": changes})),
        Clear(),
        Call(Action("outbox.import_legacy")),
    )
    scenario = Scenario("reference", Configuration("truncate", "OFF"), steps)
    violation, counts = play(scenario, find("reference"), tmp_path)
    assert violation is None
    assert counts["raised"] >= 1
