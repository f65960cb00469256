"""The machine's parts: machines in turn, what a run must have reached, going on later, and the digest of a run."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import tiny_stores
from hypothesis import Phase, given, settings, strategies

from tornpage import faults
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import CrashAt, Rival, Scenario
from tornpage.scenarios.model.target import Action, Configuration, Machine, TargetError, View, completed
from tornpage.scenarios.search.fuzz import search as machine
from tornpage.scenarios.search.fuzz.checkpoint import Checkpoint
from tornpage.scenarios.search.fuzz.search import Fuzz, machines_of
from tornpage.scenarios.search.fuzz.state_machine import StoreMachine, limits, rivals, shape_of
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.reference.draws.strategies import MACHINES
from tornpage.scenarios.targets.reference.target import Reference

WAL = (Configuration("wal", "FULL"),)
FIXED = settings(max_examples=300, database=None, derandomize=True, phases=[Phase.generate])

Command = Callable[..., Any]


def fuzz(home: Path, target: object = None, **options: Any) -> tuple[Recorder, Fuzz]:
    recorder = Recorder()
    options = {"configurations": WAL, "scenarios": 6, "steps": 5, "scenarios_a_batch": 2, **options}
    made = Fuzz(target or tiny_stores.Tiny(), recorder, home, **options)  # type: ignore[arg-type]
    made.run()
    return recorder, made


def trace(recorder: Recorder) -> str:
    return next(note for note in recorder.ended[0].notes if note.startswith("trace sha256"))


# -- machines --------------------------------------------------------------------------------------------------


class Two(tiny_stores.Tiny):
    """Offers two machines."""

    machines: ClassVar = {
        "putting": Machine(lambda _: strategies.just(Action("put", {"key": "a", "value": 1})), frozenset({"put"})),
        "removing": Machine(lambda _: strategies.just(Action("remove", {"key": "a"})), frozenset({"remove"})),
    }


def test_a_target_without_machines_has_the_one_of_its_actions(shim: faults.Shim, home: Path) -> None:
    assert list(machines_of(completed(tiny_stores.Tiny()))) == ["all"]
    assert machines_of(completed(tiny_stores.Plain())) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(("machines", "configurations"), [(2, 3), (4, 16), (4, 3), (1, 2), (3, 3)])
def test_each_machine_meets_each_configuration_before_any_pair_comes_again(
    machines: int, configurations: int, home: Path
) -> None:
    class Many(tiny_stores.Tiny):
        pass

    Many.machines = {str(number): Machine(lambda _: None) for number in range(machines)}  # type: ignore[attr-defined]
    modes = tuple(Configuration("wal", str(number)) for number in range(configurations))
    made = Fuzz(Many(), Recorder(), home, configurations=modes)
    turns = [made._turn(batch) for batch in range(machines * configurations)]
    assert len(set(turns)) == len(turns)
    assert made._turn(len(turns)) == turns[0]


def test_a_machine_that_there_is_not_is_refused_and_those_that_there_are_are_named(home: Path) -> None:
    with pytest.raises(TargetError, match="putting, removing"):
        Fuzz(Two(), Recorder(), home, machines=("flying",))


def test_one_machine_alone_calls_only_what_it_draws(shim: faults.Shim, home: Path) -> None:
    recorder, _ = fuzz(home, Two(), machines=("putting",), progress=home / "so-far.json")
    kept = json.loads((home / "so-far.json").read_text())
    assert kept["acknowledged"].keys() == {"putting"}
    assert kept["acknowledged"]["putting"].keys() == {"put"}
    assert recorder.findings == []


@pytest.mark.parametrize("name", MACHINES)
def test_every_action_of_the_references_machines_is_drawn_and_no_other(name: str) -> None:
    row = {"queued_at": 5, "run_id": None, "task_id": "x"}
    view: View = {f"{kind}/x": row for kind in ("task", "run", "session", "message")}
    seen: set[str] = set()
    settings(FIXED, max_examples=600)(given(MACHINES[name].draw(view))(lambda action: seen.add(action.name)))()
    assert seen == MACHINES[name].actions


def test_a_build_with_calls_of_its_own_is_played_with_these() -> None:
    assert list(machines_of(Reference())) == ["tasks", "history", "outbox", "ledger"]
    assert list(machines_of(Reference("bug:own", calls=(Action("recover"),)))) == ["all"]


# -- what is drawn ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_rivals_are_such_as_there_can_be(mode: str, shim: faults.Shim) -> None:
    seen: list[Rival] = []
    FIXED(given(rivals(Configuration(mode)))(lambda one: seen.append(one)))()  # noqa: PLW0108 - given() needs a function
    for rival in seen:
        kind = faults.RIVAL_KINDS[rival.kind]
        assert kind.fits(mode)
        assert rival.place in kind.places
    assert {rival.operation for rival in seen} == ({"lock", "shmlock"} if mode == "wal" else {"lock"})


def test_limits_are_of_every_kind_that_is_asked_for() -> None:
    seen = set()
    FIXED(given(limits(("heap", "pages", "steps")))(lambda one: seen.add((one.kind, one.sticky))))()
    assert seen == {("heap", False), ("pages", False), ("steps", False), ("steps", True)}


@pytest.mark.parametrize(("synchronous", "some"), [("FULL", True), ("OFF", False)])
def test_the_power_is_cut_only_where_something_is_promised(
    synchronous: str, some: bool, monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    told: list[object] = []
    do = Executor.do
    monkeypatch.setattr(Executor, "do", lambda executor, step: (told.append(step), do(executor, step)))
    fuzz(home, configurations=(Configuration("wal", synchronous),), scenarios=20, steps=8, scenarios_a_batch=20)
    stops = [step for step in told if isinstance(step, CrashAt)]
    assert any(not step.power for step in stops)
    assert any(step.power for step in stops) is some


def test_shapes_know_kinds_and_statuses_and_no_names_or_times() -> None:
    view = {"task/a": {"status": "queued", "at": 1}, "task/b": {"status": "queued"}, "note": 7}
    renamed = {"task/c": {"status": "queued", "at": 2}, "task/d": {"status": "queued"}, "note": 8}
    assert shape_of(view) == shape_of(renamed) == "note:x1 task:queuedx2"
    assert shape_of({**view, "task/b": {"status": "lost"}}) != shape_of(view)


# -- what was reached ------------------------------------------------------------------------------------------


def test_an_action_that_was_never_acknowledged_is_named(
    monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    monkeypatch.setattr(machine, "ENOUGH_STEPS", 10)
    monkeypatch.setattr(machine, "STEPS_AN_ACTION", 10)
    recorder, _ = fuzz(home, Two(), machines=("removing",), scenarios=10)
    assert any("nothing has acknowledged: remove" in one.reason for one in recorder.vacuous)


def test_a_rule_that_was_never_used_is_named(monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path) -> None:
    monkeypatch.setattr(machine, "ENOUGH_STEPS", 5)
    monkeypatch.setattr(StoreMachine, "restart", lambda _self, **_drawn: None)
    recorder, _ = fuzz(home, scenarios=2, steps=2)
    assert any("never used" in one.reason for one in recorder.vacuous)


@pytest.mark.parametrize(("dies", "is_named"), [(1, False), (8, True)])
def test_few_stops_without_a_power_cut_are_chance_where_the_time_was_up(home: Path, dies: int, is_named: bool) -> None:
    recorder = Recorder()
    search = Fuzz(tiny_stores.Tiny(), recorder, home, configurations=WAL)  # type: ignore[arg-type]
    used = Counter(
        dict.fromkeys(("call", "arm", "clear", "restart", "crash", "contend", "limit", "meet"), 99), die=dies
    )
    met = Counter(steps=1_530, limits=9, contentions=9, jumps=9)
    search.checkpoint.add("all", met, used, Counter(put=9, remove=9), set())
    search.judge(complete=False)
    said = [one.reason for one in recorder.vacuous]
    assert said == (
        ["in 1,530 steps the machine all never used: cut power", "the machine never reached: power_cuts"]
        if is_named
        else []
    )


def test_a_rule_that_chance_has_left_out_is_drawn_in_further_batches(
    monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    batches: list[object] = []
    tell = Fuzz._tell

    def without_restart_at_first(self: Fuzz, part: Any, machine_run: Any) -> Violation | None:
        batches.append(part)
        with monkeypatch.context() as first:
            if len(batches) == 1:
                first.setattr(StoreMachine, "restart", lambda _self, **_drawn: None)
            return tell(self, part, machine_run)

    monkeypatch.setattr(machine, "ENOUGH_STEPS", 5)
    monkeypatch.setattr(Fuzz, "_never_met", lambda _self, _checkpoint: [])
    monkeypatch.setattr(Fuzz, "_tell", without_restart_at_first)
    recorder, _ = fuzz(home, Two(), machines=("putting",), scenarios=4, steps=20, scenarios_a_batch=4)
    assert len(batches) > 1
    assert not [one.reason for one in recorder.vacuous if "restart" in one.reason]


# -- going on --------------------------------------------------------------------------------------------------


def test_a_campaign_that_was_stopped_goes_on_and_comes_to_the_same(shim: faults.Shim, home: Path) -> None:
    whole, _ = fuzz(home, seed=3)
    kept = home / "fuzz.json"
    fuzz(home, seed=3, scenarios=2, progress=kept)
    part, _ = fuzz(home, seed=3, scenarios=4, progress=kept, goes_on=True)
    rest, _ = fuzz(home, seed=3, progress=kept, goes_on=True)
    assert trace(part) != trace(whole)
    assert trace(rest) == trace(whole)
    assert rest.ended[0].counts == whole.ended[0].counts


def test_what_was_cut_short_is_told_again_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    whole, _ = fuzz(home, seed=3)
    kept = home / "fuzz.json"
    done: list[int] = []
    do = Executor.do

    def interrupted(executor: Executor, step: object) -> None:
        done.append(1)
        if len(done) == 20:
            raise KeyboardInterrupt
        do(executor, step)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "do", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fuzz(home, seed=3, progress=kept)
    rest, _ = fuzz(home, seed=3, progress=kept, goes_on=True)
    assert trace(rest) == trace(whole)


@pytest.mark.parametrize(("option", "value"), [("seed", 4), ("steps", 6), ("scenarios_a_batch", 3)])
def test_another_campaign_is_not_gone_on_with(option: str, value: int, shim: faults.Shim, home: Path) -> None:
    kept = home / "fuzz.json"
    fuzz(home, scenarios=2, progress=kept)
    with pytest.raises(TargetError, match=f"with {option} .*, not {value}"):
        fuzz(home, progress=kept, goes_on=True, **{option: value})


@pytest.mark.parametrize("content", ["", "{}", "[", '{"format": "another", "version": 1}'])
def test_a_file_that_says_nothing_of_a_campaign_is_refused(content: str, shim: faults.Shim, home: Path) -> None:
    kept = home / "fuzz.json"
    kept.write_text(content)
    with pytest.raises(TargetError, match=r"fuzz\.json"):
        fuzz(home, progress=kept, goes_on=True)


def test_a_newer_file_is_refused(shim: faults.Shim, home: Path) -> None:
    kept = home / "fuzz.json"
    fuzz(home, scenarios=2, progress=kept)
    kept.write_bytes(msgspec.json.encode({**json.loads(kept.read_text()), "version": 99}))
    with pytest.raises(TargetError, match="version 99"):
        fuzz(home, progress=kept, goes_on=True)


def test_whoever_is_cut_short_while_writing_leaves_the_old_file(
    monkeypatch: pytest.MonkeyPatch, shim: faults.Shim, home: Path
) -> None:
    kept = home / "fuzz.json"
    _, made = fuzz(home, scenarios=2, progress=kept)
    before = kept.read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(TargetError, match="No space left"):
        Checkpoint(made.range, batches=9).write(kept)
    assert kept.read_bytes() == before


def test_the_command_goes_on_with_the_seed_of_the_file(command: Command) -> None:
    tiny = ("--target", "tiny_stores:Tiny", "--configuration", "wal/FULL", "--steps", 2, "--json")
    whole = json.loads(command("fuzz", *tiny, "--scenarios", 40, "--seed", 7).out)
    command("fuzz", *tiny, "--scenarios", 20, "--seed", 7)
    rest = json.loads(command("fuzz", *tiny, "--scenarios", 40, "--continue").out)
    assert rest["seed"] == 7
    assert rest["searches"][0]["notes"] == whole["searches"][0]["notes"]
    refused = command("fuzz", *tiny, "--scenarios", 40, "--continue", "--seed", 8)
    assert refused.code == 2
    assert "seed 7, not 8" in refused.err


def test_the_command_names_the_machines_that_there_are(command: Command) -> None:
    refused = command("fuzz", "--machine", "flying")
    assert refused.code == 2
    assert "tasks, history, outbox, ledger" in " ".join(refused.err.split())


# -- the same in every process ---------------------------------------------------------------------------------

TELL = """
from tornpage import faults
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.search.fuzz.search import Fuzz
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.reference.target import Reference

