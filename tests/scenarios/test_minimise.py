"""What is left of a failing scenario is needed, and is as plain as it can be. Scenarios are judged here, not played."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage.scenarios.execution.finding.shrink import NO_FAULT, Shown, _out_of_force, minimise, shown, what_suffices
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Limit, Restart, Scenario, Step
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.search import recorder
from tornpage.scenarios.targets.reference.draws.simpler_actions import simpler_actions

WRONG = Violation("integrity", "it is wrong")


def call(name: str, **args: object) -> Call:
    return Call(Action(name, args))


class Files:
    """A target whose files can fail, and which knows of nothing simpler than its calls."""

    depths = ("vfs",)

    def heartbeat(self) -> Action:
        return Action("beat", {"key": "heartbeat", "value": 1})

    def simpler_actions(self, action: Action) -> Iterator[Action]:
        return iter(())


class WithOptionalArguments(Files):
    """One that knows plainer calls."""

    def simpler_actions(self, action: Action) -> Iterator[Action]:
        return simpler_actions(action)


def shortest(
    steps: tuple[Step, ...],
    fails: Callable[[Scenario], bool],
    target: Files = WithOptionalArguments(),  # noqa: B008
) -> tuple[Step, ...]:
    def judged(scenario: Scenario, _target: object, _directory: Path) -> tuple[Violation | None, Counter[str]]:
        return (WRONG if fails(scenario) else None), Counter()

    scenario = Scenario("none", Configuration(), steps)
    assert fails(scenario)
    return minimise(scenario, WRONG, target, Path(), judged)[0].steps  # type: ignore[arg-type]


def armed(scenario: Scenario) -> str:
    return ";".join(step.plan for step in scenario.steps if isinstance(step, Arm))


def called(scenario: Scenario) -> set[str]:
    return {step.action.name for step in scenario.steps if isinstance(step, Call)}


def test_steps_that_are_not_needed_go() -> None:
    steps = (Restart(), call("a"), call("b"), Arm("write@1=FULL"), call("c"), Clear(), call("d"))
    assert shortest(steps, lambda scenario: "c" in called(scenario) and bool(armed(scenario))) == (
        Arm("write@1=FULL"),
        call("c"),
    )


def test_a_scenario_that_has_not_shown_it_is_not_played_again() -> None:
    played: list[Scenario] = []

    def fails(scenario: Scenario) -> bool:
        played.append(scenario)
        return {"a", "c"} <= called(scenario)

    shortest((call("a"), Restart(), call("b"), Restart(), call("c"), call("d")), fails)
    in_vain = [scenario for scenario in played if not {"a", "c"} <= called(scenario)]
    assert len(in_vain) > 2
    assert all(in_vain.count(scenario) == 1 for scenario in in_vain)


def test_what_cannot_be_left_out_is_not_tried_again_after_each_change() -> None:
    played: list[Scenario] = []

    def fails(scenario: Scenario) -> bool:
        played.append(scenario)
        return all(f"'{name}': {number}" in repr(scenario) for number in (1, 2, 3) for name in ("key", "value"))

    steps = tuple(call(name, key=n, spare=n, value=n, more=n) for n, name in enumerate("abc", start=1))
    assert shortest(steps, fails) == tuple(call(name, key=n, value=n) for n, name in enumerate("abc", start=1))
    # The whole, three steps of three, the store opened, each of four arguments, and the steps once more.
    assert len(played) == 1 + 3 + 1 + 3 * 4 + 3


def test_a_step_that_only_an_argument_needs_goes_with_it() -> None:
    steps = (call("make", item="x"), call("use", item="x"), call("look", key=2))

    def fails(scenario: Scenario) -> bool:
        told = repr(scenario)
        return "look" in told and ("make" in told or "item" not in told) and ("use" in told or "'key': 2" not in told)

    assert shortest(steps, fails) == (call("look"),)


def test_no_argument_is_left_out_that_a_method_of_the_ledger_needs() -> None:
    start = Action("history.start", {"task_id": "a", "worker_id": "w", "run_id": "r"})
    assert [*simpler_actions(start)] == [Action("history.start", {"task_id": "a", "worker_id": "w"})]
    create = Action("tasks.create", {"id": "a", "runtime": "cli", "task": "work", "label": "x"})
    assert [len(one.args) for one in simpler_actions(create)] == [3, 3]
    assert [one.args for one in simpler_actions(Action("recover", {"later_ms": 1}))] == [{}]


@pytest.mark.parametrize("sticky", ["write@1..=FULL", "write@1..4=FULL", "write@*=FULL"])
def test_a_fault_that_goes_on_happens_once_where_that_suffices(sticky: str) -> None:
    assert shortest((Arm(sticky), call("c")), lambda scenario: "write" in armed(scenario)) == (Arm("write@1=FULL"),)


def test_a_fault_that_has_to_go_on_does() -> None:
    steps = (Arm("write@1..=FULL"), call("c"))
    assert shortest(steps, lambda scenario: ".." in armed(scenario)) == (Arm("write@1..=FULL"),)


def test_of_two_faults_the_one_that_suffices_is_left() -> None:
    steps = (Arm("write@1=FULL;sync@2=IOERR_FSYNC"), call("c"))
    assert shortest(steps, lambda scenario: "sync" in armed(scenario)) == (Arm("sync@2=IOERR_FSYNC"),)


def test_of_two_faults_that_are_both_needed_both_are_left() -> None:
    plan = "write@1=FULL;sync@2=IOERR_FSYNC"
    assert shortest((Arm(plan), call("c")), lambda scenario: armed(scenario) == plan) == (Arm(plan),)


def test_a_limit_that_is_needed_stays() -> None:
    limit = Limit("steps", 45)
    assert shortest((limit, call("c")), lambda scenario: limit in scenario.steps) == (limit,)


def test_a_call_in_a_batch_or_elsewhere_is_made_by_itself() -> None:
    inner = {"name": "c", "args": {"key": 1}}
    for outer in (call("elsewhere", call=inner), call("batch", calls=[{"name": "b", "args": {}}, inner])):
        assert shortest((outer,), lambda scenario: "'c'" in repr(scenario.steps)) == (call("c"),)


def test_a_batch_that_is_needed_loses_what_is_not() -> None:
    outer = call("batch", calls=[{"name": name, "args": {"key": 1}} for name in "abc"])
    (left,) = shortest((outer,), lambda scenario: "batch" in called(scenario) and "'b'" in repr(scenario.steps))
    assert [one["name"] for one in left.action.args["calls"]] == ["b"]  # type: ignore[union-attr]


def test_an_argument_that_is_needed_stays() -> None:
    steps = (call("c", key=1, value=2),)
    assert shortest(steps, lambda scenario: "'key'" in repr(scenario.steps)) == (call("c", key=1),)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((call("c"),), ""),
        ((Arm("write@1=FULL"), call("c")), "write@1=FULL alone suffices"),
        ((Limit("pages", 0), call("c")), "it suffices that the database may grow by 0 pages"),
        (
            (Arm("write@1=FULL;sync@2=IOERR_FSYNC"), call("c")),
            "needs write@1=FULL and sync@2=IOERR_FSYNC: without any one of them the check holds",
        ),
    ],
)
def test_what_suffices_is_said(steps: tuple[Step, ...], words: str) -> None:
    assert what_suffices(Scenario("none", Configuration(), steps)) == words


def test_arguments_stay_where_the_target_knows_of_nothing_plainer() -> None:
    steps = (call("put", key="a", text="b"), call("job", job={"name": "put", "args": {}}))
    assert shortest(steps, lambda story: called(story) == {"put", "job"}, Files()) == steps


def test_a_rare_fault_gives_way_to_an_ordinary_one() -> None:
    steps = (Arm("shmlock@3=IOERR_SHMLOCK"), call("c"))
    fails = lambda story: bool(armed(story)) and "c" in called(story)  # noqa: E731
    assert shortest(steps, fails) == (Arm("write@1=FULL"), call("c"))
    # What it needs comes before: a later write, and else the same operation with its most ordinary effect.
    fifth = lambda story: fails(story) and ("write@5=" in armed(story) or "@6=" in armed(story))  # noqa: E731
    assert shortest((Arm("read:db@6=IOERR_CORRUPTFS"), call("c")), fifth) == (Arm("write@5=FULL"), call("c"))
    sixth = lambda story: fails(story) and "read" in armed(story) and "@6=" in armed(story)  # noqa: E731
    assert shortest((Arm("read:db@6=IOERR_CORRUPTFS"), call("c")), sixth) == (Arm("read:db@6=IOERR_READ"), call("c"))


@pytest.mark.parametrize(
    ("rare", "needed", "ordinary"),
    [
        (Arm("file-create:other@1..=EDQUOT"), "file-", Arm("file-write@1=ENOSPC")),
        (Arm("file-mkdir:dir@2/before=EIO"), "file-mkdir:dir@2", Arm("file-mkdir:dir@2=ENOSPC")),
        (Arm("sync:db@2/after=IOERR_FSYNC"), "sync:db@2", Arm("sync:db@2=IOERR_FSYNC")),
        (Arm("commit@2=IOERR_FSYNC", "statement"), "commit@2", Arm("commit@2=IOERR_FSYNC", "statement")),
    ],
)
def test_an_ordinary_fault_is_of_the_same_family(rare: Arm, needed: str, ordinary: Arm) -> None:
    assert shortest((rare, call("c")), lambda story: needed in armed(story)) == (ordinary,)


def test_a_step_keeps_its_minute_only_where_that_is_needed() -> None:
    late = Call(Action("c"), at=7, ends=True)
    assert shortest((late,), lambda story: "c" in called(story)) == (call("c"),)
    assert shortest((late,), lambda story: story.steps != () and story.steps[0].at == 7) == (  # type: ignore[union-attr]
        Call(Action("c"), at=7),
    )


# -- of a finding ------------------------------------------------------------------------------------------


def shown_where(steps: tuple[Step, ...], judge: Callable[[Scenario], Violation | None]) -> Shown:
    def judged(scenario: Scenario, _target: object, _directory: Path) -> tuple[Violation | None, Counter[str]]:
        return judge(scenario), Counter()

    story = Scenario("none", Configuration(), steps)
    return shown(story, WRONG, Files(), Path(), judged)  # type: ignore[arg-type]


def test_a_scenario_that_does_not_show_it_again_is_left_as_it_is_and_says_so() -> None:
    steps = (call("a"), Arm("sync@2=IOERR_FSYNC"), call("c"), Clear())
    short = shown_where(steps, lambda _: None)
    assert (short.scenario.steps, short.violation, short.again) == (steps, WRONG, False)


def test_what_another_check_says_of_the_scenario_is_no_proof() -> None:
    other = Violation("all-or-nothing", "something else")
    short = shown_where((Arm("sync@2=IOERR_FSYNC"), call("c")), lambda story: other if armed(story) else None)
    assert not short.again


def test_what_fails_without_the_fault_is_told_without_it() -> None:
    other = Violation("all-or-nothing", "it fails by itself")
    short = shown_where(
        (call("a"), Arm("write@1=FULL"), call("c"), Clear()), lambda story: other if story.steps else None
    )
    assert (short.violation, short.note) == (other, NO_FAULT)
    assert len(short.scenario.steps) == 1
    assert not short.scenario.faults


def test_what_was_seen_under_the_fault_is_told_where_another_check_fails_without_it() -> None:
    other = Violation("all-or-nothing", "it fails by itself")
    steps = (call("a"), Arm("write@1=FULL"), call("c"), Clear())
    short = shown_where(steps, lambda story: WRONG if story.faults else other)
    assert (short.violation, short.note) == (WRONG, "without the fault all-or-nothing fails")
    assert short.scenario.faults == 1


def test_only_what_meets_a_fault_is_played_where_the_whole_passes_without_it() -> None:
    played: list[Scenario] = []

    def under_a_fault(story: Scenario) -> Violation | None:
        played.append(story)
        return WRONG if story.faults and {"a", "c"} <= called(story) else None

    steps = (Restart(), call("a"), Restart(), Arm("write@1=FULL"), call("c"), Clear(), call("d"))
    assert shown_where(steps, under_a_fault).scenario.steps == (call("a"), Arm("write@1=FULL"), call("c"))
    # First of the whole, and of the shortest at the end: without the fault, and without what meets it, too.
    restart, first, met, last = Restart(), call("a"), call("c"), call("d")
    assert [story.steps for story in played if not story.faults] == [
        (restart, first, restart, met, last), (restart, first, restart, last), (first, met), (first,),
    ]  # fmt: skip
    # Beside them, those in which a call comes after the fault.
    for story in [story for story in played if story.faults]:
        after = story.steps[[isinstance(step, Arm) for step in story.steps].index(True) :]
        assert any(isinstance(step, Call | Restart) for step in after)


def test_what_a_failed_call_leaves_is_told_without_it_where_that_fails_too() -> None:
    steps = (call("a"), call("a"), Arm("write@1=FULL"), call("c"), Clear(), call("d"))

    def full(story: Scenario) -> Violation | None:
        is_taken = "c" in called(story) and not story.faults
        return WRONG if list(map(str, story.steps)).count(str(call("a"))) == 2 and not is_taken else None

    assert shown_where(steps, full).scenario.steps == (call("a"), call("a"))


def test_what_follows_a_call_that_ends_the_fault_is_out_of_force() -> None:
    steps = (call("a"), Arm("write@1=FULL"), Call(Action("c"), ends=True), call("d"), Clear(), call("e"))
    assert _out_of_force(Scenario("none", Configuration(), steps)).steps == (call("a"), call("d"), call("e"))


def test_a_fault_at_a_later_operation_than_one_that_is_not_reached_is_not_played() -> None:
    plans: list[str] = []

    def judged(scenario: Scenario, _target: object, _directory: Path) -> tuple[Violation | None, Counter[str]]:
        plan = armed(scenario)
        plans.append(plan)
        # There are two writes and four reads, of which the last one is read again.
        fired = plan.startswith(("write@1", "write@2", "read")) if plan else False
        fails = plan == "read@4=IOERR_READ" and "c" in called(scenario)
        return (WRONG if fails else None), Counter(fired=int(fired))

    scenario = Scenario("none", Configuration(), (Arm("read@4=IOERR_READ"), call("c")))
    short, _ = minimise(scenario, WRONG, Files(), Path(), judged)  # type: ignore[arg-type]
    assert short == scenario
    assert "write@2=FULL" in plans
    assert plans.count("write@3=FULL") == 2  # also where the store is opened before
    assert "write@4=FULL" not in plans


def test_a_fault_that_one_call_does_not_reach_is_played_with_another_one() -> None:
    def judged(scenario: Scenario, _target: object, _directory: Path) -> tuple[Violation | None, Counter[str]]:
        reaches = armed(scenario) == "write@3=FULL" and "c" in called(scenario)
        return (WRONG if reaches else None), Counter(fired=int(reaches))

    scenario = Scenario("none", Configuration(), (Arm("write@3=FULL"), call("c"), call("d")))
    short, _ = minimise(scenario, WRONG, Files(), Path(), judged)  # type: ignore[arg-type]
    assert short.steps == (Arm("write@3=FULL"), call("c"))
    scenario = Scenario("none", Configuration(), (Arm("write@3=FULL"), call("d"), call("c")))
    short, _ = minimise(scenario, WRONG, Files(), Path(), judged)  # type: ignore[arg-type]
    assert short.steps == (Arm("write@3=FULL"), call("c"))


def test_what_needs_no_fault_from_the_start_is_shrunk_too() -> None:
    steps = (call("a"), Restart(), call("b"))
    assert shown_where(steps, lambda story: WRONG if "a" in called(story) else None).scenario.steps == (call("a"),)


def test_a_fault_that_is_needed_only_beside_what_was_dropped_goes_at_the_end() -> None:
    def unless_put_right(story: Scenario) -> Violation | None:
        return WRONG if "c" in called(story) and (story.faults or "d" not in called(story)) else None

    steps = (Arm("write@1=FULL"), call("c"), Clear(), call("d"))
    assert shown_where(steps, unless_put_right).scenario.steps == (call("c"),)


def test_the_small_change_keeps_its_arguments() -> None:
    beat = Call(WithOptionalArguments().heartbeat())
    assert shortest((call("a", key=1), beat), lambda story: "beat" in called(story)) == (beat,)


def test_what_opening_shows_is_one_finding_whichever_call_opened_it() -> None:
    def fails(scenario: Scenario) -> bool:
        return any(isinstance(step, Call | Restart) for step in scenario.steps)

    assert shortest((call("put"), call("remove")), fails) == (Restart(),)
    assert shortest((call("put"),), fails) == (Restart(),)
    # One that a call is needed for keeps it, and one that needs no step has none.
    assert shortest((call("put"),), lambda scenario: "put" in called(scenario)) == (call("put"),)
    assert shortest((call("put"),), lambda _scenario: True) == ()


def test_a_scenario_that_needs_no_step_says_what_is_done_all_the_same() -> None:
    assert "opening the store, and the beat" in str(Scenario("none", Configuration(), ()))
    assert "no step" not in str(Scenario("none", Configuration(), (call("a"),)))


def test_a_search_with_a_time_limit_shows_the_shortest_so_far() -> None:
    steps = tuple(call(name) for name in "abcdefgh")
    played: list[int] = []

    def fails(scenario: Scenario, _target: object, _directory: Path) -> tuple[Violation | None, Counter[str]]:
        played.append(len(scenario.steps))
        return (WRONG if "h" in called(scenario) else None), Counter()

    short, _ = minimise(
        Scenario("none", Configuration(), steps), WRONG, Files(), Path(), fails, is_over=lambda: len(played) >= 2
    )  # type: ignore[arg-type]
    assert played == [4, 4]
    assert called(short) == {*"abch"}


def test_half_of_the_time_that_is_left_is_for_shrinking_and_some_seconds_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(recorder, "monotonic", lambda: now[0])
    for deadline, end in ((None, 10_000.0), (140.0, 120.0), (102.0, 110.0), (90.0, 110.0)):
        now[0] = 100.0
        is_over = recorder.Recorder(deadline=deadline).shrinking()
        now[0] = end - 0.1
        assert not is_over()
        now[0] = end + 0.1
        assert is_over() is (deadline is not None)


@pytest.mark.parametrize("deadline", [None, 1e12])
def test_an_interrupt_ends_the_shrinking(deadline: float | None) -> None:
    told: list[bool] = []
    is_over = recorder.Recorder(deadline=deadline, told_to_stop=lambda: bool(told)).shrinking()
    assert not is_over()
    told.append(True)
    assert is_over()
