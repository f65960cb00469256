"""Scripts of tasks: each transition, each argument, and which task is meant."""

from collections.abc import Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import BLANK, DAY_MS, START_MS, call, create

STATUSES: Final = ("queued", "running", "succeeded", "failed", "timed_out", "cancelled", "lost")
ENDS: Final = STATUSES[2:]
DELIVERIES: Final = ("pending", "delivered", "session_queued", "failed", "parent_missing", "not_applicable")
RUNTIMES: Final = ("subagent", "acp", "cli", "cron")


def transitions(status: str) -> Iterator[Action]:
    """Every call on a task that is created in this status, and once more, when it may have no effect.

    The task has no more than it needs, or a value in each field.
    """
    whole: dict[str, Any] = {
        "started_at": START_MS - 7, "last_event_at": START_MS - 3, "error": "known", "progress_summary": "known",
        "notify_policy": "state_changes", "delivery_status": "session_queued", "child_session_key": "c",
        "requester_origin": 1,
    }  # fmt: skip
    if status in ENDS:
        whole |= {"terminal_summary": "known", "terminal_outcome": "blocked"}
    for run, fields in (("r", {}), ("q", whole)):
        for one in _calls_on_a_task(run):
            yield create("t", status=status, run_id=run, **fields)
            yield one
            yield one
            yield call("tasks.delete", task_id="t")
    # A run may be recorded once only.
    yield create("t2", status=status)
    yield call("history.start", task_id="t2", worker_id="w")


def _calls_on_a_task(run: str) -> Iterator[Action]:
    yield from (
        call("tasks.start", task_id="t"), call("tasks.start", task_id="t", started_at=START_MS - 5),
        call("tasks.progress", task_id="t", text="  half\n way "), call("tasks.progress", task_id="t", text=BLANK),
        *(call("tasks.finish", task_id="t", status=end) for end in ENDS),
        call("tasks.finish", task_id="t", status="succeeded", run_id=run, error="e", terminal_summary=" a  b ",
             terminal_outcome="blocked"),
        call("tasks.finish", task_id="t", status="lost", run_id=run),
        call("tasks.finish", task_id="t", status="failed", run_id="another"),
        call("tasks.finish", task_id="t", status="failed", terminal_outcome="blocked", ended_at=START_MS - 9),
        call("tasks.finish", task_id="t", status="running"),
        call("tasks.mark_running_by_run", run_id=run), call("tasks.progress_by_run", run_id=run, text="on"),
        *(call("tasks.finalize_by_run", run_id=run, status=end) for end in ENDS),
        call("tasks.cancel", task_id="t"),
        *(call("tasks.set_notify_policy", task_id="t", policy=one) for one in ("done_only", "state_changes", "silent")),
        *(call("tasks.set_delivery_status", task_id="t", status=one) for one in DELIVERIES),
        call("tasks.set_delivery_state", task_id="t", last_notified_event_at=7),
        call("history.start", task_id="t", worker_id="w", run_id=run),
    )  # fmt: skip


def creation() -> Iterator[Action]:
    """Every field, given and blank, padded and not."""
    every: dict[str, Any] = {
        "owner_key": " owner ", "scope_kind": "system", "delivery_status": "failed", "notify_policy": "state_changes",
        "task_kind": " kind ", "source_id": "s", "child_session_key": " child", "parent_flow_id": "flow ",
        "parent_task_id": "p", "agent_id": "a", "requester_agent_id": "ra", "run_id": " run ", "label": " läbel ",
        "last_event_at": 5, "started_at": 7, "error": " kept\nas it is ", "progress_summary": " a\n b ",
        "task": " kept ", "requester_origin": {"channel": "mail", "id": [1, None]}, "requester_session_key": " me ",
    }  # fmt: skip
    for number, (name, value) in enumerate(every.items()):
        yield create(f"a{number}", **{name: value})
        if isinstance(value, str) and name not in ("scope_kind", "delivery_status", "notify_policy"):
            yield create(f"b{number}", **{name: BLANK})
    yield create("all", **every)
    yield create("over", status="failed", terminal_summary=" x \n y", terminal_outcome="blocked", error=BLANK)
    yield create("over2", status="succeeded", ended_at=3, last_event_at=9, started_at=4)
    for status in ("succeeded", "lost"):
        yield create(f"blocked {status}", status=status, terminal_outcome="blocked")
    for number, runtime in enumerate(RUNTIMES):
        yield create(f"r{number}", runtime=runtime)
        yield call("tasks.cancel", task_id=f"r{number}")
        yield call("tasks.cancel", task_id=f"r{number}")
    for delivery in DELIVERIES:
        yield create(f"d-{delivery}", delivery_status=delivery)


