"""Scripts of values and times at an edge: zero, the first and the last, equal ones, and a difference in one point."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import (
    EARLIEST_MS,
    LATEST_MS,
    START_MS,
    batch,
    call,
    create,
    enqueue,
    within,
)

_DEEPEST: Final = 64


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def odd_values() -> Iterator[Action]:
    """JSON values that are false, and the deepest ones."""
    odd: tuple[Any, ...] = (
        0,
        "",
        False,
        [],
        {},
        {"": None},
        {1: "a", "1": "b"},
        [{None: 1, "null": 2}],
        {1: 1, "1.0": 2, "2": 1},
    )
    for number, origin in enumerate((*odd, _nested(_DEEPEST), _nested(_DEEPEST + 1))):
        name = f"t{number}"
        yield create(name, requester_origin=origin)
        yield call("tasks.get_delivery", task_id=name)
        yield call("tasks.set_delivery_state", task_id=name, requester_origin={"a": [origin]})
        yield call("tasks.set_delivery_state", task_id=name, requester_origin=origin, last_notified_event_at=0)
        yield Action("outbox.enqueue", {**enqueue(f"m{number}").args, "payload": origin})
        yield create(f"r{number}")
        yield call("history.start", task_id=f"r{number}", worker_id="w", run_id=f"r{number}", issue_number=0)
        yield call("history.finish", run_id=f"r{number}", status="success", artifacts=origin, turns=0)
    yield call("outbox.recover", cutoff=None)


def whole_numbers_of_another_type() -> Iterator[Action]:
    """A time, a count or an id that equals a whole number, and is none."""
    yield create("t", run_id="r")
    yield call("tasks.start", task_id="t", started_at=5.0)
    yield call("history.start", task_id="t", worker_id="w", run_id="r", started_at=5.0)
    yield call("history.start", task_id="t", worker_id="w", run_id="r", issue_number=5.0)
    yield call("history.start", task_id="t", worker_id="w", run_id="r")
    for name in ("finished_at", "turns", "tokens_in"):
        yield call("history.finish", run_id="r", status="success", **{name: 5.0})
    yield call("tasks.set_delivery_state", task_id="t", last_notified_event_at=5.0)
    yield call("tasks.finish", task_id="t", status="failed", ended_at=5.0)
    yield create("u", started_at=5.0)
    yield call("outbox.recover", cutoff=5.0)
    yield call("outbox.prune", age_ms=5.0, limit=2.0)
    yield call("audit", limit=2.0)


def forms_of_unicode() -> Iterator[Action]:
    """Texts that some would take for equal: composed or not, upper or lower case, with a sign that is not seen."""
    texts = (
        "\u00e9", "e\u0301", "\ufb01", "fi", "\u0130", "i\u0307", "\u00df", "ss", "SS", "a\u200bb", "ab", "a\x00b",
        "A B", "a  b", "a\u2003b", "\U0001f600", "0", "00", "1e0", "1",
    )  # fmt: skip
    keys = ("owner_key", "run_id", "child_session_key", "parent_flow_id", "label", "error", "task")
    for number, text in enumerate(texts):
        yield batch(
            create(f"t{number}", **dict.fromkeys(keys, text), runtime="acp"), create(f"r{number}"),
            call("tasks.progress", task_id=f"t{number}", text=text), enqueue(text, idempotency_key=text, channel=text),
            call("history.start", task_id=f"r{number}", worker_id="w", run_id=text, agent=text),
            call("history.open_session", run_id=text, session_id=text),
        )  # fmt: skip
    for text in texts:
        yield batch(
            call("tasks.list_for_owner", owner_key=text), call("tasks.list_fresh_for_owner", owner_key=text),
            call("tasks.list_by_run", run_id=text), call("tasks.list_by_parent_flow", parent_flow_id=text),
            call("tasks.list_for_session", session_key=text), call("tasks.find", token=text),
            call("history.get_session", session_id=text), call("outbox.list", channel=text),
            call("outbox.get", message_id=text),
        )  # fmt: skip


def values_that_python_calls_equal() -> Iterator[Action]:
    """True after 1, false after 0, deep in a value as well: another value, which is written."""
    yield create("t", requester_origin=0)
    for origin in (False, 0, 1, True, 1.0, {"a": [1]}, {"a": [True]}, {"a": [1]}, "1"):
        yield call("tasks.set_delivery_state", task_id="t", requester_origin=origin)
        yield call("tasks.get_delivery", task_id="t")
        run = f"r{origin!r}"
        yield create(run)
        yield call("history.start", task_id=run, worker_id="w", run_id=run)
        yield call("history.finish", run_id=run, status="success", artifacts=1)
        yield call("history.finish", run_id=run, status="success", artifacts=origin)


def many_digits() -> Iterator[Action]:
    """Numbers are kept to the last digit, wherever there is one."""
    for number, value in enumerate((0.1 + 0.2, 1e-9, 1.005, 12_345.678_9, 1e22, 2**53 - 1, 0.004, 99.999)):
        name = f"t{number}"
        yield create(name, requester_origin={"a": value})
        yield call("history.start", task_id=name, worker_id="w", run_id=f"r{number}", issue_number=2**53 + number)
        counts = {"tokens_in": 2**53 + number, "tokens_out": 10**18 + number, "turns": 2**63 - 1 - number}
        end = {"run_id": f"r{number}", "status": "success", "cost_usd": value, "artifacts": [value], **counts}
        yield call("history.finish", **end)
        yield call("history.finish", **end)
        yield enqueue(f"m{number}", [value])
        yield call("outbox.get", message_id=f"m{number}")
    yield call("history.list")
    yield call("outbox.recover", cutoff=None)


def odd_times() -> Iterator[Action]:
    """The epoch, times before it, the first and the last there are, and beyond them."""
    moments = (0, -1, EARLIEST_MS, EARLIEST_MS - 1, LATEST_MS, LATEST_MS + 1)
    for number, moment in enumerate(moments):
        for status in ("queued", "running", "failed"):
            name = f"{status}{number}"
            yield create(f"s-{name}", status=status, started_at=moment)
            yield create(f"l-{name}", status=status, last_event_at=moment)
        yield create(f"e-{number}", status="lost", ended_at=moment)
        # A queued task whose start is known keeps it.
        yield create(f"k-{number}", last_event_at=START_MS, started_at=moment)
        yield call("tasks.start", task_id=f"k-{number}")
        yield call("tasks.finish", task_id=f"k-{number}", status="failed", ended_at=moment)
        yield create(f"h-{number}")
        yield call("history.start", task_id=f"h-{number}", worker_id="w", run_id=f"h-{number}", started_at=moment)
        yield call("history.finish", run_id=f"h-{number}", status="success", finished_at=moment)
        yield call("tasks.set_delivery_state", task_id=f"h-{number}", last_notified_event_at=moment)
    yield call("history.list")
    yield call("audit")
    yield call("maintenance", apply=False)


def times_of_creation() -> Iterator[Action]:
    """Each of the three times of a new task is absent, at the epoch or later; and an end that Python takes for none."""
    moments = (None, 0, 5)
    for status in ("queued", "running", "failed", "lost"):
        is_over = status in ("failed", "lost")
        times = product(moments, moments if is_over else (None,), moments)
        yield batch(*(
            create(f"{status}-{number}", status=status, started_at=started, ended_at=ended, last_event_at=last)
            for number, (started, ended, last) in enumerate(times)
        ))  # fmt: skip
        for name, value in (("ended_at", 0), ("terminal_summary", ""), ("terminal_outcome", "")):
            yield create(f"{status}-{name}", status=status, **{name: value})
    yield call("audit")


def clocks_without_a_time() -> Iterator[Action]:
    """The clock says what no row could show: a call that would write it is refused, every other one is made."""
    yield call("legacy_file", name="f.json", content={"id": "f", "channel": "mail", "to": "you"})
    for number, later_ms in enumerate((LATEST_MS, 2 * EARLIEST_MS)):
        task, run, session, message = (f"{one}{number}" for one in ("t", "r", "s", "m"))
        yield create(task, run_id=f"q{number}")
        yield create(f"of {run}")
        yield call("history.start", task_id=f"of {run}", worker_id="w", run_id=run)
        yield call("history.open_session", run_id=run, session_id=session)
        yield enqueue(message)
        begin = {"task_id": task, "worker_id": "w", "run_id": f"q{number}"}
        over = {"run_id": run, "status": "interrupted"}
        for one in (
            call("tasks.start", task_id=task), call("tasks.start", task_id=task, started_at=START_MS),
            call("tasks.progress", task_id=task, text="x"), call("tasks.cancel", task_id=task),
            call("tasks.finish", task_id=task, status="failed"),
            call("tasks.set_notify_policy", task_id=task, policy="silent"),
            call("tasks.set_delivery_status", task_id=task, status="failed"),
            call("tasks.progress_by_run", run_id=f"q{number}", text="x"),
            call("tasks.mark_running_by_run", run_id=f"q{number}"),
            create("new"), create("new", status="failed", ended_at=5, started_at=4, last_event_at=5),
            call("history.start", **begin), call("history.start", **begin, started_at=START_MS),
            call("history.invalidate_session", session_id=session, reason="x"),
            call("history.finish", **over, finished_at=START_MS), call("history.finish", **over),
            call("recover"), enqueue("new"), call("outbox.ack", message_id=message),
            call("outbox.fail", message_id=message, error="x"), call("outbox.move_to_failed", message_id=message),
            call("outbox.claim", message_id=message, worker_id="w"),
            call("outbox.release", message_id=message, worker_id="w"), call("outbox.prune", age_ms=1),
            call("outbox.recover", cutoff=None), call("outbox.import_legacy"), call("audit", limit=1),
            call("history.open_session", run_id=run, session_id="another"),
            call("tasks.set_delivery_state", task_id=task, last_notified_event_at=5),
            call("tasks.finish", task_id=task, status="failed", ended_at=START_MS), call("tasks.delete", task_id=task),
        ):  # fmt: skip
            yield Action(one.name, {**one.args, "later_ms": later_ms})
        yield call("history.list_sessions")


def same_again() -> Iterator[Action]:
    """A run's result again: in another order of keys, with zeros, with less."""
    yield create("a")
    yield call("history.start", task_id="a", worker_id="w", run_id="r")
    said = {"artifacts": {"a": 1, "b": {"c": 2, "d": 3}}, "turns": 3, "tokens_in": 0, "cost_usd": 0.5}
    yield call("history.finish", run_id="r", status="success", **said)
    others: tuple[dict[str, Any], ...] = (
        {"artifacts": {"b": {"d": 3, "c": 2}, "a": 1}}, {"turns": 0}, {"tokens_in": 0}, {"cost_usd": 0},
        {"artifacts": {}}, {"artifacts": 0}, {"reason": "x"}, {"tokens_out": 0},
    )  # fmt: skip
    for again in others:
        yield call("history.finish", run_id="r", status="success", **again)


