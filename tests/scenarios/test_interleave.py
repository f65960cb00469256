"""Two callers at once: judged by one after the other; a store that loses a race honestly is right."""

import contextlib
import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meeting_stores
import msgspec
import pytest
import racing_stores
import tiny_stores
from meeting_stores import JobsTarget
from seeds import first_of

from tornpage import Configuration, SimpleTarget
from tornpage.faults.contention.idle import until_idle
from tornpage.faults.contention.turns import Waiting
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.finding.trace import trace_of
from tornpage.scenarios.execution.interleave.schedule import hops_in_words
from tornpage.scenarios.execution.interleave.serial import Run, Serial
from tornpage.scenarios.execution.interleave.sessions import InProcess
from tornpage.scenarios.execution.interleave.worker import _OverPipe
from tornpage.scenarios.execution.snapshots import Files
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Call, Callers, Interleave, Scenario
from tornpage.scenarios.model.target import Action, Target, TargetError
from tornpage.scenarios.report.html.timelines import drawn
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run.campaign import Exit, verdict
from tornpage.scenarios.run.reproduce import replay_file
from tornpage.scenarios.run.reproduce.emit_test import require_holds
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.known_bugs import all_bugs
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.registry import find, find_or_import

ADD, CLAIM = Action("add", {"name": "a"}), Action("claim", {"worker": "one"})
OTHER = Action("claim", {"worker": "two"})
BUGS = [
    bug
    for bug in all_bugs().values()
    if "interleave" in bug.searches and bug.sound and bug.target().callers != ("processes",)  # type: ignore[attr-defined]
]


def interleave(
    target: Target, *callers: Callers, schedules: int | None = 120, seed: int = 0, most_findings: int = 25
) -> Recorder:
    profile = Profile("test", 1, None, 0, 0, schedules=schedules)
    plan = Plan(("interleave",), profile, seed=seed, report=None, callers=callers or None, most_findings=most_findings)
    return campaign.run(target, plan)


def codes(recorder: Recorder) -> set[str]:
    return {found.finding.code for found in recorder.findings}


def notes(recorder: Recorder) -> str:
    return "\n".join(note for ended in recorder.ended for note in ended.notes)


def test_calls_in_order_are_made_once_for_all_kinds_of_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    make = Serial._make

    def noted(serial: Serial, action: Action, files: Files) -> Run:
        made.append(str(action))
        return make(serial, action, files)

    monkeypatch.setattr(Serial, "_make", noted)
    target = JobsTarget(meeting_stores.Jobs)
    target.calls = (ADD,)
    # That opens the store, too.
    recorder = interleave(target, "processes", schedules=24)
    of_one_kind, tried = len(made), recorder.count("schedules")
    made.clear()
    recorder = interleave(target, "threads", "processes", schedules=24)
    assert recorder.findings == []
    assert recorder.count("schedules") > tried
    assert len(made) == of_one_kind > 2


HONEST = [
    meeting_stores.Jobs,
    meeting_stores.Conflicts,
    meeting_stores.Refuses,
    meeting_stores.Removes,
    meeting_stores.Deletes,
    meeting_stores.Snapshots,
    meeting_stores.Retries,
    meeting_stores.ReturnsStatus,
]


@pytest.mark.parametrize("kind", HONEST)
def test_a_store_that_loses_a_race_honestly_is_right(kind: type[meeting_stores.Jobs]) -> None:
    # As many as show what TakesTarget does.
    recorder = interleave(JobsTarget(kind), "threads", schedules=60)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS
    assert recorder.count("schedules") > 30


@pytest.mark.parametrize("kind", [meeting_stores.Starts, meeting_stores.StartsOrRaises, meeting_stores.Registers])
def test_two_that_are_told_that_a_thing_is_theirs_is_found_without_an_answer(kind: type[meeting_stores.Jobs]) -> None:
    recorder = interleave(JobsTarget(kind), "threads", schedules=60, most_findings=1)
    assert codes(recorder) == {"not-serializable"}