_NO_MEMBERS: Final[tuple[Any, ...]] = (False, {}, "", 0)


def refused_creation() -> Iterator[Action]:
    """Invalid tasks, and invalid queries for one."""
    for field, value in (
        ("runtime", "shell"), ("status", "done"), ("scope_kind", "all"), ("delivery_status", "gone"),
        ("notify_policy", "loud"), ("started_at", True), ("started_at", 1.5), ("last_event_at", 2**60),
        ("ended_at", 5), ("terminal_summary", "x"), ("terminal_outcome", "succeeded"), ("label", 5), ("task", None),
        ("task", 5), ("run_id", "\ud800"), ("colour", "red"), ("terminal_outcome", "none"), ("error", 5),
        *((name, wrong) for name in ("notify_policy", "delivery_status", "scope_kind") for wrong in _NO_MEMBERS),
    ):  # fmt: skip
        yield create("x", **{field: value})
    yield create("t")
    yield create("t")
    for method, key in (
        ("start", {}), ("progress", {"text": "x"}), ("finish", {"status": "failed"}), ("cancel", {}), ("delete", {}),
        ("set_notify_policy", {"policy": "silent"}), ("set_delivery_status", {"status": "failed"}),
        ("set_delivery_state", {"last_notified_event_at": 1}), ("get", {}), ("get_delivery", {}),
    ):  # fmt: skip
        yield call(f"tasks.{method}", task_id="nobody", **key)
        yield call(f"tasks.{method}", task_id=5, **key)
        yield call(f"tasks.{method}", task_id=" t ", **key)
    for method, wrong in (
        ("set_notify_policy", {"policy": "loud"}), ("set_delivery_status", {"status": "gone"}),
        ("finish", {"status": "over"}), ("finish", {"status": "failed", "terminal_outcome": "none"}),
        ("finish", {"status": "failed", "ended_at": "now"}), ("start", {"started_at": "now"}),
        ("set_delivery_state", {"last_notified_event_at": "now"}),
        ("set_delivery_state", {"requester_origin": float("nan")}), ("progress", {"text": 5}),
        ("progress", {"text": "\ud800"}),
    ):  # fmt: skip
        yield call(f"tasks.{method}", task_id="t", **wrong)
    yield call("tasks.list", status="over")
    yield call("tasks.list", runtime="shell")


