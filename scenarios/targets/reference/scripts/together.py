"""Scripts of batches and of two processes."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import DAY_MS, batch, call, create, enqueue, within


def batches() -> Iterator[Action]:
    """Many calls in one transaction: each sees the ones before it, and a refused one undoes all of them."""
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
    """Every read inside a batch sees the effect of the calls before it, and after a refusal no read sees any of it."""
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
    # Several that were made in one transaction, at one time.
    made = [create(f"n{number}", run_id="s", runtime="cron", task=f"{number}", **keys) for number in range(9)]
    yield batch(*made, call("tasks.delete", task_id="n4"), made[4], *looks, call("tasks.finalize_by_run", run_id="s",
                                                                              status="failed"))  # fmt: skip
    # Changed, deleted and looked at in one transaction, with what has been there before.
    for change in (call("tasks.progress", task_id="a", text="x"),
                   call("tasks.set_delivery_state", task_id="a", last_notified_event_at=7)):  # fmt: skip
        yield batch(change, call("tasks.delete", task_id="a"), call("tasks.get", task_id="a"), *looks)
        yield create("a", run_id="r", requester_origin=1)


def nested() -> Iterator[Action]:
    """A batch in a batch: one that is refused before it has written undoes only itself, another undoes all."""
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
        yield call("batch.nested", **{name: [within(one) for one in some] for name, some in parts.items()})
        yield look


def unreadable_in_batches() -> Iterator[Action]:
    """A call in a batch on a row that can't be read, whose error the caller swallows: nothing of the batch is made."""
    yield create("bad", requester_origin=1)
    yield create("state", requester_origin=1)
    yield create("run")
    yield call("history.start", task_id="run", worker_id="w", run_id="bad")
    yield enqueue("bad")
    for table, key, column in (
        ("tasks", "bad", "created_at"), ("task_delivery_state", "state", "last_notified_event_at"),
        ("task_history", "bad", "started_at"), ("message_outbox", "bad", "queued_at"),
    ):  # fmt: skip
        yield call("spoiled_row", table=table, key=key, column=column, value="soon")
    for number, wrong in enumerate((
        call("tasks.start", task_id="bad"), call("tasks.set_delivery_state", task_id="state", requester_origin=2),
        call("history.finish", run_id="bad", status="failure"), call("outbox.ack", message_id="bad"),
    )):  # fmt: skip
        for after in ((), (call("tasks.list"),), (create(f"n{number}"),)):
            parts = {"calls": (enqueue(f"m{number}"),), "inner": (wrong,), "after": after}
            yield call("batch.nested", **{name: [within(one) for one in some] for name, some in parts.items()})


def refused_in_batches() -> Iterator[Action]:
    """Each refusal of a call in a batch, whose caller goes on: the call has written nothing, and the rest is made."""
    yield create("t", status="queued")
    yield call("history.start", task_id="t", worker_id="w", run_id="r")
    yield call("history.open_session", run_id="r", session_id="s")
    yield create("q")
    yield create("e")
    yield call("history.start", task_id="e", worker_id="w", run_id="ended")
    yield call("history.finish", run_id="ended", status="failure")
    yield enqueue("m", idempotency_key="k")
    start = {"task_id": "q", "worker_id": "w", "run_id": "new"}
    refused = (
        *(call("history.start", **{**start, **wrong}) for wrong in (
            {"run_id": "ended"}, {"task_id": "t"}, {"task_id": "nobody"}, {"worker_id": "pass-x"})),
        *(call("history.finish", run_id=one, status="success") for one in ("ended", "nobody")),
        call("history.open_session", run_id="ended", session_id="s2"),
        call("history.open_session", run_id="r", session_id=""),
        call("history.invalidate_session", session_id="nobody", reason="x"), enqueue("m", idempotency_key="l"),
        call("outbox.claim", message_id="m", worker_id="pass-x"), call("outbox.ack", message_id="nobody"),
        call("outbox.fail", message_id="nobody", error="x"), call("outbox.release", message_id="nobody", worker_id="w"),
        call("tasks.start", task_id="t"), call("tasks.finish", task_id="e", status="succeeded"),
        call("tasks.finish", task_id="q", status="running"), call("tasks.delete", task_id="nobody"),
        call("tasks.set_notify_policy", task_id="q", policy="loud"), create("u", ended_at=5),
        call("maintenance", apply=False), call("maintenance", apply=True),
        call("tasks.set_delivery_state", task_id="nobody", last_notified_event_at=5),
    )  # fmt: skip
    for number, wrong in enumerate(refused):
        parts = {"calls": [enqueue(f"m{number}")], "inner": [wrong], "after": [create(f"n{number}")]}
        yield call("batch.nested", **{name: [within(one) for one in some] for name, some in parts.items()})


