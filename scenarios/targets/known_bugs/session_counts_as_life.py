"""session-counts-as-life: a run whose session is on record counts as alive, though its worker is dead."""

from collections.abc import Sequence

from tornpage.ledger.history import RunHistory
from tornpage.ledger.recovery import Recovery
from tornpage.ledger.runs import Run
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, OPEN_SESSION, START, KnownBug


class _TrustsSessions(Recovery):
    """Takes a stored session for a sign of life."""

    def _with_dead_worker(self, in_flight: Sequence[Run]) -> list[Run]:
        dead, history = super()._with_dead_worker(in_flight), self._history
        assert isinstance(history, _History)  # noqa: S101 - it is the one below
        return [run for run in dead if not any(one.valid for one in history.list_sessions(run.id))]


class _History(RunHistory):
    """A history with such a recovery."""

    recovery = _TrustsSessions


BUG = KnownBug(
    name="session-counts-as-life",
    source="openclaw issue 88205",
    defect="a stored session counts as a live worker: its task runs for ever",
    checks=("in-flight-flagged-once",),
    parts=lambda: {"history": _History},
    calls=(CREATE, START, OPEN_SESSION, Action("recover")),
    searches=("sweep",),
)
