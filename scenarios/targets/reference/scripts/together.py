"""Scripts of batches and of two processes."""

from collections.abc import Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import DAY_MS, batch, call, create, enqueue


def batches() -> Iterator[Action]:
    """Many calls in one transaction: each sees the ones before it, and one that is refused takes all with it."""
    yield batch(create("a"), call("tasks.start", task_id="a"), call("tasks.progress", task_id="a", text="x"))
    yield batch(call("tasks.delete", task_id="a"), create("a"), create("b", run_id="r", runtime="acp"))
    yield batch(create("c", run_id="r", runtime="acp"), call("tasks.get", task_id="c"))
    yield batch(create("d"), call("tasks.start", task_id="nobody"))
    yield batch(create("e"), call("tasks.cancel", task_id="nobody"))
    yield batch(create("f"), create("f"))
    yield batch(call("tasks.finish", task_id="a", status="failed"), enqueue("m"), call("outbox.ack", message_id="m"))
    yield batch(create("g"), call("history.start", task_id="g", worker_id="w"), call("tasks.list"))
    yield batch(call("history.finish", run_id="g", status="success"), call("tasks.delete", task_id="g"))
    yield batch(call("outbox.ack", message_id="m"))
    yield batch()
    yield batch(create("h"), call("tasks.list_for_owner", owner_key="main"), call("tasks.delete", task_id="h"))
    yield batch(enqueue("n"), enqueue("n2", idempotency_key="key-n"), call("outbox.list"))


def looks_in_batches() -> Iterator[Action]:
    """Every look inside a batch sees what the calls before it did, and after a refusal no look sees any of it."""
    looks = (
        call("tasks.list"), call("tasks.get", task_id="a"), call("tasks.get", task_id="b"),
        call("tasks.get_delivery", task_id="a"), call("tasks.get_delivery", task_id="b"),
        call("tasks.list_for_owner", owner_key="main"), call("tasks.list_for_owner", owner_key="x"),
        call("tasks.list_by_run", run_id="r"), call("tasks.list_by_run", run_id="s"),
        call("tasks.list_by_parent_flow", parent_flow_id="f"), call("tasks.list_for_session", session_key="c"),
        call("tasks.find", token="r"), call("tasks.find", token="c"), call("tasks.quarantined"),  # noqa: S106
        call("tasks.list", status="running"), call("history.list"), call("outbox.list"),
    )  # fmt: skip
    keys: dict[str, Any] = {"child_session_key": "c", "parent_flow_id": "f", "requester_origin": {"a": 1}}
    yield create("a", run_id="r", runtime="acp", **keys)
    yield create("b", owner_key="x", task="second", **keys)
    for change in (
        call("tasks.progress", task_id="a", text="x"), call("tasks.start", task_id="b"),
        call("tasks.set_delivery_state", task_id="a", last_notified_event_at=9),
        call("tasks.set_delivery_state", task_id="b", requester_origin=None), create("c", run_id="s", **keys),
        create("a2", run_id="r", runtime="acp", label="l", **keys), call("tasks.delete", task_id="b"),
        call("history.start", task_id="a", worker_id="w"), call("tasks.finalize_by_run", run_id="r", status="lost"),
        enqueue("m"), call("tasks.delete", task_id="a"), create("a", task="anew", run_id="r"),
    ):  # fmt: skip
        yield batch(change, *looks, call("tasks.start", task_id="nobody"))
        yield batch(*looks, change, *looks)


def nested() -> Iterator[Action]:
    """A batch in a batch: one that is refused before it has written costs only itself, another takes all with it."""
    wrong, look = call("tasks.start", task_id="nobody"), call("tasks.list")
    for calls, inner, after in (
        ((create("a"),), (call("tasks.start", task_id="a"),), (look,)),
        ((create("b"),), (create("c"), wrong), ()),
        ((create("d"),), (create("e"), wrong), (look,)),
        ((create("f"),), (wrong,), (create("g"), call("tasks.start", task_id="f"))),
        ((), (look, wrong), (create("h"),)),
        ((), (create("i"), create("i")), (call("tasks.get", task_id="i"),)),
        ((), (enqueue("m"), enqueue("m")), (enqueue("n"),)),
        ((call("tasks.delete", task_id="a"),), (enqueue("o"), wrong), (call("outbox.list"),)),
        ((), (call("history.start", task_id="g", worker_id="w", run_id="r"), wrong), (call("history.list"),)),
        ((call("tasks.progress", task_id="g", text="x"),), (), (call("tasks.get", task_id="g"),)),
    ):  # fmt: skip
        parts = {"calls": calls, "inner": inner, "after": after}
        yield call("batch.nested", **{name: [_data(one) for one in some] for name, some in parts.items()})
        yield look


def _data(one: Action) -> dict[str, Any]:
    return {"name": one.name, "args": one.args}


def elsewhere() -> Iterator[Action]:
    """Another process changes what this one remembers."""

    def there(one: Action) -> Action:
        return Action("elsewhere", {"call": _data(one)})

    yield create("a", run_id="r", runtime="acp")
    yield there(create("b"))
    yield call("tasks.start", task_id="b")
    yield there(call("tasks.start", task_id="b"))
    yield there(call("tasks.finish", task_id="b", status="failed"))
    yield call("tasks.finish", task_id="b", status="succeeded")
    yield there(create("a2", run_id="r", runtime="acp", label="filled"))
    yield there(call("tasks.delete", task_id="a"))
    yield call("tasks.progress", task_id="a", text="x")
    yield create("a")
    yield there(call("tasks.progress", task_id="a", text="y"))
    yield there(call("maintenance", later_ms=30 * DAY_MS))
    yield there(enqueue("m"))
    yield call("outbox.claim", message_id="m", worker_id="w")
    yield there(call("outbox.claim", message_id="m", worker_id="v"))
    yield there(call("outbox.recover", cutoff=None))
    yield there(batch(create("c"), create("d"), call("tasks.delete", task_id="c")))
    yield call("tasks.list")
    yield there(call("tasks.list"))
    mine, other = call("tasks.progress", task_id="a", text="mine"), call("tasks.progress", task_id="a", text="other")
    for first, then in (
        (other, mine), (call("tasks.start", task_id="a"), mine), (mine, call("tasks.start", task_id="a")),
        (call("tasks.delete", task_id="a"), create("a")), (create("e"), call("tasks.progress", task_id="e", text="x")),
        (call("tasks.finish", task_id="a", status="failed"), call("tasks.cancel", task_id="a")),
        (call("tasks.delete", task_id="a"), mine),
        (create("f", run_id="s", runtime="acp"), create("g", run_id="s", runtime="acp")),
        (create("h"), call("tasks.list_for_owner", owner_key="main")),
        (enqueue("o"), enqueue("p", idempotency_key="key-o")),
        (call("tasks.delete", task_id="e"), batch(create("i"), call("tasks.progress", task_id="f", text="x"))),
    ):  # fmt: skip
        yield Action("overtaken", {"first": _data(first), "then": _data(then)})
    yield there(call("audit", later_ms=DAY_MS))


SCRIPTS: Final = (batches, looks_in_batches, nested, elsewhere)
