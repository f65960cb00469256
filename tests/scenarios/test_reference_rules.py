"""The reference's own rules: silent on what the reference does, and each one speaks up where it is broken."""

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, View
from tornpage.scenarios.targets.reference.calls import made_by
from tornpage.scenarios.targets.reference.rules.invariants import check_change, check_view
from tornpage.scenarios.targets.reference.target import Reference

MINUTE_MS = 60_000

View_ = dict[str, Any]
Change = Callable[[View_], object]


class Step:
    """One call of the workload: the state before it, the state after it, and the time."""

    def __init__(self, before: View, action: Action, after: View, now_ms: int) -> None:
        self.before, self.action, self.after, self.now_ms = before, action, after, now_ms

    def broken(self, change: Change, *, is_done: bool = True, before: Change = lambda _: None) -> str | None:
        """The code of the rule that is broken if the call had led to this instead."""
        earlier, later = copy.deepcopy(dict(self.before)), copy.deepcopy(dict(self.after))
        before(earlier)
        change(later)
        try:
            check_view(later)
            check_change(earlier, self.action, later, is_done=is_done, now_ms=self.now_ms)
        except Violation as violation:
            return violation.code
        return None


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Step]]:
    """The reference's workload as it was played once, by the names of its calls."""
    found: dict[str, list[Step]] = {}
    target, environment = Reference(), Environment()
    directory: Path = tmp_path_factory.mktemp("rules")
    with faults.install():
        session = target.open(directory, Configuration(), environment)
        try:
            view = session.live_view()
            for action in target.workload():
                environment.now_ms += MINUTE_MS
                # One of them is refused: nobody controls a cron task here.
                with contextlib.suppress(Refused):
                    session.call(action)
                before, view = view, session.live_view()
                session.self_check()
                found.setdefault(action.name, []).append(Step(before, action, view, environment.now_ms))
        finally:
            session.close()
    return found


def put(key: str, **fields: Any) -> Change:
    """Fields of a row that are something else."""

    def change(view: View_) -> None:
        view[key] = {**view[key], **fields}

    return change


def drop(*keys: str) -> Change:
    """Rows that aren't there."""

    def change(view: View_) -> None:
        for key in keys:
            del view[key]

    return change


def copied(key: str, to: str, **fields: Any) -> Change:
    """A row that is there twice."""

    def change(view: View_) -> None:
        view[to] = {**view[key], **fields}

    return change


def nothing(_: View_) -> None:
    """No change."""


def test_the_workload_breaks_no_rule(steps: dict[str, list[Step]]) -> None:
    played = [step for some in steps.values() for step in some]
    assert len(played) == len(Reference().workload())
    assert [step.action for step in played if step.broken(nothing) is not None] == []
    assert [step.action for step in played if step.broken(nothing, is_done=False) is not None] == []


RUNNING = {"status": "running", "finished_at": None}
PENDING = {
    "status": "queued",
    "completed_at": None,
    "delivered_at": None,
    "next_attempt_at": 1,
    "terminal_reason": None,
}


