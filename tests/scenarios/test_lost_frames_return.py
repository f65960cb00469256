"""WAL at NORMAL: a call that writes a lost frame again joins the later ones to the log, and a crash reads them."""

from pathlib import Path

import crash_places
import pytest

from tornpage import Action, Configuration, faults
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Oracle
from tornpage.scenarios.model.scenario import Call, CrashAt, Restart

PUT, OTHER = (Call(Action("put", {"name": "a", "value": value})) for value in (1, 2))


class KeysAtNormal(crash_places.Keys):
    synchronous = "NORMAL"


class AtNormal(crash_places.Base):
    kind = KeysAtNormal
    configurations = (Configuration("wal", "NORMAL"),)


def _views(home: Path, lost: int | None) -> tuple[list[dict[str, int]], int]:
    """What is there after each step, where a power cut loses one operation; and how many operations there are."""
    target = AtNormal()
    seen = []
    with (
        faults.install(),
        faults.shims().deterministic(),
        Executor(target, target.configurations[0], home, record=True) as executor,
    ):
        for step in (Restart(), PUT, OTHER, PUT):
            executor.do(step)
        assert executor.recording is not None
        end = len(executor.recording.tape)
        for step in () if lost is None else (CrashAt(end, (lost,)), OTHER, Restart(crash=True)):
            executor.do(step)
            seen.append(dict(executor.real.fresh_view()))
    return seen, end


def test_what_comes_back_so_is_no_finding(tmp_path: Path) -> None:
    _, end = _views(tmp_path / "begin", None)
    last = [_views(tmp_path / f"lost-{lost}", lost)[0][-1] for lost in range(end)]
    # Where the frame of the second change was lost, the third one's follows it again.
    assert {"a": 1} in last
    assert {"a": 2} in last


def test_only_what_was_there_may_come_back() -> None:
    oracle = Oracle(Configuration("wal", "NORMAL"), {"a": 2})
    oracle.restarted({"a": 1})
    oracle.lost = ({}, {"a": 2})
    oracle.saw_after_crash({"a": 2})
    with pytest.raises(Violation):
        oracle.saw_after_crash({"a": 3})