def elsewhere() -> Iterator[Action]:
    """Another process changes data that this one has cached."""

    def there(one: Action) -> Action:
        return Action("elsewhere", {"call": within(one)})

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
        yield Action("overtaken", {"first": within(first), "then": within(then)})
    yield there(call("audit", later_ms=DAY_MS))


def overtaken_looks() -> Iterator[Action]:
    """Each kind of read is the first call of this process after another one has changed the rows."""
    keys: dict[str, Any] = {"run_id": "r", "runtime": "acp", "child_session_key": "c", "parent_flow_id": "f"}
    looks = (
        call("tasks.get", task_id="t"), call("tasks.get_delivery", task_id="t"), call("tasks.list"),
        call("tasks.list", status="queued"), call("tasks.list_for_owner", owner_key="main"),
        call("tasks.list_fresh_for_owner", owner_key="main"), call("tasks.list_by_run", run_id="r"),
        call("tasks.list_by_parent_flow", parent_flow_id="f"), call("tasks.list_for_session", session_key="c"),
        call("tasks.find", token="t"), call("tasks.find", token="r"), call("tasks.find", token="c"),  # noqa: S106
        call("audit"), batch(call("tasks.list_by_run", run_id="r")), batch(call("tasks.get_delivery", task_id="t")),
    )  # fmt: skip
    for look in looks:
        for first in (
            create("t", **keys, requester_origin={"a": 1}), call("tasks.finish", task_id="t", status="lost"),
            call("tasks.set_delivery_state", task_id="t", last_notified_event_at=7), call("tasks.delete", task_id="t"),
        ):  # fmt: skip
            yield Action("overtaken", {"first": within(first), "then": within(look)})
    for first, look in (
        (create("t"), call("tasks.find", token="t")),  # noqa: S106 - a task
        (call("history.start", task_id="t", worker_id="w", run_id="r"), call("history.find", token="t")),  # noqa: S106
        (call("history.open_session", run_id="r", session_id="s"), call("history.list_sessions", run_id="r")),
        (call("history.invalidate_session", session_id="s", reason="x"), call("history.get_session", session_id="s")),
        (call("history.finish", run_id="r", status="success"), call("history.running_workers")),
        (enqueue("m"), call("outbox.list")), (call("outbox.ack", message_id="m"), call("outbox.get", message_id="m")),
    ):  # fmt: skip
        yield Action("overtaken", {"first": within(first), "then": within(look)})


