"""Records of runs as the tests of reports need them: small, and the same each time."""

from typing import Any

import msgspec

from tornpage.scenarios.model.events import SearchEnded, Vacuous
from tornpage.scenarios.model.fingerprint import fingerprint
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.model.scenario import Arm, Call, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.run.record import FoundRecord, PointRecord, RunRecord, SeriesRecord

TEXTS = ("wal/FULL", "delete/FULL", "put()", "write:wal", "FULL", "write:wal@1=FULL", "sweep", "fuzz")


def scenario(
    call: str = "put", plan: str = "write:wal@1=FULL", configuration: str = "wal/FULL", value: int = 1
) -> Scenario:
    """A call under a fault."""
    step = Call(Action(call, {"key": "a", "value": value}))
    return Scenario("tiny", Configuration.parse(configuration), (Arm(plan), step))


def found(check: str = "memory-equals-disk", told: Scenario | None = None, **others: Any) -> FoundRecord:
    """A finding of the sweep."""
    told = told or scenario()
    values: dict[str, Any] = {
        "check": check,
        "meaning": CHECKS[check].meaning,
        "message": "memory has 2, the file has 1",
        "search": "sweep",
        "scenario": told,
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


def large(number: int) -> RunRecord:
    """So many points in 8 configurations, 36 calls and 30 effects, as a night has them."""
    texts = [f"configuration {index}" for index in range(8)] + [f"call_{index}(key='a')" for index in range(36)]
    texts += [f"write:wal{index}" for index in range(10)] + [f"EFFECT_{index}" for index in range(30)] + ["sweep"]
    first_condition = len(texts)
    texts += [f"write:wal{index % 10}@{index // 10 + 1}=EFFECT" for index in range(2000)]
    points = tuple(
        PointRecord(
            configuration=index * 8 // number,
            step=index * 288 // number % 36,
            call=8 + index * 288 // number % 36,
            operation=44 + index // 100 % 10,
            effect=54 + index // 20 % 30,
            condition=first_condition + index % 2000,
            outcome=index % 7 % 5,
            search=84,
        )
        for index in range(number)
    )
    return msgspec.structs.replace(record(), texts=tuple(texts), points=points)
