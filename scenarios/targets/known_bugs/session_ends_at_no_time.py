"""session-ends-at-no-time: a clock that is far off ends the sessions of a run at a time that can't be read again."""

from typing import Any

from tornpage.ledger import RunHistory
from tornpage.ledger.records import LATEST_MS
from tornpage.ledger.runs import Run, RunEnd, RunStatus, checked_end, checked_result, finished
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, OPEN_SESSION, START, KnownBug, OfOneScript


class _TrustsTheClock(RunHistory):
    """Checks the time of a run's end, and not that of the clock, which its sessions get."""

    def finish(self, run_id: str, status: RunStatus | str, *, finished_at: int | None = None, **said: Any) -> Run:
        """Record a run's end."""
        if finished_at is None:
            return super().finish(run_id, status, **said)
        end = checked_end(RunEnd(finished_at, **said))
        with self.database.transaction() as transaction:
            run = self._existing_run(transaction, run_id)
            ended = finished(run, finished_at, checked_result(status), end)
            if ended is not run:
                self.write_end(transaction, ended, self.clock())
        return ended


_END = {"run_id": "run-a", "status": "interrupted", "finished_at": 1_700_000_000_000, "later_ms": LATEST_MS}

BUG = KnownBug(
    name="session-ends-at-no-time",
    source="our own ledger, found by reading it against its specification",
    defect="the session of an interrupted run is in no list any more, since the clock was set wrong for a moment",
    checks=("as-specified",),
    make=lambda name: OfOneScript(
        name, (CREATE, START, OPEN_SESSION, Action("history.finish", _END)), history=_TrustsTheClock
    ),
    searches=("sweep",),
)
