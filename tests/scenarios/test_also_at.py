"""The places where a finding was seen, too, name the call that failed."""

import pytest

from tornpage.scenarios.execution.generic_checks.open_connections import CANNOT_ROLL_BACK
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.scenario import Arm, Call, Limit, Restart, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.search.recorder import Recorder

PUT, REMOVE = Call(Action("put", {"key": "a"})), Call(Action("remove", {"key": "a"}))
# A process that makes the whole workload, and is killed somewhere in it.
WARM = Scenario("store", Configuration(), (Arm("lock:db@9=KILL"), PUT, REMOVE, Restart(), Restart(crash=True)))


@pytest.mark.parametrize(
    ("manner", "call"),
    [
        ("killed in remove(key='a') by lock:db@9=KILL", "remove(key='a')"),
        ("killed in open() by lock:db@9=KILL", "open()"),
        ("killed between two calls by lock:db@9=KILL", "between two calls"),
    ],
)
def test_a_kill_in_a_process_of_several_calls_names_the_one_it_stopped(manner: str, call: str) -> None:
    recorder = Recorder()
    finding = Finding("no-resurrection", f"{manner}: a: the file has 1", WARM, {}, "kill")
    assert [recorder.repeats_one(finding) for _ in range(2)] == [False, True]
    assert recorder.also_at(finding) == (f"{call} in wal/FULL, by kill: 2 points",)


def test_a_rollback_without_memory_and_a_cancellation_hide_no_other_finding() -> None:
    def found(condition: Arm | Limit, more: str = "") -> Finding:
        scenario = Scenario("store", Configuration(), (condition, PUT))
        return Finding("still-usable-after-the-fault", f"the next call fails{more}", scenario, {}, "limits")

    full, pages = found(Arm("write@1=FULL")), found(Limit("pages", 0))
    no_memory = found(Limit("heap", 0), f"; {CANNOT_ROLL_BACK}")
    cancelled = found(Limit("awaits", 1))
    recorder = Recorder()
    told = [recorder.repeats_one(one) for one in (full, pages, no_memory, no_memory, cancelled, cancelled)]
    assert told == [False, True, False, True, False, True]