def parties_of_a_run() -> Iterator[Action]:
    """Tasks of one run that differ in one point: without a session key that is ambiguous; and padded keys."""
    same: dict[str, Any] = {"runtime": "acp", "owner_key": "o", "child_session_key": "c"}
    others: tuple[dict[str, Any], ...] = (
        {"runtime": "cron"}, {"scope_kind": "system"}, {"owner_key": "p"}, {"child_session_key": "d"},
        {"child_session_key": None}, {"label": "l", "parent_flow_id": "f"},
    )  # fmt: skip
    for number, other in enumerate(others):
        run = f"r{number}"
        yield create(f"a{number}", run_id=run, **same)
        yield create(f"b{number}", run_id=run, **{**same, **other})
        yield call("tasks.progress_by_run", run_id=run, text="x")
        for session in ("nobody", " ", "d", "o"):
            yield call("tasks.progress_by_run", run_id=run, text=f"by {session}", session_key=session)
        yield call("tasks.mark_running_by_run", run_id=run, session_key="nobody")
        yield call("tasks.mark_running_by_run", run_id=run)
        yield call("tasks.finalize_by_run", run_id=run, status="lost")
        for padded in (f" {run}\t", f"{run} ", run.upper()):
            yield call("tasks.finish", task_id=f"a{number}", status="failed", run_id=padded)
    # Its owner's session is the one in which it is done.
    yield create("own", owner_key="s", child_session_key=" s ")
    yield call("tasks.list_for_session", session_key="s")
    yield call("tasks.progress", task_id="own", text="x")
    yield call("tasks.delete", task_id="own")
    yield call("tasks.list_for_session", session_key="s")