@pytest.mark.parametrize(
    ("call", "change", "code"),
    [
        # What no state may be.
        ("tasks.progress", put("task/a", created_at=2**45), "state-makes-sense"),
        ("tasks.progress", put("task/a", last_event_at=1), "state-makes-sense"),
        ("tasks.progress", put("task/a", ended_at=2**45), "state-makes-sense"),
        ("tasks.finish", put("task/a", ended_at=None), "state-makes-sense"),
        ("tasks.delete", copied("task/c", "delivery/nobody"), "state-makes-sense"),
        ("history.finish", put("run/run-d", finished_at=None), "state-makes-sense"),
        ("history.finish", put("run/run-d", finished_at=1), "state-makes-sense"),
        ("history.start", put("task/d", status="queued"), "in-flight-flagged-once"),
        ("history.open_session", put("session/session-d", run_id="nobody"), "state-makes-sense"),
        ("history.open_session", put("session/session-d", invalidated_at=5), "state-makes-sense"),
        ("recover", put("session/session-e", valid=True, invalidated_at=None), "in-flight-flagged-once"),
        ("outbox.claim", put("message/m1", next_attempt_at=None), "no-lost-message"),
        ("outbox.claim", put("message/m1", completed_at=5), "no-duplicate-after-ack"),
        ("outbox.ack", put("message/old", leased_by="sender"), "state-makes-sense"),
        ("outbox.ack", put("message/old", delivered_at=None), "state-makes-sense"),
        ("outbox.ack", put("message/old", status="failed_terminal"), "no-duplicate-after-ack"),
        ("outbox.move_to_failed", put("message/m2", terminal_reason=None), "no-lost-message"),
        ("outbox.claim", copied("message/m1", "message/m9"), "no-duplicate-after-ack"),
        # What no call may do.
        ("tasks.set_delivery_status", put("task/b", status="succeeded"), "terminal-is-final"),
        ("tasks.progress", put("task/a", status="queued"), "terminal-is-final"),
        ("tasks.finish", put("task/a", status="lost"), "in-flight-flagged-once"),
        ("tasks.finish", put("task/a", cleanup_after=None), "state-makes-sense"),
        ("tasks.finish", drop("task/b", "delivery/b"), "only-what-is-over-goes"),
        ("outbox.ack", drop("run/run-d", "session/session-d"), "in-flight-flagged-once"),
        ("history.finish", copied("run/run-d", "run/run-d-end"), "in-flight-flagged-once"),
        ("outbox.ack", put("run/run-d", cost_usd=9.0), "terminal-is-final"),
        ("history.open_session", put("run/run-d", status="success", finished_at=2**45), "in-flight-flagged-once"),
        ("outbox.ack", drop("message/m1"), "only-what-is-over-goes"),
        ("outbox.move_to_failed", put("message/m1", last_error="again"), "no-duplicate-after-ack"),
        ("outbox.ack", put("message/m3", last_error="again"), "terminal-is-final"),
        # What an acknowledged call has to do.
        ("history.start", drop("run/run-d"), "in-flight-flagged-once"),
        ("history.finish", put("run/run-d", **RUNNING), "in-flight-flagged-once"),
        ("recover", put("run/run-e", **RUNNING), "in-flight-flagged-once"),
        ("recover", put("run/run-e", status="success"), "in-flight-flagged-once"),
        ("outbox.fail", put("message/m2", attempt_count=0, last_error="tried"), "no-lost-message"),
        ("outbox.fail", put("message/m2", next_attempt_at=2**45), "no-lost-message"),
        ("outbox.ack", put("message/old", **PENDING), "no-duplicate-after-ack"),
        ("outbox.recover", put("message/m1", **PENDING), "no-lost-message"),
        ("outbox.recover", put("message/m3", attempt_count=0), "no-lost-message"),
    ],
)  # fmt: skip
def test_a_state_or_a_change_that_breaks_a_rule_is_named(
    steps: dict[str, list[Step]], call: str, change: Change, code: str
) -> None:
    assert steps[call][-1].broken(change) == code


def test_what_must_have_happened_is_asked_for_only_where_the_call_was_acknowledged(
    steps: dict[str, list[Step]],
) -> None:
    (step,) = steps["outbox.recover"]
    assert step.broken(put("message/m1", **PENDING), is_done=False) is None
    (step,) = steps["recover"]
    assert step.broken(put("run/run-e", **RUNNING), is_done=False) is None


def test_what_a_living_sender_has_leased_is_left_alone(steps: dict[str, list[Step]]) -> None:
    (step,) = steps["outbox.recover"]
    assert step.broken(nothing, before=put("message/m1", leased_by="sender")) == "no-duplicate-after-ack"
    assert step.broken(nothing, before=put("message/m1", leased_by="pass-1")) is None


def test_a_message_is_sent_when_it_is_due_and_not_before(steps: dict[str, list[Step]]) -> None:
    (step,) = steps["outbox.recover"]
    later = {"next_attempt_at": step.now_ms + 1}
    assert step.broken(nothing, before=put("message/m1", **later)) == "no-lost-message"
    # Touched in what is now the future, it is due at once.
    assert step.broken(nothing, before=put("message/m1", **later, last_attempt_at=step.now_ms + 1)) is None


def test_a_message_that_is_too_old_expires(steps: dict[str, list[Step]]) -> None:
    (step,) = steps["outbox.recover"]
    old = put("message/m1", queued_at=step.now_ms - 31 * MINUTE_MS)
    assert step.broken(nothing, before=old) == "no-lost-message"


@pytest.mark.parametrize("age_ms", [0, -1, 10 * MINUTE_MS])
def test_pruning_takes_what_ended_longer_ago_than_an_age_that_is_one(steps: dict[str, list[Step]], age_ms: int) -> None:
    (step,) = steps["outbox.prune"]
    assert step.before.keys() > step.after.keys()
    step = Step(step.before, Action("outbox.prune", {"age_ms": age_ms}), step.after, step.now_ms)
    assert step.broken(nothing) == "only-what-is-over-goes"


def test_maintenance_takes_what_is_over_when_its_time_has_come(steps: dict[str, list[Step]]) -> None:
    (step,) = steps["maintenance"]
    assert step.before.keys() > step.after.keys()
    at_once = Step(step.before, Action("maintenance"), step.after, step.now_ms)
    assert at_once.broken(nothing) == "only-what-is-over-goes"


