"""The crash states of a run by the operation before the crash, as data for the page."""

from typing import Any, Final

from tornpage.scenarios.model.events import CrashPoint
from tornpage.scenarios.run.record import RunRecord

# The most serious first: a letter, a name, and its meaning.
KINDS: Final = (
    ("F", "finding", "a check failed"),
    ("d", "damaged", "damage, where the configuration promises nothing"),
    ("l", "lossy", "acknowledged changes were lost, as the configuration allows"),
    ("b", "reappeared", "a failed change came back, as the rules allow"),
    ("e", "exact", "exactly the acknowledged state"),
)


def crashes_of(record: RunRecord) -> dict[str, Any]:
    """By configuration, each operation of the workload with the results of its crash states."""
    return {
        "kinds": [{"letter": letter, "name": name, "meaning": meaning} for letter, name, meaning in KINDS],
        "configurations": [
            {
                "name": str(tried.configuration),
                "positions": [
                    [position, point.operation, point.step, point.call, *_shares(point)]
                    for position, point in sorted(tried.by_position.items())
                ],
            }
            for tried in record.crash_states
            if tried.by_position
        ],
    }


def _shares(point: CrashPoint) -> tuple[int, ...]:
    """The number of states of each kind; one that both lost a change and brought one back is of both."""
    counts = point.findings, point.damaged, point.lossy, point.reappeared
    return (*counts, max(point.states - sum(counts), 0))
