"""A recovery is one transaction, whatever comes after it."""

from pathlib import Path

import pytest

from tornpage import faults
from tornpage.ledger.history import RunHistory
from tornpage.ledger.recovery import Recovery
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Arm, Call, Scenario
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.targets.reference.target import Reference
from tornpage.scenarios.targets.reference.workload import HISTORY


class _CleansOrFails(Recovery):
    """Fails, if the files of dead workers can't be removed, though the runs are marked by then."""

    def _clean_workers(self) -> None:
        with self._history.database.transaction() as transaction:
            found = {one for find in self._history.worker_references for one in find(transaction)}
            self._history.workers.clean(found)


class _History(RunHistory):
    recovery = _CleansOrFails


@pytest.mark.parametrize(
    ("history", "code"), [(_History, "failed-write-changed-nothing"), (RunHistory, None)], ids=["defect", "reference"]
)
def test_a_recovery_that_fails_after_its_commit_has_changed_something(
    history: type[RunHistory], code: str | None, home: Path
) -> None:
    arm = Arm(faults.FaultPlan.parse("begin@2=BUSY"), "statement")
    steps = (*map(Call, HISTORY[:-1]), arm, Call(HISTORY[-1]))
    target = Reference(history=history)
    with faults.install():
        violation, counts = play(Scenario(target.name, Configuration("wal", "FULL"), steps), target, home)
    assert counts["fired"] == 1
    assert (violation and violation.code) == code