recorder = Recorder()
with faults.install(), scratch() as home:
    Fuzz(Reference(), recorder, home, scenarios=15, steps=8, scenarios_a_batch=3, seed=2).run()
assert not recorder.findings, recorder.findings
print(recorder.ended[0].counts["steps"], recorder.ended[0].notes[-1])
"""


@pytest.mark.slow
def test_two_processes_with_different_hash_seeds_come_to_the_same_trace(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., subprocess.Popen[str]]
) -> None:
    told = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        with start(TELL) as process:
            out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        told.append(out)
    assert told[0] == told[1]
    steps, _, digest = told[0].partition(" trace sha256 ")
    assert int(steps) >= 50
    assert len(digest.strip()) == 64


# -- scenarios with a power cut are scenarios like any other -------------------------------------------------------


class Forgets(tiny_stores.Tiny):
    """acknowledged-is-durable: nothing is ever synced, whatever the configuration says."""

    depths = ("vfs",)

    class session(tiny_stores.TinySession):  # noqa: N801 - the attribute's name
        def set_up(self, configuration: Configuration) -> None:
            super().set_up(msgspec.structs.replace(configuration, synchronous="OFF"))


@pytest.mark.quality
def test_a_store_that_never_syncs_is_found_by_a_power_cut_and_its_scenario_plays_again(
    shim: faults.Shim, home: Path
) -> None:
    recorder, _ = fuzz(home, Forgets(), scenarios=200, steps=10, scenarios_a_batch=20, shrinks=False, seed=2)
    scenario: Scenario = recorder.findings[0].finding.scenario
    assert any(isinstance(step, CrashAt) and step.power for step in scenario.steps)
    violation, _ = play(scenario, Forgets(), home / "again")
    assert isinstance(violation, Violation)
    assert violation.code == recorder.findings[0].finding.code


def test_every_action_of_a_machine_has_its_turn_in_some_batch() -> None:
    actions = MACHINES["ledger"].actions
    turns = [machine._turn_of(actions, batch) for batch in range(len(actions))]
    assert {name for turn in turns for name in turn} == actions
    assert machine._turn_of(frozenset(), 3) == ()


@pytest.mark.parametrize(
    ("kinds", "drawn"),
    [
        ((), "tasks.create"),
        (("task",), "history.start"),
        (("task", "run"), "history.open_session"),
        (("task", "run", "session"), "history.invalidate_session"),
    ],
)
def test_an_action_that_has_its_turn_is_preceded_by_what_makes_its_object(kinds: tuple[str, ...], drawn: str) -> None:
    view: View = {f"{kind}/a": {"task_id": "a"} for kind in kinds}
    only = MACHINES["ledger"].only
    assert only is not None
    met = set()

    @settings(max_examples=20, database=None)
    @given(only(view, "history.invalidate_session"))
    def draws(action: Action) -> None:
        met.add(action.name)

    draws()
    assert met == {drawn}


def test_what_a_machine_never_reached_is_said_by_outcome() -> None:
    adding = Machine(lambda _: None, frozenset({"add", "drop"}))
    (line,) = machine._reached("all", adding, {"add done nothing": 2, "add raised vfs": 1, "drop done jump": 1})
    assert line == ("all: 3 of (action x outcome x circumstance) reached; never refused: add, drop; never failed: drop")