def overtaken_calls() -> Iterator[Action]:
    """Another process is slightly faster: it changes the row after this one's call has begun.

    A call is one transaction, so no other process can come before a second one.
    """
    for at in (1, 2):
        run, session = f"rw{at}", f"s{at}"
        if at > 1:
            # No other caller makes them.
            yield from (create(name, runtime="acp", task=name) for name in ("t", "v"))
            yield create("x")
            yield call("history.start", task_id="x", worker_id="w", run_id=run)
            yield from (enqueue("m", idempotency_key="other"), enqueue("o"))
        for first, then in (
            (create("t", run_id="r", runtime="acp"), create("t2", run_id="r", runtime="acp", label="l")),
            (call("tasks.finish", task_id="t", status="failed"), call("tasks.start", task_id="t")),
            (call("tasks.delete", task_id="t"), call("tasks.progress", task_id="t", text="x")),
            (create("u"), call("tasks.delete", task_id="u")),
            (create("v", runtime="acp"), call("tasks.cancel", task_id="v")),
            (call("tasks.finish", task_id="v", status="lost"), call("tasks.cancel", task_id="v")),
            (create("w"), call("history.start", task_id="w", worker_id="w", run_id=run)),
            (call("tasks.start", task_id="w"), call("history.start", task_id="w", worker_id="w", run_id=run)),
            (call("history.open_session", run_id=run, session_id=session),
             call("history.open_session", run_id=run, session_id=session)),
            (call("history.invalidate_session", session_id=session, reason="first"),
             call("history.invalidate_session", session_id=session, reason="second")),
            (call("history.finish", run_id=run, status="failure"), call("history.open_session", run_id=run)),
            (call("history.finish", run_id=run, status="success"),
             call("history.finish", run_id=run, status="failure")),
            (enqueue("m", idempotency_key="k"), enqueue("n", idempotency_key="k")),
            (call("outbox.claim", message_id="m", worker_id="w"), call("outbox.claim", message_id="m", worker_id="v")),
            (call("outbox.release", message_id="m", worker_id="w"), call("outbox.fail", message_id="m", error="e")),
            (call("outbox.ack", message_id="m"), call("outbox.fail", message_id="m", error="e")),
            (call("outbox.ack", message_id="n"), call("outbox.move_to_failed", message_id="n")),
            (call("outbox.prune", age_ms=1), call("outbox.prune", age_ms=1)),
            (enqueue("o"), call("outbox.prune", age_ms=1)),
            (call("tasks.progress_by_run", run_id="r", text="x"),
             call("tasks.finalize_by_run", run_id="r", status="succeeded")),
        ):  # fmt: skip
            yield Action("overtaken", {"first": within(first), "then": within(then), "at": at})
        for name in ("t", "t2", "u", "v", "w", "x"):
            yield call("tasks.delete", task_id=name)
        yield call("outbox.prune", age_ms=1, later_ms=DAY_MS)


def overtaken_updates() -> Iterator[Action]:
    """Another process changes a part of a row just before this one's call changes another part: neither is lost.

    A call on the tasks of a run is one transaction, too: nothing comes between two of them.
    """
    others = (
        call("tasks.progress", text="other"), call("tasks.set_delivery_state", requester_origin={"other": 1}),
    )  # fmt: skip
    for number, mine in enumerate((
        call("tasks.start"), call("tasks.finish", status="failed"), call("tasks.cancel"),
        call("tasks.set_notify_policy", policy="silent"), call("tasks.set_delivery_status", status="failed"),
        call("tasks.set_delivery_state", last_notified_event_at=7), call("tasks.delete"),
        call("history.start", worker_id="w"),
    )):  # fmt: skip
        for other in others:
            name = f"{other.name} {number}"
            yield create(name, runtime="acp", task=name)
            first, then = (Action(one.name, {"task_id": name, **one.args}) for one in (other, mine))
            yield Action("overtaken", {"first": within(first), "then": within(then), "at": 1})
    for both in (
        (create("same"), create("same", task="mine")),
        (enqueue("same", idempotency_key=None), enqueue("same", idempotency_key=None, target="me")),
    ):
        yield Action("overtaken", {**dict(zip(("first", "then"), map(within, both), strict=True)), "at": 1})
    looks = call("tasks.list"), call("tasks.list_for_owner", owner_key="main"), call("tasks.get", task_id="new")
    yield Action("overtaken", {"first": within(create("new")), "then": within(batch(*looks)), "at": 1})
    # The task of the same run, of which another process has just said where it came from, or that it has.
    for number, first in enumerate((call("tasks.set_delivery_state", requester_origin=1), call("tasks.delete"))):
        mine = create(f"again{number}", run_id=f"run{number}", requester_origin=2, task="once")
        yield Action("tasks.create", {**mine.args, "id": f"once{number}", "requester_origin": None})
        other = Action(first.name, {"task_id": f"once{number}", **first.args})
        yield Action("overtaken", {"first": within(other), "then": within(mine), "at": 1})
    for mine in (
        call("tasks.mark_running_by_run"), call("tasks.progress_by_run", text="mine"),
        call("tasks.finalize_by_run", status="failed"),
    ):  # fmt: skip
        run = mine.name
        for name in ("a", "b"):
            yield create(f"{name} {run}", run_id=run, task=name)
        of_run = Action(mine.name, {"run_id": run, **mine.args})
        for at, first in ((1, create(f"c {run}", run_id=run, task="c")), (2, call("tasks.delete", task_id=f"b {run}"))):
            yield Action("overtaken", {"first": within(first), "then": within(of_run), "at": at})