def nothing_matches() -> Iterator[Action]:
    """Keys and filters that match nothing, though the only row that could be meant has nearly the same key."""
    keys = {"task_id": "task-1", "run_id": "run-1", "owner_key": "owner-1", "session_key": "child-1",
            "parent_flow_id": "flow-1", "session_id": "session-1", "worker_id": "w1", "message_id": "message-1",
            "channel": "mail-1"}  # fmt: skip
    yield create("task-1", run_id="run-1", runtime="acp", owner_key="owner-1", child_session_key="child-1",
                 parent_flow_id="flow-1", requester_origin=1)  # fmt: skip
    yield call("history.start", task_id="task-1", worker_id="w1", run_id="run-1")
    yield call("history.open_session", run_id="run-1", session_id="session-1")
    yield enqueue("message-1", channel="mail-1")
    of_run: dict[str, Any] = {"run_id": "run-1"}
    for name, key, more in (
        ("tasks.progress_by_run", "session_key", {**of_run, "text": "x"}),
        ("tasks.mark_running_by_run", "session_key", of_run), ("tasks.progress_by_run", "run_id", {"text": "x"}),
        ("tasks.finalize_by_run", "session_key", {**of_run, "status": "failed"}),
        *((name, key, {}) for name, key in (
            ("tasks.get", "task_id"), ("tasks.get_delivery", "task_id"), ("tasks.list_for_owner", "owner_key"),
            ("tasks.list_fresh_for_owner", "owner_key"), ("tasks.list_by_run", "run_id"),
            ("tasks.list_by_parent_flow", "parent_flow_id"), ("tasks.list_for_session", "session_key"),
            ("tasks.list_for_session", "owner_key"), ("history.get", "run_id"), ("history.list", "task_id"),
            ("history.list", "worker_id"), ("history.read", "task_id"), ("history.list_sessions", "run_id"),
            ("history.get_session", "session_id"), ("outbox.list", "channel"), ("outbox.get", "message_id"))),
        ("history.list", "worker_id", {"task_id": "task-1"}), ("outbox.list", "channel", {"status": "queued"}),
    ):  # fmt: skip
        known = keys[key]
        for near in (known[:-1], f"{known}1", known.upper(), "nobody", f" {known}\t"):
            yield Action(name, {**more, "session_key" if name == "tasks.list_for_session" else key: near})
    for known in keys.values():
        for near in (known[:-1], f"{known}1", known.upper()):
            yield call("tasks.find", token=near)
            yield call("history.find", token=near)
    for name, filters in (
        ("tasks.list", {"status": "lost"}), ("tasks.list", {"runtime": "cron"}),
        ("history.list", {"status": "success"}), ("tasks.list", {"runtime": "acp", "status": "queued"}),
        ("outbox.list", {"status": "delivered"}),
        ("outbox.read", {"channel": "mail-1", "status": "delivered"}),
        ("history.read", {"status": "success", "task_id": "task-1"}),
    ):  # fmt: skip
        yield Action(name, filters)