def test_one_that_takes_what_another_has_is_found_in_threads_and_processes() -> None:
    for callers in ("threads", "processes"):
        recorder = interleave(meeting_stores.TakesTarget(), callers, schedules=60, most_findings=1)
        assert codes(recorder) == {"handed-out-twice"}
        steps = recorder.findings[0].finding.scenario.steps
        assert len(steps) == 2
        assert isinstance(steps[-1], Interleave)


def test_both_processes_have_the_same_time_of_day() -> None:
    recorder = interleave(meeting_stores.StampsTarget(), "processes", schedules=12)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_known_bugs_are_caught_in_threads_and_their_twins_are_silent(bug: KnownBug) -> None:
    callers: Any = [one for one in bug.target().callers if one != "processes"]  # type: ignore[attr-defined]
    caught = interleave(bug.target(), *callers, schedules=bug.budget // 2, most_findings=1)
    assert codes(caught) <= set(bug.checks)
    assert codes(caught)
    twin = bug.twin()
    assert twin is not None
    # The gate makes more of them.
    silent = interleave(twin, *callers, schedules=20)
    assert [found.finding.message for found in silent.findings] == []


# -- values, errors and threads of the store's own --------------------------------------------------------------


@pytest.mark.parametrize("callers", ["threads", "processes"])
def test_a_store_may_keep_which_process_and_thread_has_made_a_call(callers: Callers) -> None:
    recorder = interleave(racing_stores.SignsTarget(), callers, schedules=12)
    assert [found.finding.message for found in recorder.findings] == []
    assert codes(interleave(racing_stores.SignsWhatItTakesTarget(), callers, schedules=12, most_findings=1))


def test_what_waits_in_the_system_in_another_process_yields_at_once(home: Path, shim: object) -> None:
    target, began = racing_stores.OneAfterAnotherTarget(), time.perf_counter()
    steps = (Call(ADD), Interleave(CLAIM, OTHER, 2, callers="processes"))
    violation, counts = play(story(target, *steps), target, home)
    assert (violation, counts["schedules"]) == (None, 1)
    # Four looks of 5 ms each, and not 2 s each, as by a clock that stands.
    assert time.perf_counter() - began < 6


@pytest.mark.parametrize(
    ("kind", "callers", "error"),
    [
        (racing_stores.MakesBlindly, "threads", "table owned already exists"),
        (racing_stores.Unpacks, "threads", "TypeError"),
        (racing_stores.Begins, "shared", "cannot (start|commit)"),
    ],
)
def test_an_error_in_the_code_is_no_honest_answer_to_a_lost_race(
    kind: type[meeting_stores.Jobs], callers: Callers, error: str
) -> None:
    recorder = interleave(JobsTarget(kind), callers, schedules=80)
    assert codes(recorder) == {"not-serializable"}
    assert any(re.search(error, found.finding.message) for found in recorder.findings)


def test_the_sound_twins_of_those_stores_are_silent() -> None:
    for kind, callers in ((racing_stores.Makes, "threads"), (racing_stores.Begins, "threads")):
        recorder = interleave(JobsTarget(kind), callers, schedules=60)  # type: ignore[arg-type]
        assert [found.finding.message for found in recorder.findings] == []


@pytest.mark.parametrize(
    ("racy", "sound", "operation"),
    [
        (racing_stores.AsksTwice, racing_stores.HasAThread, "get"),
        (racing_stores.AsksTwiceByCondition, racing_stores.AsksByCondition, "__enter__"),
    ],
)
def test_callers_of_a_store_with_a_thread_of_its_own_are_switched_between_their_requests(
    home: Path, racy: type[meeting_stores.Jobs], sound: type[meeting_stores.Jobs], operation: str
) -> None:
    recorder = interleave(JobsTarget(racy), "shared", schedules=60, most_findings=1)
    assert codes(recorder) == {"handed-out-twice"}
    *before, step = recorder.findings[0].finding.scenario.steps
    trace = trace_of(story(JobsTarget(racy), *before, step), JobsTarget(racy), home)
    assert any(f"({operation}), at racing_stores.py" in moment.outcome for moment in trace.moments)
    recorder = interleave(JobsTarget(sound), "shared", schedules=60)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("points") > 0


def test_the_id_of_a_row_that_came_before_another_one_went_is_no_difference() -> None:
    recorder = interleave(racing_stores.HeapTarget(), schedules=40)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("schedules") > 20
    assert codes(interleave(racing_stores.HeapByHandTarget(), schedules=40, most_findings=1)) == {"not-serializable"}


class Stock:
    """Reads the number of a thing and writes one more, which another caller may have written meanwhile."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS stock (name TEXT PRIMARY KEY, n INTEGER)")

    def receive(self, name: str) -> None:
        row = self.db.execute("SELECT n FROM stock WHERE name = ?", (name,)).fetchone() or (0,)
        self.db.execute("INSERT OR REPLACE INTO stock VALUES (?, ?)", (name, row[0] + 1))

    def close(self) -> None:
        self.db.close()


class StockTarget(SimpleTarget):
    configurations = (Configuration("delete", "FULL"),)
    calls = (Action("receive", {"name": "a"}), Action("receive", {"name": "a"}))
    beat = Action("receive", {"name": "beat"})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Stock:
        return Stock(path)

    def view(self, store: Any) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(connection.execute("SELECT name, n FROM stock"))


def test_where_only_the_rows_differ_the_answers_are_not_said_three_times() -> None:
    (found,) = interleave(StockTarget(), "threads", schedules=20).findings
    both = "A: receive(name='a') got acknowledged; B: receive(name='a') got acknowledged"
    assert found.finding.message == f"{both}, as in either order; a: the nearest order has 3, the file has 2"


@pytest.mark.parametrize("seed", first_of(range(4)))
def test_calls_that_have_an_effect_on_each_other_come_first(seed: int) -> None:
    # Sixteen pairs at a state, of which three fit into the budget; two show it, and touch no row in common.
    recorder = interleave(racing_stores.AtMostTwoTarget(), "threads", seed=seed, most_findings=1)
    assert codes(recorder) == {"not-serializable"}
    recorder = interleave(racing_stores.AtMostTwoAtOnceTarget(), "threads", seed=seed)
    assert recorder.findings == []


@pytest.mark.parametrize("seed", first_of(range(4)))
def test_a_call_whose_effect_is_in_memory_only_comes_first_too(seed: int) -> None:
    recorder = interleave(racing_stores.WarmsTarget(racing_stores.WarmsWithoutALock), seed=seed, most_findings=1)
    assert codes(recorder) == {"stale-view"}
    recorder = interleave(racing_stores.WarmsTarget(), seed=seed, schedules=40)
    assert recorder.findings == []


@pytest.mark.parametrize("seed", first_of(range(4)))
def test_what_one_state_leaves_of_its_schedules_another_one_gets(seed: int) -> None:
    # Five states, of which one has nine pairs, and three hardly any.
    target = racing_stores.ReservesTarget(racing_stores.ReservesTooMuch)
    recorder = interleave(target, "threads", seed=seed, most_findings=1)
    assert codes(recorder) == {"not-serializable"}
    recorder = interleave(racing_stores.ReservesTarget(), "threads", seed=seed)
    assert recorder.findings == []
    assert recorder.count("schedules") > 60


def test_a_small_number_of_schedules_is_kept_but_for_the_last_return_of_each_pair_and_the_next_call() -> None:
    recorder = interleave(racing_stores.WarmsTarget(), schedules=5)
    assert 5 <= recorder.count("schedules") <= 14


# -- who is tried -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (meeting_stores.RemembersTarget, "an open session does not see what add in another one has committed"),
        (meeting_stores.CachesTarget, "make put and then put, one call after the other, conflict with each other"),
        (meeting_stores.NumbersTarget, "make add and then add, one call after the other, conflict with each other"),
        (meeting_stores.IndexedTarget, "conflict with each other: A: find"),
        (meeting_stores.OpensOnceTarget, "can't be opened a second time: .*BlockingIOError"),
        (meeting_stores.MarksTarget, "conflict with each other: closing fails: FileNotFoundError"),
        (meeting_stores.RemovesTheLogTarget, "an open session does not see what add in another one has committed"),
    ],
)
def test_a_store_of_one_caller_by_its_nature_is_not_tried_and_that_is_said(target: type[Target], why: str) -> None:
    recorder = interleave(target())
    assert recorder.findings == []
    assert recorder.count("schedules") == 0
    assert verdict(recorder) is Exit.NOT_TESTED
    note = notes(recorder)
    assert re.search(f"not tried: .*{why}", note), note
    assert 'declare callers = ("processes",)' in note


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_a_race_of_a_store_that_answers_from_an_index_is_no_finding(seed: int) -> None:
    # With most seeds its drops race before the index comes up.
    recorder = interleave(meeting_stores.IndexedTarget(), seed=seed)
    assert recorder.findings == []
    assert "find(start=''), made again after" in notes(recorder)


def test_a_transaction_that_a_call_forgets_is_no_memory_of_the_store() -> None:
    assert "handed-out-twice" in codes(interleave(meeting_stores.ForgetsTarget()))


def test_one_that_declares_two_callers_is_held_to_it() -> None:
    recorder = interleave(JobsTarget(meeting_stores.Remembers, ("threads",)), schedules=60, most_findings=1)
    assert codes(recorder) <= {"stale-view", "handed-out-twice"}
    assert recorder.findings
    target = meeting_stores.CachesTarget(callers=("processes",))
    assert codes(interleave(target, schedules=60, most_findings=1)) == {"stale-view"}
    with pytest.raises(TargetError, match="can't be opened a second time"):
        interleave(JobsTarget(meeting_stores.OpensOnce, ("threads",)))


def test_one_that_declares_one_caller_is_not_tried() -> None:
    recorder = interleave(JobsTarget(meeting_stores.Takes, ()))
    assert recorder.findings == []
    assert "declared for one caller only: callers = ()" in notes(recorder)


@pytest.mark.parametrize("callers", ["threads", ["threads"], ("thread",)])
def test_a_wrong_declaration_is_refused_with_what_is_allowed(callers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting_stores.TakesTarget, "callers", callers, raising=False)
    with pytest.raises(ValueError, match=r"callers is .*; give a tuple of 'processes', 'threads', 'shared', or \(\)"):
        find_or_import("meeting_stores:TakesTarget")


# -- schedules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "schedules", "found"),
    [(racing_stores.Waits, 24, set()), (racing_stores.WaitsAndTakes, 120, {"handed-out-twice"})],
)
def test_a_call_that_waits_for_a_job_is_left_out_where_there_is_none(
    kind: type[meeting_stores.Jobs], schedules: int, found: set[str]
) -> None:
    profile = Profile("test", 1, None, 0, 0, schedules=schedules)
    plan = Plan(
        ("interleave",), profile, seed=0, report=None, callers=("threads",), most_findings=1, call_timeout_s=0.5
    )
    recorder = campaign.run(JobsTarget(kind), plan)
    assert codes(recorder) == found
    assert "left out where it waits for another caller: claim" in notes(recorder)
    assert recorder.count("schedules") > 5


def test_a_schedule_of_a_store_that_connects_late_replays(home: Path, shim: object) -> None:
    target = racing_stores.ConnectsLateTarget()
    [found] = interleave(target, "threads", schedules=60, most_findings=1).findings
    assert len(found.finding.scenario.steps) == 1
    violation, _ = play(found.finding.scenario, target, home)
    assert violation is not None
    assert (violation.code, violation.message) == (found.finding.code, found.finding.message)


def story(target: Target, *steps: Any) -> Scenario:
    return Scenario(target.name, target.configurations[0], steps)


def test_the_same_schedule_gives_the_same_trace(home: Path, shim: object) -> None:
    target, step = JobsTarget(meeting_stores.Snapshots), Interleave(CLAIM, OTHER, 2, 2, "threads")
    seen = []
    for run in range(3):
        with Executor(target, target.configurations[0], home / str(run)) as executor:
            executor.do(Call(ADD))
            executor.do(step)
            seen.append(hops_in_words(executor.hops, step))
    assert seen[0] == seen[1] == seen[2]
    assert [caller for caller, _, _ in seen[0]] == ["A", "B", "A", "B"]


@pytest.mark.parametrize("kind", ["processes", "shared"])
def test_the_same_schedule_gives_the_same_trace_in_other_callers(home: Path, shim: object, kind: Any) -> None:
    target, step, seen = JobsTarget(meeting_stores.Jobs, (kind,)), Interleave(CLAIM, OTHER, 2, callers=kind), []
    for run in range(3):
        with Executor(target, target.configurations[0], home / str(run)) as executor:
            executor.do(Call(ADD))
            with contextlib.suppress(Violation):
                executor.do(step)
            seen.append(hops_in_words(executor.hops, step))
    assert seen[0] == seen[1] == seen[2]
    assert [caller for caller, _, _ in seen[0]][:2] == ["A", "B"]


def test_a_scenario_goes_on_from_what_two_callers_have_left(home: Path, shim: object) -> None:
    target = JobsTarget()
    steps = (Call(ADD), Interleave(CLAIM, OTHER, 2, callers="threads"), Call(Action("add", {"name": "b"})), Call(CLAIM))
    violation, counts = play(story(target, *steps), target, home)
    assert violation is None
    assert counts["schedules"] == 1


def test_a_store_that_waits_by_sleeping_is_driven_in_virtual_time(home: Path, shim: object) -> None:
    target = JobsTarget(meeting_stores.Retries)
    waited = set()
    for at in range(1, 5):
        step = Interleave(CLAIM, OTHER, at, callers="threads")
        with Executor(target, target.configurations[0], home) as executor:
            executor.do(Call(ADD))
            executor.do(step)
            waited |= {how for _, _, how in hops_in_words(executor.hops, step)}
    assert "waits for the other caller" in waited


DEADLOCK = """
import os
import meeting_stores
from test_interleave import ADD, CLAIM, JobsTarget, Interleave, Path, play, story
from tornpage import faults

with faults.install():
    target = JobsTarget(meeting_stores.TwoLocks, ("shared",))
    violation, _ = play(story(target, Interleave(ADD, CLAIM, 2, callers="shared")), target, Path("store"))
print(violation.code, violation.message, flush=True)
# Two threads wait for each other for ever.
os._exit(0)
"""


@pytest.mark.slow
def test_two_locks_in_two_orders_are_a_deadlock_with_both_places(tmp_path: Path) -> None:
    # In a process of its own: the two threads, and their connections, stay until its end.
    told = subprocess.run(
        [sys.executable, "-c", DEADLOCK],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}, capture_output=True, text=True,
        timeout=120, check=True,
    ).stdout  # fmt: skip
    assert told.startswith("deadlock ")
    assert "A at meeting_stores.py" in told
    assert "B at meeting_stores.py" in told


def test_a_trace_has_a_lane_for_each_caller(home: Path, shim: object) -> None:
    target = meeting_stores.TakesTarget()
    scenario = story(target, Call(ADD), Interleave(CLAIM, OTHER, 2, callers="threads"))
    trace = trace_of(scenario, target, home)
    assert [moment.caller for moment in trace.moments] == ["", "A", "B", "A"]
    assert "stopped before switch point 2 (shmlock), at meeting_stores.py" in trace.moments[1].outcome
    assert trace.check == "handed-out-twice"
    assert [name for name, _ in drawn(trace).answers] == ["answer", "caller A", "caller B"]
    assert trace.first_difference == 4


def test_a_finding_replays_from_its_file_and_as_a_test(tmp_path: Path, home: Path) -> None:
    target = meeting_stores.TakesTarget()
    scenario = story(target, Call(ADD), Interleave(CLAIM, OTHER, 2, callers="threads"))
    recorder = interleave(target, "threads", schedules=60, most_findings=1)
    path = replay_file.write(recorder.findings[0].finding, tmp_path, 0)
    assert replay_file.read(path).check == "handed-out-twice"
    with pytest.raises(AssertionError, match="both callers got"):
        require_holds(_data(scenario), target, home)
    require_holds(_data(story(JobsTarget(), *scenario.steps)), JobsTarget(), home / "sound")


def _data(scenario: Scenario) -> Any:
    return msgspec.to_builtins(scenario)


def test_a_replay_file_names_no_private_action(tmp_path: Path) -> None:
    target = meeting_stores.TakesTarget()
    finding = interleave(target, "threads", schedules=60, most_findings=1).findings[0].finding
    path = replay_file.write(finding, tmp_path, 0)
    path.write_text(path.read_text().replace('"name": "claim"', '"name": "__init__"'))
    with pytest.raises(replay_file.ReplayFileError, match="'__init__' is not the name of an action"):
        replay_file.require_calls_of(target, replay_file.read(path).scenario)


def test_the_command_says_what_it_did(command: Callable[..., Any]) -> None:
    ran = command("interleave", "--target", "meeting_stores:TakesTarget", "--callers", "threads", "--schedules", "20")
    assert ran.code == 1, ran
    assert "handed-out-twice" in ran.out
    assert "[A] claim(" in ran.out
    ran = command("interleave", "--target", "meeting_stores:RemembersTarget")
    assert ran.code == 2, ran
    assert "not tried" in ran.out


def test_the_sound_twins_of_bugs_have_names() -> None:
    assert find("bug:claim-by-select/sound").name == "bug:claim-by-select/sound"
    with pytest.raises(ValueError, match="has no store of its own"):
        find("bug:canary/sound")


class Settles(SimpleTarget):
    """The same call again changes nothing: at most of the workload's states there is nothing to try."""

    name = "test_interleave:Settles"
    title = "jobs that are there already"
    callers = ("threads",)
    calls = (ADD, *(Action("count") for _ in range(7)))
    beat = Action("add", {"name": "beat"})

    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        class Counted(meeting_stores.Jobs):
            def count(self) -> int:
                found: int = self.db.execute("SELECT count(*) FROM job").fetchone()[0]
                return found

        return Counted(path)

    view, rows = JobsTarget.view, JobsTarget.rows


class OnlyReads(Settles):
    name = "test_interleave:OnlyReads"
    calls = (Action("count"),)


class Leaks(Settles):
    """Its close() closes nothing."""

    def make(self, path: Path, configuration: Any, environment: Any) -> Any:
        made = super().make(path, configuration, environment)
        made.close = lambda: tiny_stores.LEAKED.append(made.db)
        return made


def test_a_draw_of_states_without_any_change_is_followed_by_the_others() -> None:
    for seed in range(4):
        recorder = interleave(Settles(), schedules=8, seed=seed)
        assert recorder.count("schedules")
        assert verdict(recorder) is Exit.HOLDS


def test_a_workload_in_which_no_two_calls_can_meet_is_named() -> None:
    recorder = interleave(OnlyReads())
    assert "not tried: in no state of the workload does a call that two callers may make change" in notes(recorder)
    assert verdict(recorder) is Exit.NOT_TESTED


def test_a_store_that_leaks_without_a_fault_ends_no_search_in_an_internal_error() -> None:
    profile = Profile("test", 1, None, 2, 4, schedules=6, shrinks=False)
    for search in ("interleave", "fuzz"):
        recorder = campaign.run(Leaks(), Plan((search,), profile, report=None))
        assert codes(recorder) == {"still-usable-after-the-fault"}
        assert "after closing, files are still open" in recorder.findings[0].finding.message


def test_a_process_that_can_not_load_the_target_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with pytest.raises(TargetError, match="can't be loaded in another process"):
        InProcess("A", tiny_stores.Tiny())
    (process,) = started
    assert process.returncode is not None


def test_two_threads_of_one_caller_ask_and_are_answered_one_after_the_other() -> None:
    ours, theirs = multiprocessing.Pipe()
    turns = _OverPipe(theirs)
    turns.at_work = True
    threads = [threading.Thread(target=turns.waits) for _ in range(2)]
    for one in threads:
        one.start()
    asked = 0
    for _ in threads:
        assert isinstance(ours.recv(), Waiting)
        until_idle(1.0)
        asked += ours.poll()
        ours.send(None)
    for one in threads:
        one.join()
    assert not asked
