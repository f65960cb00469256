"""The probe: the reported bug, step by step, on one build (openclaw issue 88007).

Two tasks are stored. Then SQLite's next write fails with FULL while one is updated and, again, while the other is
deleted. After each failure the views of the process and of a fresh reader of the file are compared; a difference is a
divergence. At last the ledger is reopened, and a task that the process had reported as deleted is resurrected.
"""

from pathlib import Path

import msgspec

from tornpage import faults
from tornpage.ledger.stores.store import Change
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.targets.known_bugs.build import MemoryFirst
from tornpage.scenarios.targets.reference.target import Reference

PLAN = "write:wal@1..=FULL"


class ProbeResult(msgspec.Struct, frozen=True, rename="camel"):
    """The result of the probe on one build.

    `divergence_count` of `failed_writes` left memory and file different; `resurrected_count` deleted tasks came back.
    """

    build: str
    failed_writes: int
    divergence_count: int
    resurrected_count: int
    fault_fired: int

    @property
    def holds(self) -> bool:
        """Whether the build shows no sign of the bug, with both faults really fired."""
        return self.divergence_count == self.resurrected_count == 0 and self.fault_fired == 2 == self.failed_writes

    def __str__(self) -> str:
        diverged = f"{self.divergence_count}/{self.failed_writes}"
        return f"divergenceCount={diverged} resurrectedCount={self.resurrected_count}"


class _Reported(MemoryFirst):
    """The registry as it was reported: both updates and deletes change memory first."""

    def too_early(self, change: Change) -> bool:
        return change.previous is not None


def builds() -> tuple[Reference, ...]:
    """The build with the reported bug, and the reference."""
    return Reference("memory-first", registry=_Reported), Reference()


def probe(target: Reference, directory: Path) -> ProbeResult:
    """Run the reported steps on one build. The shim has to be installed."""
    diverged = failed = fired = 0
    configuration = Configuration()
    directory.mkdir(parents=True, exist_ok=True)
    with Trial(target, configuration, directory, {}) as trial:
        trial.open()
        for name in ("updated", "deleted"):
            task = {"id": name, "runtime": "cli", "requester_session_key": "main", "task": name}
            trial.call_session(Action("tasks.create", task))
        for action in (
            Action("tasks.progress", {"task_id": "updated", "text": "half way"}),
            Action("tasks.delete", {"task_id": "deleted"}),
        ):
            with trial.armed(faults.FaultPlan.parse(PLAN)) as armed:
                answer = trial.call(action, {})
            failed += answer.kind == "raised"
            fired += bool(armed.firings)
            diverged += trial.live_view() != trial.fresh_view()
        called_deleted = {"task/updated", "task/deleted"} - trial.live_view().keys()
        trial.close()
        trial.open()
        resurrected = len(called_deleted & trial.live_view().keys())
    return ProbeResult(target.name, failed, diverged, resurrected, fired)