def padded_arguments() -> Iterator[Action]:
    """Each text of each call with white space around it, and in it: some are trimmed, some collapsed, some kept."""
    pad = " x \n y\t"
    texts = (
        "task", "requester_session_key", "owner_key", "task_kind", "source_id", "child_session_key", "parent_flow_id",
        "parent_task_id", "agent_id", "requester_agent_id", "run_id", "label", "error", "progress_summary",
    )  # fmt: skip
    yield create(" t ", **dict.fromkeys(texts, pad))
    yield create("u", status="failed", terminal_summary=pad)
    yield create(" t ")
    yield create("v", run_id=" r ", runtime="acp")
    yield call("tasks.progress", task_id="v", text=pad)
    started = ("repo", "user", "agent", "agent_type", "model", "provider")
    yield call("history.start", task_id="v", worker_id="w", run_id=" r ", **dict.fromkeys(started, pad))
    yield call("history.start", task_id="u ", worker_id="w")
    yield call("history.open_session", run_id="r", session_id=pad)
    yield call("history.open_session", run_id=" r ", session_id="s")
    for session in (pad, pad.strip(), " s "):
        yield call("history.invalidate_session", session_id=session, reason=pad)
    yield call("history.finish", run_id=" r ", status="failure", reason=pad)
    yield call("history.finish", run_id="r", status="failure", reason=pad)
    yield call("history.finish", run_id="r", status="failure", reason=pad.strip())
    yield create("z", run_id="q", runtime="acp", child_session_key="c")
    yield call("tasks.progress_by_run", run_id=" q ", text=pad, session_key=" c\n")
    yield call("tasks.finish", task_id="z", status="lost", error=pad, terminal_summary=pad, run_id=" q ")
    yield call("tasks.finalize_by_run", run_id=" q ", status="failed", error=pad, session_key=pad)
    yield call("tasks.finalize_by_run", run_id=" q ", status="failed", error=pad, terminal_summary=pad)
    sent = ("channel", "target", "idempotency_key", "turn_id", "account_id", "dispatch_kind")
    yield Action("outbox.enqueue", {"message_id": " m ", "payload": pad, **dict.fromkeys(sent, pad)})
    yield enqueue("n", pad, idempotency_key=pad.strip())
    for message in (" m ", "m"):
        yield call("outbox.claim", message_id=message, worker_id=" w ")
        yield call("outbox.claim", message_id=message, worker_id="w")
        yield call("outbox.fail", message_id=message, error=pad, worker_id=" w")
        yield call("outbox.release", message_id=message, worker_id="w ")
        yield call("outbox.fail", message_id=message, error=pad, worker_id="w")
        yield call("outbox.move_to_failed", message_id=message, reason=pad)
    yield call("outbox.list", channel=f" {pad} ")