def overtaken_ends() -> Iterator[Action]:
    """Another process ends a run, or a message, or begins to send it, just before this one's call on the same."""

    def overtaken(number: int, what: str, name: str, first: Action, mine: Action) -> Action:
        both = (Action(one.name, {what: f"{name}{number}", **one.args}) for one in (first, mine))
        return Action("overtaken", {**dict(zip(("first", "then"), map(within, both), strict=True)), "at": 1})

    ends = call("history.finish", status="success", turns=3)
    for number, (first, mine) in enumerate((
        (ends, call("history.finish", status="failure")), (ends, call("history.finish", status="success")),
        (ends, call("history.finish", status="success", turns=4)), (ends, call("history.open_session")),
        (call("history.open_session", session_id="s"), call("history.finish", status="interrupted")),
        (call("history.open_session", session_id="s2"), call("history.open_session", session_id="s2")),
    )):  # fmt: skip
        yield create(f"r{number}")
        yield call("history.start", task_id=f"r{number}", worker_id="w", run_id=f"r{number}")
        yield overtaken(number, "run_id", "r", first, mine)
    calls = (
        call("outbox.ack"), call("outbox.fail", error="e"), call("outbox.claim", worker_id="v"),
        call("outbox.move_to_failed"), call("outbox.release", worker_id="w"),
    )  # fmt: skip
    for number, (first, mine) in enumerate(product(calls, calls)):
        yield enqueue(f"m{number}")
        if call("outbox.release", worker_id="w") in (first, mine):
            yield call("outbox.claim", message_id=f"m{number}", worker_id="w")
        yield overtaken(number, "message_id", "m", first, mine)
    # A message of the id, or of the key, of a file that has just been read; the same one, or another.
    old = {"channel": "mail", "to": "you"}
    for number, (name, target) in enumerate(product(("i", "other"), ("you", "me"))):
        content = {"id": f"i{number}", **old, "idempotencyKey": f"key-i{number}"}
        yield call("legacy_file", name="f.json", content=content)
        known = enqueue(f"{name}{number}", {**content, "to": target}, idempotency_key=f"key-i{number}")
        yield Action("overtaken", {"first": within(known), "then": within(call("outbox.import_legacy")), "at": 1})


def overtaken_passes() -> Iterator[Action]:
    """Another process changes a message that a pass has listed as due, before the pass leases it."""
    calls = (
        call("outbox.ack"), call("outbox.fail", error="e"), call("outbox.claim", worker_id="w"),
        call("outbox.move_to_failed"), call("outbox.fail", error="chat not found"),
    )  # fmt: skip
    for number, (first, (name, at)) in enumerate(product(calls, (("a", 1), ("b", 3)))):
        for one in ("a", "b"):
            yield enqueue(f"{one}{number}")
        meanwhile = Action(first.name, {"message_id": f"{name}{number}", **first.args})
        mine = call("outbox.recover", cutoff=None)
        yield Action("overtaken", {"first": within(meanwhile), "then": within(mine), "at": at})
        yield call("outbox.move_to_failed", message_id=f"{name}{number}")
    # It is too old, and another process begins to send it before this one's pass lets it expire.
    yield enqueue("old")
    begins, mine = call("outbox.claim", message_id="old", worker_id="w"), call("outbox.recover", cutoff=None)
    yield Action("overtaken", {"first": within(begins), "then": within(mine), "at": 1, "later_ms": DAY_MS})


SCRIPTS: Final = (
    batches, looks_in_batches, nested, unreadable_in_batches, refused_in_batches, elsewhere, overtaken_looks,
    overtaken_calls, overtaken_updates, overtaken_ends,
    overtaken_passes,
)  # fmt: skip
