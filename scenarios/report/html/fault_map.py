"""The points of a run as compact data for the page: 250,000 of them in a few megabytes.

Points are grouped by search, configuration and call, and within these by series of one operation and effect: the common
data of a series is written once, and each point has its ordinal, its condition and one letter.
"""

import re
import shlex
from typing import Any, Final

from tornpage.scenarios.run.record import OUTCOMES, Outcome, PointRecord, RunRecord

LETTERS: Final[dict[Outcome, str]] = {
    "finding": "F",
    "not-fired": "n",
    "surfaced": "s",
    "retried": "r",
    "absorbed": "a",
}
MEANINGS: Final[dict[Outcome, str]] = {
    "finding": "a check failed",
    "not-fired": "never fired: nothing was tested here",
    "surfaced": "the caller got an error, and every check passed",
    "retried": "the store waited for the lock, and continued",
    "absorbed": "the caller got no error, and every check passed",
}
# Points that start from a crash, or are anywhere in the workload, have no place among its calls.
_AFTER_A_CRASH: Final = 1_000_000
_ANYWHERE: Final = 1_000_001
# The nth operation, allocation, step, page or byte; the words are those of `scenarios.model.scenario`.
_ORDINAL: Final = re.compile(r"@(\d+)|(?:allocation|step|take|by) ([\d,]+)")
_STICKY: Final = re.compile(r"@\d+\.\.(?!\d)| and all after it ")


def ordinal_of(condition: str) -> int:
    """The ordinal in a condition; 0 if it has none."""
    match = _ORDINAL.search(condition)
    return int((match[1] or match[2]).replace(",", "")) if match else 0


def is_sticky(condition: str) -> bool:
    """Whether it is sticky."""
    return _STICKY.search(condition) is not None


def map_of(record: RunRecord) -> dict[str, Any]:
    """The points, and the page's text on them, as data for its script."""
    return {
        "texts": list(record.texts),
        "ordinals": [ordinal_of(text) for text in record.texts],
        "sticky": [int(is_sticky(text)) for text in record.texts],
        "groups": _groups(record),
        "outcomes": [
            {"name": name, "letter": LETTERS[name], "meaning": MEANINGS[name]}
            for name in ("finding", "not-fired", "surfaced", "retried", "absorbed")
        ],
        "repeat": repeats(record),
        "afterCrash": _AFTER_A_CRASH,
        "anywhere": _ANYWHERE,
    }


def _groups(record: RunRecord) -> list[list[Any]]:
    letters = [LETTERS[name] for name in OUTCOMES]
    places = _Places(record)
    groups: dict[tuple[int, ...], dict[tuple[int, int], tuple[list[int], list[str]]]] = {}
    for point in record.points:
        group = groups.setdefault((point.search, point.configuration, places.step_of(point), point.call), {})
        conditions, outcomes = group.setdefault((point.operation, point.effect), ([], []))
        conditions.append(point.condition)
        outcomes.append(letters[point.outcome])
    return [
        [*place, [[*kind, conditions, "".join(outcomes)] for kind, (conditions, outcomes) in series.items()]]
        for place, series in groups.items()
    ]


class _Places:
    """The points along the workload: not those of a start or a recovery after a crash, which may be anywhere."""

    def __init__(self, record: RunRecord) -> None:
        number = {text: index for index, text in enumerate(record.texts)}
        self._crash = number.get("crash", -2)
        self._anywhere = number.get("the whole workload", -2)
        self._workload = {(point.step, point.call) for point in record.points if point.search != self._crash}
        self._workload |= {
            (point.step, number.get(point.call, -2))
            for tried in record.crash_states
            for point in tried.by_position.values()
        }

    def step_of(self, point: PointRecord) -> int:
        """The step of the workload, or a number beyond all of them."""
        if point.call == self._anywhere:
            return _ANYWHERE
        if point.search == self._crash and (point.step, point.call) not in self._workload:
            return _AFTER_A_CRASH
        return point.step


def repeats(record: RunRecord) -> dict[str, dict[str, str]]:
    """By search, the command that repeats one of its points (a `line` to fill in, or the whole run) and a `note`."""
    at = f"--target {shlex.quote(record.target)} --configuration {{configuration}}"
    whole = record.command or f"tornpage check --target {shlex.quote(record.target)} --seed {record.seed}"
    seeded = f"the same run makes the same points: {record.profile}, seed {record.seed}"
    return {
        "sweep": {
            "line": f"tornpage sweep {at} --plan {{condition}}",
            "note": "this fault in every call of the workload, and so in this one",
        },
        "limits": {
            "line": f"tornpage limits {at} --profile nightly",
            "note": "every limit at every point of that configuration, and so this one",
        },
        "contend": {
            "line": f"tornpage contend {at} --profile nightly",
            "note": "every rival at every lock operation of that configuration, and so this one",
        },
        "interleave": {
            "line": f"tornpage interleave {at} --profile nightly",
            "note": "every schedule of every pair of calls in that configuration, and so this one",
        },
        "syscalls": {
            "line": f"tornpage syscalls {at} --profile nightly",
            "note": "every fault in every system call of that configuration, and so this one",
        },
        "": {"line": whole, "note": seeded},
    }