def empty_but_there() -> Iterator[Action]:
    """A value that Python takes for false is there already: another one does not fill its place."""
    values: tuple[Any, ...] = (0, False, "", [], {}, None)
    for number, value in enumerate(values):
        name, mine = f"t{number}", {"run_id": f"r{number}", "runtime": "acp"}
        yield create(name, **mine, requester_origin=value)
        yield create(f"{name}+", **mine, requester_origin={"a": 1})
        yield call("tasks.set_delivery_state", task_id=name, requester_origin=value, last_notified_event_at=0)
        yield create(f"{name}-", **mine, requester_origin=2)
        yield call("tasks.get_delivery", task_id=name)
        yield call("tasks.set_delivery_state", task_id=name, last_notified_event_at=None)
        yield call("history.start", task_id=name, worker_id="w", run_id=f"r{number}")
        yield call("history.finish", run_id=f"r{number}", status="success", artifacts=value)
        yield call("history.finish", run_id=f"r{number}", status="success", artifacts={"a": 1})


def equal_times() -> Iterator[Action]:
    """Ties: the newest insertion first; what was deleted and made again is the newest, also in a batch."""
    looks = (
        call("tasks.list"), call("tasks.list_for_owner", owner_key="main"), call("tasks.list_by_run", run_id="r"),
        call("tasks.list_fresh_for_owner", owner_key="main"), call("tasks.find", token="r"),  # noqa: S106 - a run
    )  # fmt: skip
    same: dict[str, Any] = {"started_at": 5, "run_id": "r", "runtime": "acp"}
    for name in ("c", "a", "b"):
        yield create(name, **same, child_session_key=name)
    yield from looks
    yield call("tasks.delete", task_id="c")
    yield create("c", **same, child_session_key="c")
    yield from looks
    again = create("a", **same, child_session_key="a")
    yield batch(*looks, call("tasks.delete", task_id="a"), again, *looks)
    yield batch(call("tasks.delete", task_id="b"), *looks, create("b", **same, child_session_key="b"), *looks,
                call("tasks.delete", task_id="b"), *looks)  # fmt: skip
    yield from looks
    for name in ("z", "y"):
        yield create(name, status="lost", ended_at=5, started_at=5, delivery_status="failed")
    yield call("audit")
    yield batch(*(enqueue(name) for name in ("z", "y", "x")))
    for name in ("q", "p"):
        yield create(name)
        yield call("history.start", task_id=name, worker_id="w", run_id=name, started_at=START_MS)
    yield call("history.list")
    yield call("outbox.recover", cutoff=None)
    # A millisecond apart, and inserted in the other order.
    for name, at in (("l1", START_MS + 1), ("l0", START_MS)):
        yield create(name, owner_key="main")
        yield call("history.start", task_id=name, worker_id="w", run_id=name, started_at=at)
        content = {"id": name, "channel": "mail", "to": "you", "enqueuedAt": at}
        yield call("legacy_file", name=f"{at % START_MS == 0}.json", content=content)
    yield call("outbox.import_legacy")
    yield from (call("history.list"), *looks[:4], call("outbox.list"), call("outbox.recover", cutoff=None))


