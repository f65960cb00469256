"""The walk: the ledger keeps to its model over thousands of calls by chance, and a build with a defect doesn't."""

from pathlib import Path

import pytest

from tornpage.scenarios.targets.known_bugs import find_bug
from tornpage.scenarios.targets.reference.draws.walk import walk
from tornpage.scenarios.targets.reference.draws.whole_space import NAMES
from tornpage.scenarios.targets.reference.model import ACTIONS


def test_the_ledger_keeps_to_its_model(tmp_path: Path) -> None:
    assert walk(1, 1_000, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


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