def same_run() -> Iterator[Action]:
    """A create that matches, and one that differs in just one of the compared fields."""
    base: dict[str, Any] = {"run_id": "r", "label": "l", "child_session_key": "c", "parent_flow_id": "f"}
    for runtime in ("subagent", "acp"):
        mine = {**base, "runtime": runtime, "task": "same", "run_id": f"r-{runtime}"}
        yield create(f"{runtime}", **mine)
        yield create(f"{runtime}1", **mine)
        yield create(f"{runtime}2", **{**mine, "label": " l ", "child_session_key": "c ", "task": " same "})
        for number, (name, value) in enumerate(
            (
                ("label", "other"), ("task", "other"), ("child_session_key", "other"), ("parent_flow_id", "other"),
                ("owner_key", "other"), ("run_id", "other"), ("scope_kind", "system"), ("runtime", "cron"),
                ("label", None), ("child_session_key", None), ("parent_flow_id", None),
            )
        ):  # fmt: skip
            yield create(f"{runtime}-{number}", **{**mine, name: value})
            yield create(f"{runtime}+{number}", **{**mine, name: value})
    bare = {"runtime": "acp", "run_id": "bare", "task": " ", "notify_policy": "silent"}
    yield create("bare", **bare)
    fills = {"task_kind": "k", "source_id": "s", "agent_id": "a", "label": "l", "status": "failed", "error": "e"}
    yield create("bare2", **{**bare, **fills, "task": "t", "requester_origin": {"a": 1}})
    yield create("bare3", **{**bare, "task_kind": "other", "notify_policy": "state_changes", "requester_origin": 2})
    yield create("bare4", **{**bare, "notify_policy": "done_only", "last_event_at": 1})
    # Two in one place, since the second one got its run at its start: the one with the same text goes first.
    yield create("one", runtime="acp", run_id="two", task="one")
    yield create("two", runtime="acp", task="two")
    yield call("history.start", task_id="two", worker_id="w", run_id="two")
    for text in ("two", "one", "three"):
        yield create(f"again {text}", runtime="acp", run_id="two", task=text, source_id=text)
    # Each field by itself: it is filled where it is blank, or stays, and another value comes too late.
    for name in (
        "task_kind", "source_id", "parent_task_id", "agent_id", "requester_agent_id", "label", "task", "error",
        "progress_summary", "started_at", "last_event_at", "delivery_status", "status",
    ):  # fmt: skip
        values: tuple[Any, Any] = ("one", "two")
        if name.endswith("_at"):
            values = START_MS, START_MS + 1
        elif name.endswith("status"):
            values = ("failed", "delivered" if name == "delivery_status" else "running")
        blank = {"runtime": "acp", "run_id": f"of {name}", "task": " "}
        for number, value in enumerate((None, *values)):
            yield create(f"{name}{number}", **{**blank, **({} if value is None else {name: value})})
    # It rises only from silent.
    for policy in ("done_only", "state_changes", "silent"):
        yield create(f"told-{policy}", runtime="acp", run_id="told", task="told", notify_policy=policy)


def parties() -> Iterator[Action]:
    """Owner, requester and scope in all their combinations."""
    number = 0
    for owner in (None, " ", "o"):
        for requester in (None, " ", " q "):
            for scope in (None, "session", "system"):
                number += 1
                fields = {"owner_key": owner, "requester_session_key": requester, "scope_kind": scope}
                yield create(f"t{number}", **fields)


def by_run() -> Iterator[Action]:
    """A run id that means one task, several, or an ambiguous set."""
    yield create("a", run_id="r", child_session_key="c1", runtime="acp")
    yield create("b", run_id="r", child_session_key="c2", runtime="acp", task="other")
    yield create("c", run_id="r", owner_key="c1", runtime="cli", task="third")
    for session in (None, " ", "c1", " c2 ", "main", "nobody"):
        yield call("tasks.progress_by_run", run_id=" r ", text=f"by {session}", session_key=session)
    yield call("tasks.mark_running_by_run", run_id="r")
    yield call("tasks.mark_running_by_run", run_id="r", session_key="c1")
    yield call("tasks.mark_running_by_run", run_id="r", session_key="main", started_at=START_MS - 7)
    yield call("tasks.finalize_by_run", run_id="r", status="lost", session_key="c1", error="gone")
    yield call("tasks.finalize_by_run", run_id="r", status="succeeded", session_key="c1", terminal_summary=" so ")
    yield call("tasks.finalize_by_run", run_id="r", status="failed", session_key="c1")
    yield call("tasks.progress_by_run", run_id="r", text="\ud800")
    # What `lost` has said is not part of the real end.
    yield create("g", run_id="g", terminal_outcome="blocked", status="lost", error="e", terminal_summary="s")
    yield call("tasks.finish", task_id="g", status="failed", run_id="g")
    yield call("tasks.finalize_by_run", run_id="r", status="over")
    yield create("d", run_id="s", owner_key="x", task="one")
    yield create("e", run_id="s", owner_key="x", task="two")
    yield create("f", run_id="s", owner_key="x", task="three", status="cancelled")
    yield call("tasks.mark_running_by_run", run_id="s")
    yield call("tasks.finalize_by_run", run_id="s", status="timed_out", ended_at=START_MS)
    for blank in (BLANK, "nobody"):
        yield call("tasks.finalize_by_run", run_id=blank, status="failed")
        yield call("tasks.progress_by_run", run_id=blank, text="x")