def test_only_the_run_that_owns_a_lost_task_may_say_how_it_ended(steps: dict[str, list[Step]]) -> None:
    (recovered,) = steps["recover"]
    before = dict(recovered.after)
    after = {**before, "task/e": {**before["task/e"], "status": "succeeded"}}
    after["task/e"]["cleanup_after"] = after["task/e"]["ended_at"] + 7 * 24 * 60 * MINUTE_MS
    for args, code in (
        ({"run_id": "run-e"}, None),
        ({"run_id": "run-d"}, "terminal-is-final"),
        ({}, "terminal-is-final"),
    ):
        action = Action("tasks.finish", {"task_id": "e", "status": "succeeded", **args})
        assert Step(before, action, after, recovered.now_ms).broken(nothing) == code


def test_another_process_finds_nobody_dead_who_lives_here(steps: dict[str, list[Step]]) -> None:
    (recovered,) = steps["recover"]
    elsewhere = Action("elsewhere", {"call": {"name": "recover", "args": {}}})
    assert recovered.broken(nothing) is None
    assert (
        Step(recovered.before, elsewhere, recovered.after, recovered.now_ms).broken(nothing) == "in-flight-flagged-once"
    )


def test_an_action_is_taken_apart_into_the_calls_in_it_and_who_makes_them() -> None:
    one, two = ({"name": name, "args": {"later_ms": 5}} for name in ("maintenance", "recover"))
    meanwhile = made_by(Action("meanwhile", {"first": one, "then": two}), 7)
    assert [(call.name, call.now_ms, call.elsewhere) for call in meanwhile] == [
        ("maintenance", 12, True), ("recover", 12, True),
    ]  # fmt: skip
    batch = Action("batch", {"calls": [one, {"name": "elsewhere", "args": {"call": two}}]})
    assert [(call.name, call.elsewhere) for call in made_by(batch, 7)] == [("maintenance", False), ("recover", True)]


def played(directory: Path, *calls: Action) -> Step:
    """The last of some calls as the reference makes them."""
    environment = Environment()
    with faults.install():
        session = Reference().open(directory, Configuration(), environment)
        try:
            for action in calls:
                environment.now_ms += MINUTE_MS
                before = session.live_view()
                session.call(action)
            return Step(before, calls[-1], session.live_view(), environment.now_ms)
        finally:
            session.close()


def batched(*calls: Action) -> Action:
    return Action("batch", {"calls": [{"name": call.name, "args": call.args} for call in calls]})


TASK = Action("tasks.create", {"id": "t", "runtime": "cli", "requester_session_key": "main", "task": "work"})
START, DELETE = (Action(f"tasks.{name}", {"task_id": "t"}) for name in ("start", "delete"))


def test_a_task_that_a_batch_deletes_and_creates_again_is_another_one(tmp_path: Path) -> None:
    step = played(tmp_path, TASK, START, batched(DELETE, TASK))
    assert step.after["task/t"]["status"] == "queued"
    assert step.broken(nothing) is None
    # The other way round, or with one of the two, it can only be the old one.
    for calls in ((TASK, DELETE), (TASK,), (DELETE,)):
        assert Step(step.before, batched(*calls), step.after, step.now_ms).broken(nothing) == "terminal-is-final"


MESSAGE = Action(
    "outbox.enqueue", {"message_id": "m", "channel": "mail", "target": "you", "payload": {"text": "hello"}}
)
CLAIM, TAKE = (Action("outbox.claim", {"message_id": "m", "worker_id": worker}) for worker in ("sender", "another"))
FAIL = Action("outbox.fail", {"message_id": "m", "worker_id": "sender", "error": "connection reset"})
GIVE_UP = Action("outbox.move_to_failed", {"message_id": "m", "worker_id": "sender", "reason": "nobody reads it"})


def test_of_several_calls_of_a_batch_on_one_message_only_what_they_come_to_is_judged(tmp_path: Path) -> None:
    given_up = played(tmp_path / "1", MESSAGE, batched(FAIL, GIVE_UP))
    assert given_up.after["message/m"]["status"] == "failed_terminal"
    assert given_up.broken(nothing) is None
    assert Step(given_up.before, FAIL, given_up.after, given_up.now_ms).broken(nothing) == "no-lost-message"
    let_go = played(tmp_path / "2", MESSAGE, CLAIM, batched(FAIL, TAKE))
    assert let_go.after["message/m"]["leased_by"] != "sender"
    assert let_go.broken(nothing) is None
    assert Step(let_go.before, TAKE, let_go.after, let_go.now_ms).broken(nothing) == "no-duplicate-after-ack"
