"""WAL: a call that writes a lost frame again joins the later ones to the log, and a crash reads them.

At NORMAL they may be those of acknowledged calls, at FULL those of a call that the power cut has interrupted.
"""

from pathlib import Path

import crash_places
import pytest

from tornpage import Action, Configuration, faults
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Oracle
from tornpage.scenarios.model.scenario import Call, CrashAt, Restart
from tornpage.scenarios.search.crash.played import Tape, play_tape

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


def _cut_off(home: Path, lost: int) -> dict[str, str]:
    """What a dying process leaves where the power has failed in the sync of an earlier, equally large call."""
    target, big = crash_places.Base(), "x" * 6_000
    one, other = (Call(Action("put", {"name": name, "value": big})) for name in ("one", "two"))
    with (
        faults.install(),
        faults.shims().deterministic(),
        Executor(target, target.configurations[0], home, record=True) as executor,
    ):
        for step in (Restart(), Restart(crash=True), one):
            executor.do(step)
        for step in (CrashAt(8, (lost,)), other, CrashAt(2, power=False)):
            executor.do(step)
        return dict(executor.real.fresh_view())


def test_at_full_what_was_not_acknowledged_comes_back_so(tmp_path: Path) -> None:
    views = [_cut_off(tmp_path / f"lost-{lost}", lost) for lost in range(3)]
    assert {"one": "x" * 6_000} in views
    assert {} in views


def test_a_recovery_from_such_a_cut_may_find_it_again(tmp_path: Path) -> None:
    target, files = crash_places.Base(), {"store.sqlite": b""}
    tape = Tape((OTHER,), prelude=(PUT, CrashAt(1, (0,))), files=files, lost=({"a": 1},))
    with faults.install(), faults.shims().deterministic():
        played = play_tape(tape, target, target.configurations[0], tmp_path / "tape", compares=False)
    assert played.failed is None
    assert played.recording.history.judge(1, {"a": 1}, power=False).reappeared
    with pytest.raises(Violation):
        played.recording.history.judge(1, {"a": 3}, power=False)


def test_only_what_was_there_may_come_back() -> None:
    oracle = Oracle(Configuration("wal", "NORMAL"), {"a": 2})
    oracle.restarted({"a": 1})
    oracle.lost = ({}, {"a": 2})
    oracle.saw_after_crash({"a": 2})
    with pytest.raises(Violation):
        oracle.saw_after_crash({"a": 3})