def times() -> Iterator[Action]:
    """Times in every order, and clocks that have jumped."""
    now = START_MS
    for number, times in enumerate(
        (
            {"started_at": now + 9}, {"started_at": 5}, {"last_event_at": 5}, {"last_event_at": now + 9},
            {"started_at": 9, "last_event_at": 5}, {"started_at": 5, "last_event_at": 9},
        )
    ):  # fmt: skip
        yield create(f"t{number}", **times)
        yield create(f"u{number}", status="running", **times)
        yield create(f"v{number}", status="lost", ended_at=7, **times)
        yield create(f"w{number}", status="failed", **times)
        yield call("tasks.start", task_id=f"t{number}", started_at=now - 10)
        yield call("tasks.finish", task_id=f"u{number}", status="lost", ended_at=now - 20)
    yield create("back")
    yield call("tasks.start", task_id="back", later_ms=-DAY_MS)
    yield call("tasks.progress", task_id="back", text="x", later_ms=-2 * DAY_MS)
    yield call("tasks.finish", task_id="back", status="lost", later_ms=-3 * DAY_MS)
    # Each call that is an event, as the first one after the clock has gone back.
    for number, (name, args) in enumerate((
        ("set_notify_policy", {"policy": "silent"}), ("set_delivery_status", {"status": "delivered"}),
        ("progress", {"text": "x"}), ("finish", {"status": "failed"}), ("cancel", {}),
    )):  # fmt: skip
        yield create(f"back{number}")
        yield call(f"tasks.{name}", task_id=f"back{number}", **args, later_ms=-DAY_MS)


def lists() -> Iterator[Action]:
    """Lists in their order, and the meaning of a token."""
    for name, fields in (
        ("one", {"run_id": "r", "runtime": "cli"}), ("two", {"run_id": "r", "runtime": "acp"}),
        ("three", {"run_id": "r", "runtime": "acp", "started_at": 5}), ("four", {"child_session_key": "one"}),
        ("five", {"child_session_key": "r", "owner_key": "z"}), ("six", {"last_event_at": 5, "parent_flow_id": "f"}),
        ("seven", {"last_event_at": 5, "parent_flow_id": " f", "child_session_key": "main"}),
    ):  # fmt: skip
        yield create(name, **{"task": name, **fields})
    for key in ("main", " main ", "z", "one", "nobody", BLANK, 5):
        yield call("tasks.list_for_owner", owner_key=key)
        yield call("tasks.list_fresh_for_owner", owner_key=key)
        yield call("tasks.list_for_session", session_key=key)
        yield call("tasks.find", token=key)
    for key in ("r", " r ", "nobody", BLANK, 5):
        yield call("tasks.list_by_run", run_id=key)
        yield call("tasks.find", token=key)
    for key in ("f", " f ", "nobody", BLANK, 5):
        yield call("tasks.list_by_parent_flow", parent_flow_id=key)
    yield call("tasks.delete", task_id="three")
    yield call("tasks.find", token="r")  # noqa: S106 - a task, run or session
    yield call("tasks.set_delivery_state", task_id="one", requester_origin={"a": [1]}, last_notified_event_at=None)
    yield call("tasks.set_delivery_state", task_id="one", requester_origin=None)
    yield call("tasks.get_delivery", task_id="one")
    yield call("tasks.list", runtime="acp", status="queued")
    yield call("tasks.list", status="running")
    yield call("tasks.quarantined")


def each_member() -> Iterator[Action]:
    """Each runtime, and each status, wherever one is chosen: by a token, in a list, at a cancel."""
    for first in RUNTIMES:
        for then in RUNTIMES:
            run = f"{first}-{then}"
            yield create(f"a {run}", run_id=run, runtime=first, child_session_key=run)
            yield create(f"b {run}", run_id=run, runtime=then, child_session_key=run, task="second")
            yield call("tasks.find", token=run)
            yield call("tasks.progress_by_run", run_id=run, text="x")
    for status in STATUSES:
        for runtime in RUNTIMES:
            name = f"{status} {runtime}"
            yield create(name, runtime=runtime, status=status, delivery_status="failed")
            yield call("tasks.cancel", task_id=name)
        yield call("tasks.list", status=status)
        yield call("audit", limit=2)
    for runtime in RUNTIMES:
        yield call("tasks.list", runtime=runtime)
        yield call("tasks.list", runtime=runtime, status="lost")


SCRIPTS: Final = (creation, refused_creation, same_run, parties, by_run, times, lists, each_member)
