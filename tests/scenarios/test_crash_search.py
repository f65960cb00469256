"""``tornpage crash`` finds what only a crash shows, by a short scenario that replays; right stores pass."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crashing_stores
import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.model.events import CrashesTried, Finding
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Arm, Call, CrashAt, Scenario
from tornpage.scenarios.model.target import Action, Configuration, completed
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.run.reproduce import replay_file as reproducer
from tornpage.scenarios.search.crash.search import CrashSearch
from tornpage.scenarios.search.crash.shrunk import shortest
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.registry import find_or_import

Command = Callable[..., Any]


def findings(ran: Any) -> list[dict[str, Any]]:
    return list(json.loads(ran.out)["findings"])


def searched(
    target: Any, states: int | None = 100, seed: int = 0, configurations: int | None = None, **plan: Any
) -> Recorder:
    profile = Profile("test", configurations, None, 0, 0, crash_states=states)
    return run(target, Plan(("crash",), profile, seed=seed, **{"report": None, **plan}))


def replays(directory: Path) -> list[Path]:
    return sorted(set(directory.rglob("*.json")) - set(directory.rglob("run.json")))


@pytest.mark.parametrize(
    ("wrong", "right", "code", "steps"),
    [
        ("SaysFull", "Right", "acknowledged-is-durable", 2),
        ("RecoversTwice", "Recovers", "all-or-nothing", 3),
        ("NotSynced", "Files", "integrity", 2),
        ("NameNotSynced", "Files", "acknowledged-is-durable", 2),
        ("RewritesAtClose", "Files", "integrity", 3),
    ],
)
def test_a_defect_that_only_a_crash_shows_is_found_in_a_short_scenario_that_replays(
    command: Command, tmp_path: Path, wrong: str, right: str, code: str, steps: int
) -> None:
    target = find_or_import(f"crashing_stores:{wrong}")
    recorder = searched(target, 20, configurations=1, most_findings=1, report=tmp_path)
    assert {event.finding.code for event in recorder.findings} == {code}
    (path,) = replays(tmp_path)
    scenario = reproducer.read(path).scenario
    assert isinstance(scenario.steps[-1], CrashAt)
    assert len(scenario.steps) <= steps
    failed = command("replay", path, "--target", f"crashing_stores:{wrong}")
    assert (failed.code, "FAILED" in failed.out) == (1, True), failed
    fixed = command("replay", path, "--target", f"crashing_stores:{right}")
    assert (fixed.code, "FIXED" in fixed.out) == (0, True), fixed


@pytest.mark.parametrize("right", ["Right", "Recovers", "Files"])
def test_the_right_stores_are_silent(command: Command, right: str) -> None:
    ran = command("crash", "--target", f"crashing_stores:{right}", "--states", 20, "--json")
    assert ran.code == 0, ran
    assert findings(ran) == []


@pytest.mark.parametrize(
    ("wrong", "check"), [("AcknowledgesFirst", "acknowledged-is-durable"), ("Gathers", "memory-equals-disk")]
)
def test_a_store_that_acknowledges_before_it_commits_is_a_finding_without_any_crash(
    command: Command, wrong: str, check: str
) -> None:
    ran = command("crash", "--target", f"crashing_stores:{wrong}", "--states", 5, "--json")
    assert ran.code == 1, ran
    (found,) = findings(ran)
    assert found["check"] == check
    assert all(step["type"] != "crash_at" for step in found["scenario"]["steps"])
    assert any(" and delete/" in line for line in found["also"])


def test_files_that_are_written_past_the_recorder_are_told(command: Command) -> None:
    ran = command("crash", "--target", "crashing_stores:GoesRound")
    assert ran.code == 2, ran
    assert "store.backup was changed in a way that the recorder does not see" in ran.out + ran.err


def test_a_workload_without_calls_tests_nothing(command: Command) -> None:
    ran = command("crash", "--target", "tiny_stores:DoesNothing")
    assert ran.code == 2, ran
    assert "a workload without calls" in ran.out


def test_what_a_reader_of_the_harness_recovers_is_on_the_tape() -> None:
    class Fails(crashing_stores.Right):
        # The journal can't be deleted, the transaction stays half undone, and the next reader rolls it back.
        configurations = (Configuration("delete", "EXTRA"),)
        calls = tiny_stores.Tiny.calls[:1]

    recorder = searched(Fails(), 100)
    assert recorder.count("fired") >= 10
    assert not recorder.findings


def test_a_fault_whose_call_fails_a_check_has_fired_all_the_same() -> None:
    class Remembers(tiny_stores.RemembersFirst):
        # A refused call stays in memory: the sweep's finding, after which no crash is tried.
        configurations = (Configuration("delete", "FULL"),)
        calls = tiny_stores.Tiny.calls[:1]

    recorder = searched(Remembers(), 10)
    assert recorder.count("fired") == recorder.count("tried") > 0
    assert sum(tried.broken for tried in recorder.crashes) > 0


def test_what_a_reader_recovers_while_a_fault_is_armed_is_on_the_tape_too(shim: faults.Shim, home: Path) -> None:
    # Every write to the database fails, so the journal stays hot, until a reader that is spared rolls it back.
    steps = (Arm("write:db@1../after=IOERR_WRITE"), Call(Action("put", {"key": "b", "value": 2})))
    executor = Executor(tiny_stores.Tiny(), Configuration("delete", "FULL"), home, record=True)
    assert executor.recording is not None
    with executor:
        executor.do(Call(Action("put", {"key": "a", "value": 1})))
        for step in steps:
            executor.do(step)
        assert executor.armed["vfs"].fired
        executor.recording.require_faithful()


@pytest.mark.slow
def test_what_a_configuration_may_lose_is_counted_and_is_no_finding() -> None:
    class Promises(tiny_stores.Tiny):
        configurations = tuple(map(Configuration.parse, ("wal/FULL", "delete/FULL", "wal/NORMAL", "delete/OFF")))

    recorder = searched(Promises(), seed=4)
    assert not recorder.findings
    exact, last, prefix, nothing = recorder.crashes
    assert all(isinstance(one, CrashesTried) and one.states > one.disks > 50 for one in recorder.crashes)
    assert (exact.lossy, exact.most_lost, exact.damaged) == (0, 0, 0)
    assert (last.most_lost, last.damaged) == (1, 0)
    assert prefix.most_lost > 1
    assert prefix.damaged == 0
    assert nothing.damaged > 0


def test_the_same_seed_tries_the_same_states(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def states(name: str, seed: int) -> list[object]:
        tried: list[object] = []
        original = CrashSearch._try_state

        def spied(self: CrashSearch, recording: Any, state: faults.State, *rest: Any) -> None:
            tried.append((state.crash, state.identity))
            original(self, recording, state, *rest)

        recorder = Recorder((), keep=lambda _: "", deadline=None, most_findings=5)
        with monkeypatch.context() as patched, faults.install():
            patched.setattr(CrashSearch, "_try_state", spied)
            wal = (Configuration("wal", "NORMAL"),)
            CrashSearch(
                tiny_stores.Tiny(), recorder, home / name, configurations=wal, most_states_per_call=5, seed=seed
            ).run()
        assert not recorder.findings
        return tried

    one = states("one", 1)
    assert len(one) > 20
    assert states("two", 1) == one
    assert states("three", 2) != one


@pytest.mark.parametrize("seed", range(20))
def test_of_the_faults_before_a_crash_each_kind_of_operation_has_its_turn(seed: int, home: Path) -> None:
    recorder = Recorder((), keep=lambda _: "", deadline=None, most_findings=5)
    search = CrashSearch(tiny_stores.Tiny(), recorder, home, most_states_per_call=60, seed=seed)
    faults_of_a_call = [*(("write", at) for at in range(20)), ("file-write", 0), ("sync", 0)]
    tally = CrashesTried("tiny", Configuration("wal", "FULL"))
    chosen = search.sampled(faults_of_a_call, 10, "faults", tally, lambda one: one[0])
    assert {kind for kind, _ in chosen} == {"write", "file-write", "sync"}
    assert list(chosen) == sorted(chosen, key=faults_of_a_call.index)
    assert len(chosen) == 6
    assert tally.left_out == {"faults": 16}


def test_a_finding_is_told_once_for_each_check_and_kind_of_crash() -> None:
    recorder = searched(crashing_stores.NotSynced(), 20)
    found: list[Finding] = [event.finding for event in recorder.findings]
    kinds = [(one.code, one.scenario.steps[-1].power, bool(one.scenario.faults)) for one in found]
    assert len(kinds) == len(set(kinds)) >= 2
    assert all(isinstance(step, Call | CrashAt) for step in found[0].scenario.steps)


def test_what_was_tried_of_all_is_told_in_text_and_json_and_on_the_page(command: Command, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    wal = ("crash", "--target", "tiny_stores:Tiny", "--configuration", "wal/FULL", "--states", 10)
    text = command(*wal, "--html", page)
    tried = json.loads(command(*wal, "--json").out)["crash_states"][0]
    assert 0 < tried["states"] < tried["enumerable"]
    left_out = f"{tried['enumerable'] - tried['states']:,} crash states"
    assert tried["left_out"]["faults of calls, and the crashes after each"] > 0
    assert f"wal/FULL: left out: {left_out}" in text.out
    assert left_out in page.read_text()


def test_every_state_leaves_no_state_out_where_few_changes_are_unsynced_and_tells_the_rest() -> None:
    recorder = searched(Shortest(), None)
    [tried] = recorder.crashes
    assert tried.states == tried.enumerable
    assert set(tried.left_out) <= {
        "positions of which some subsets were tried",
        "faults of calls, and the crashes after each",
        "faults of a recovery",
        "disks, and the recovery from each",
    }


class Shortest(tiny_stores.Tiny):
    configurations = (Configuration("wal", "FULL"),)
    calls = tiny_stores.Tiny.calls[:1]


def test_what_was_left_out_is_told_in_text_in_json_and_on_the_page(command: Command, tmp_path: Path) -> None:
    few = ("crash", "--target", "crash_places:OneFile", "--states", 5)
    data = json.loads(command(*few, "--json", "--html", tmp_path / "page.html").out)
    left_out = data["crash_states"][0]["left_out"]
    left = left_out["disks, and the recovery from each"]
    assert left > 0
    words = f"{left} disks, and the recovery from each"
    text = " ".join(command(*few, "--quiet").out.split())
    assert "file/FULL: left out: " in text
    assert words in text
    assert words in (tmp_path / "page.html").read_text()


def test_no_crash_of_a_shorter_scenario_is_judged_when_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    target = completed(tiny_stores.Tiny())
    calls = [Call(action) for action in target.workload()[:2]]
    scenario = Scenario(target.name, Configuration("delete", "FULL"), (*calls, CrashAt(1)))
    seen, judged = Violation("acknowledged-is-durable", "nothing of the kind"), []
    judge = Recording.judge

    def counted(self: Recording, *args: Any) -> Any:
        judged.append(args)
        return judge(self, *args)

    monkeypatch.setattr(Recording, "judge", counted)
    shortest(seen, scenario, target, home, 0, is_over=lambda: True)
    few = len(judged)
    shortest(seen, scenario, target, home, 0)
    # The scenario that was found is played in both.
    assert few < 10 < len(judged) - few