def taken_ids() -> Iterator[Action]:
    """An id that another process has just taken; and what can't be done inside a batch."""
    for at in (0, 1):
        for taken in (create("t", task="theirs"), enqueue("m")):
            mine = create("t", task="mine") if taken.name == "tasks.create" else enqueue("m", idempotency_key="mine")
            yield Action("overtaken", {"first": within(taken), "then": within(mine), **({"at": at} if at else {})})
        yield call("tasks.delete", task_id="t")
        yield call("outbox.ack", message_id="m")
        yield call("outbox.prune", age_ms=1)
    yield create("a")
    change = call("tasks.progress", task_id="a", text="x")
    for refused in ("tasks.restore", "close"):
        yield batch(change, call(refused))
        yield call("tasks.list")
        yield batch(change, change)
    yield call("tasks.restore")


def without_values() -> Iterator[Action]:
    """A new task without what it needs, and a key that is no text."""
    for fields in ({"runtime": "cli"}, {"task": "x"}, {}):
        yield Action("tasks.create", {"id": "t", "owner_key": "me", **fields})
    yield call("tasks.list_by_parent_flow", parent_flow_id=5)


SCRIPTS: Final = (
    without_values,
    forms_of_unicode,
    odd_values,
    values_that_python_calls_equal,
    many_digits,
    whole_numbers_of_another_type,
    odd_times,
    times_of_creation,
    clocks_without_a_time,
    same_again,
    parties_of_a_run,
    nothing_matches,
    padded_arguments,
    empty_but_there,
    equal_times,
    taken_ids,
)
