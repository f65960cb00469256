"""late-success-overwrites: a success that comes late overwrites cancelled or timed_out."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from tornpage.ledger import Status, Task, TaskRegistry
from tornpage.ledger.records import TERMINAL
from tornpage.ledger.registry import Rule
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _LastWins(TaskRegistry):
    """Writes each end over the one before it."""

    def _finishing(self, status: Status | str, run_id: str | None, report: Mapping[str, Any]) -> Rule:
        rule = super()._finishing(status, run_id, report)

        def over_anything(task: Task) -> Task:
            return rule(replace(task, status=Status.RUNNING) if task.status in TERMINAL else task)

        return over_anything


BUG = KnownBug(
    name="late-success-overwrites",
    source="openclaw issue 95618",
    defect="a task that was cancelled, and said to be, has succeeded after all",
    checks=("terminal-is-final", "as-specified"),
    parts=lambda: {"registry": _LastWins},
    calls=(
        CREATE,
        Action("tasks.cancel", {"task_id": "a"}),
        Action("tasks.finish", {"task_id": "a", "status": "succeeded"}),
    ),
)
