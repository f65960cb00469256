"""The walk: the ledger keeps to its model over thousands of calls by chance, and a build with a defect doesn't."""

import contextlib
from pathlib import Path

import pytest

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs import find_bug
from tornpage.scenarios.targets.reference.draws.walk import _Walk, walk
from tornpage.scenarios.targets.reference.draws.whole_space import NAMES
from tornpage.scenarios.targets.reference.model import ACTIONS


def test_the_ledger_keeps_to_its_model(tmp_path: Path) -> None:
    assert walk(1, 1_000, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_model_knows_the_run_of_a_task_that_can_not_be_read(tmp_path: Path) -> None:
    spoils = {"table": "tasks", "key": "a", "column": "created_at", "value": "soon"}
    create = {"runtime": "cli", "requester_session_key": "me", "task": "work", "run_id": "r"}
    one = _Walk(tmp_path, {})
    with contextlib.closing(one):
        view = one._look()
        for name, args in (
            ("tasks.create", {**create, "id": "a"}), ("spoiled_row", spoils), ("tasks.create", {**create, "id": "b"}),
        ):  # fmt: skip
            view = one._call(Action(name, args), view)
    assert [*view] == ["unreadable/tasks/a"]


@pytest.mark.parametrize("name", ["permanent-retried", "backoff-from-the-second"])
def test_a_defect_is_met_within_some_thousand_steps_and_the_same_seed_meets_the_same(name: str, tmp_path: Path) -> None:
    found = [walk(2, 8_000, tmp_path, find_bug(name).parts()) for _ in range(2)]
    assert found[0] is not None
    assert str(found[0]) == str(found[1])
    assert found[0].violation.code in (*find_bug(name).checks, "as-specified")
    assert len(found[0].calls) <= 400


def test_every_call_of_the_specification_is_drawn_or_has_its_scripts() -> None:
    not_drawn = {
        "history.read", "history.get_session", "tasks.quarantined", "outbox.quarantined", "outbox.read", "workers.life",
        "workers.work", "observers.life", "stores.life", "open.once", "open.snapshot", "open.typed", "batch.nested",
        "driver.pairs", "driver.interrupts", "driver.imports", "driver.openers", "driver.broken", "driver.switch",
        "files.openers", "files.workers", "files.twice", "threads.beside", "program.interrupted", "files.refused",
        "open.unchecked", "open.too_old", "scopes.left",
        "driver.unfenced", "observers.follow", "outbox.pruned", "open.unwritten", "tasks.restore", "close",
    }  # fmt: skip
    assert set(ACTIONS).difference(NAMES) == not_drawn
