"""A call that was refused is no read: where the other caller has made what it wants, it is not made again."""

from pathlib import Path

import pytest

from tornpage import faults
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Call, Interleave, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.targets.known_bugs.build import CREATE
from tornpage.scenarios.targets.reference.target import Reference

DELETE = Action("tasks.delete", {"task_id": "a"})


@pytest.mark.parametrize(("first", "second"), [(DELETE, CREATE), (CREATE, DELETE)])
def test_a_removal_that_was_refused_does_not_remove_what_comes_after_it(
    first: Action, second: Action, home: Path
) -> None:
    together = Interleave(first, second, 0, callers="threads")
    target = Reference()
    with faults.install():
        violation, _ = play(Scenario(target.name, Configuration("wal", "FULL"), (together, Call(DELETE))), target, home)
    assert violation is None
