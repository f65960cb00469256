"""Records of runs as the tests of reports need them: small, and the same each time."""

from typing import Any

import msgspec

from scenarios.checks import CHECKS
from scenarios.events import SearchEnded, Vacuous
from scenarios.fingerprint import fingerprint
from scenarios.run_record import FoundRecord, PointRecord, RunRecord, SeriesRecord
from scenarios.story import Arm, Call, Story
from scenarios.target import Action, Configuration

TEXTS = ("wal/FULL", "delete/FULL", "put()", "write:wal", "FULL", "write:wal@1=FULL", "sweep", "fuzz")


def story(call: str = "put", plan: str = "write:wal@1=FULL", configuration: str = "wal/FULL", value: int = 1) -> Story:
    """A call under a fault."""
    step = Call(Action(call, {"key": "a", "value": value}))
    return Story("tiny", Configuration.parse(configuration), (Arm(plan), step))


def found(check: str = "memory-equals-disk", told: Story | None = None, **others: Any) -> FoundRecord:
    """A finding of the sweep."""
    told = told or story()
    values: dict[str, Any] = {
        "check": check,
        "meaning": CHECKS[check].meaning,
        "message": "memory has 2, the file has 1",
        "search": "sweep",
        "story": told,
        "sides": {},
        "replay": "tornpage replay .tornpage/tiny.json",
        "seen": 3,
        "where": "store.py:12",
        "fingerprint": fingerprint(check, told),
    }
    return FoundRecord(**{**values, **others})


def record(*findings: FoundRecord, **others: Any) -> RunRecord:
    """A run of one sweep that has tried two points; it holds where there are no findings."""
    values: dict[str, Any] = {
        "run_id": "run-1",
        "tornpage_version": "0.1.0",
        "target": "tiny",
        "title": "a tiny store",
        "profile": "quick",
        "seed": 7,
        "started_at": "2026-11-21T09:00:00+00:00",
        "seconds": 2.5,
        "verdict": "FINDING" if findings else "HOLDS",
        "exit_code": 1 if findings else 0,
        "complete": True,
        "sqlite_version": "3.45.0",
        "python_version": "3.12.1",
        "system": "Linux",
        "findings": findings,
        "observations": (),
        "unpromised": {},
        "vacuous": (),
        "crash_states": (),
        "searches": (SearchEnded("sweep", "tiny", {"points": 2, "tried": 2, "fired": 2}, 2.0),),
        "fault_points": (SeriesRecord("write", "wal", "before", "FULL", 2, 2, 2),),
        "texts": TEXTS,
        "points": (PointRecord(0, 1, 2, 3, 4, 5, 1, 6), PointRecord(1, 1, 2, 3, 4, 5, 1, 6)),
    }
    return RunRecord(**{**values, **others})


def vacuous(run: RunRecord, reason: str = "no fault fired at all") -> RunRecord:
    """The same run, with something that was not tested."""
    code = {} if run.findings else {"verdict": "NOT_TESTED", "exit_code": 2}
    return msgspec.structs.replace(run, vacuous=(Vacuous("sweep", reason),), **code)
