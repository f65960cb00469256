"""Scripts of the outbox: each end of a message, each attempt, each age."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import (
    BLANK,
    DAY_MS,
    EARLIEST_MS,
    FAIL,
    LATEST_MS,
    MINUTE_MS,
    SECOND_MS,
    START_MS,
    batch,
    call,
    enqueue,
    later,
    within,
)
from tornpage.scenarios.targets.reference.workload import ARRIVES, FAILS, FAILS_FOR_GOOD, message_args


def queueing() -> Iterator[Action]:
    """Every field of a message, and invalid messages."""
    yield enqueue(" m ", turn_id=" t ", account_id=BLANK, dispatch_kind="final", channel=" c ", target=" t ")
    yield enqueue("m", idempotency_key="other")
    yield enqueue("m2", idempotency_key=" key- m  ")
    yield enqueue("m3", idempotency_key=BLANK)
    yield enqueue("m4", idempotency_key=BLANK)
    payloads: tuple[Any, ...] = (None, [], "text", 0, {"ä": [1.5, True, None]}, {"a": "\ud800"}, float("nan"))
    for number, payload in enumerate(payloads):
        yield Action("outbox.enqueue", {**message_args(f"p{number}", {}), "payload": payload})
    for wrong in ({"channel": BLANK}, {"target": ""}, {"message_id": " "}, {"channel": 5}, {"turn_id": 5}):
        yield enqueue("w", **wrong)
    yield call("outbox.ack", message_id="m")
    yield enqueue("m5", idempotency_key="key- m ")
    yield call("outbox.list", status="delivered")
    yield call("outbox.list", status="gone")
    yield call("outbox.list", channel=" c ")
    yield call("outbox.list", channel="mail", status="queued")
    yield call("outbox.get", message_id="m")
    yield call("outbox.get", message_id="nobody")
    yield call("outbox.quarantined")


def _ended(end: str) -> tuple[Action, ...]:
    """The ways in which a message m reaches that end."""
    return {
        "queued": (),
        "failed_retryable": (call("outbox.fail", message_id="m", **FAIL),),
        "delivered": (call("outbox.ack", message_id="m"),),
        "failed_terminal": (call("outbox.move_to_failed", message_id="m", reason=" r "),),
        "expired": (call("outbox.recover", cutoff=None, later_ms=31 * MINUTE_MS),),
        "leased": (call("outbox.claim", message_id="m", worker_id="w"),),
    }[end]


def endings() -> Iterator[Action]:
    """Every call on a message, in each of its states."""
    calls = (
        call("outbox.ack", message_id="m"), call("outbox.fail", message_id="m", **FAIL),
        call("outbox.fail", message_id="m", worker_id="w", **FAIL), call("outbox.fail", message_id="m", error=BLANK),
        call("outbox.move_to_failed", message_id="m"), call("outbox.move_to_failed", message_id="m", worker_id="w"),
        call("outbox.move_to_failed", message_id="m", reason="why"),
        call("outbox.claim", message_id="m", worker_id="w"), call("outbox.claim", message_id="m", worker_id="v"),
        call("outbox.release", message_id="m", worker_id="w"), call("outbox.release", message_id="m", worker_id="v"),
        call("outbox.recover", cutoff=None),
    )  # fmt: skip
    for end in ("queued", "failed_retryable", "delivered", "failed_terminal", "expired", "leased"):
        for one in calls:
            yield enqueue("m")
            yield from _ended(end)
            yield one
            yield one
            yield call("outbox.move_to_failed", message_id="m", worker_id="w")
            yield call("outbox.prune", age_ms=1, later_ms=MINUTE_MS)
    for one in calls:
        yield Action(one.name, {**one.args, **({"message_id": "nobody"} if "message_id" in one.args else {})})
    yield enqueue("m")
    yield call("outbox.claim", message_id="m", worker_id="pass-dead")
    yield call("outbox.claim", message_id=5, worker_id="w")


def retries() -> Iterator[Action]:
    """All attempts of a message, each due to the millisecond."""
    yield enqueue("m", FAILS)
    step = 1
    for wait_ms in (5 * SECOND_MS, 25 * SECOND_MS, 2 * MINUTE_MS, 10 * MINUTE_MS):
        yield call("outbox.fail", message_id="m", **FAIL)
        step += 1
        yield call("outbox.recover", cutoff=None, later_ms=later(step, wait_ms - 1, step + 1))
        step += 1
    yield enqueue("n", FAILS)
    for wait_ms in (0, 5 * SECOND_MS, 25 * SECOND_MS, 2 * MINUTE_MS, 10 * MINUTE_MS, 10 * MINUTE_MS):
        yield call("outbox.recover", cutoff=None, later_ms=wait_ms, max_age_ms=DAY_MS)
    yield call("outbox.fail", message_id="m", **FAIL)
    yield call("outbox.fail", message_id="m", **FAIL)
    yield call("outbox.claim", message_id="m", worker_id="w")
    yield enqueue("o", FAILS)
    yield call("outbox.recover", cutoff=None, later_ms=-DAY_MS)
    # By a clock that is set back: before the last attempt, to it, and before it was queued.
    for number, later_ms in enumerate((-1, 0, 1, -20 * MINUTE_MS, -DAY_MS)):
        yield enqueue(f"p{number}", FAILS)
        for _ in range(2):
            yield call("outbox.fail", message_id=f"p{number}", later_ms=10 * MINUTE_MS, **FAIL)
        yield call("outbox.recover", cutoff=None, later_ms=9 * MINUTE_MS + later_ms)


def permanent() -> Iterator[Action]:
    """Each text that marks a failure as permanent, and some that don't."""
    texts = (
        "No Conversation Reference Found!", "xx CHAT NOT FOUND", "User not found", "bot was blocked by the user",
        "Forbidden: bot was kicked", "chat_id is empty", "recipient is not a valid address",
        "outbound not configured for channel: x", "bot was blocked", "forbidden", "chat not  found",
    )  # fmt: skip
    for number, text in enumerate(texts):
        yield enqueue(f"m{number}", {"error": text})
        yield enqueue(f"n{number}")
        yield call("outbox.fail", message_id=f"n{number}", error=text)
    yield call("outbox.recover", cutoff=None)
    # Each text of the specification by itself, a sign short at either end, and in a longer one.
    for number, text in enumerate((
        "no conversation reference found", "chat not found", "user not found", "bot was blocked by the user",
        "forbidden: bot was kicked", "chat_id is empty", "recipient is not a valid",
        "outbound not configured for channel",
    )):  # fmt: skip
        for kind, error in enumerate((text, text[:-1], text[1:], f"x{text}x")):
            yield enqueue(f"e{number}{kind}")
            yield call("outbox.fail", message_id=f"e{number}{kind}", error=error)
    for number, permanent in enumerate((True, False, None)):
        for text in ("chat not found", "reset"):
            name = f"p{number}{text[0]}"
            yield enqueue(name, {"error": text, "permanent": permanent})
            yield enqueue(f"{name}x")
            yield call("outbox.fail", message_id=f"{name}x", error=text, permanent=permanent)
    for number, word in enumerate((True, False, None, 0, 1, "", "no", [0])):
        for text in ("chat not found", "reset"):
            for way in ("error", "raises"):
                yield enqueue(f"w{number}{text[0]}{way[0]}", {way: text, "permanent": word})
    yield call("outbox.recover", cutoff=None)


def passes() -> Iterator[Action]:
    """A pass over messages that are due, not due, leased, damaged and behind a cutoff."""
    for name, payload in (("a", FAILS), ("b", ARRIVES), ("c", FAILS_FOR_GOOD), ("d", ARRIVES), ("e", "text")):
        yield enqueue(name, payload)
    yield call("outbox.fail", message_id="a", **FAIL)
    yield call("damaged_payload", message_id="b")
    yield call("outbox.claim", message_id="d", worker_id="w")
    yield call("outbox.recover", cutoff=None, budget_ms=0)
    for wrong in ({"budget_ms": -1}, {"budget_ms": float("inf")}, {"max_age_ms": 0}, {"cutoff": 1.5}):
        yield Action("outbox.recover", {"cutoff": None, **wrong})
    yield call("outbox.recover", cutoff=START_MS)
    yield call("outbox.recover", cutoff=START_MS + 1)
    yield call("outbox.recover", cutoff=START_MS + 2 * MINUTE_MS)
    yield call("outbox.recover", cutoff=START_MS + 2 * MINUTE_MS + 1)
    yield call("outbox.recover", cutoff=None)
    yield call("outbox.release", message_id="d", worker_id="w")
    yield call("outbox.recover", cutoff=None)
    yield call("batch", calls=[{"name": "outbox.recover", "args": {"cutoff": None}}])
    # Neither due nor before the cutoff: it is skipped for the cutoff, which is looked at first.
    yield enqueue("next", FAILS)
    yield call("outbox.fail", message_id="next", **FAIL)
    yield call("outbox.recover", cutoff=START_MS, later_ms=1 - MINUTE_MS)
    yield call("outbox.move_to_failed", message_id="next")
    yield enqueue("late", later_ms=DAY_MS)
    yield enqueue("early", later_ms=-MINUTE_MS)
    yield call("outbox.recover", cutoff=None)


def ages() -> Iterator[Action]:
    """Expired ages, to the millisecond; a message being sent does not expire."""
    step = 1
    for offset in (-1, 0, 1):
        yield enqueue(f"m{offset}", FAILS)
        yield call("outbox.recover", cutoff=None, later_ms=later(step, 30 * MINUTE_MS + offset, step + 1))
        yield enqueue(f"n{offset}", FAILS)
        yield call("outbox.recover", cutoff=None, max_age_ms=500, later_ms=later(step + 2, 500 + offset, step + 3))
        step += 4
    yield enqueue("leased")
    yield call("outbox.claim", message_id="leased", worker_id="w")
    yield call("outbox.recover", cutoff=None, later_ms=DAY_MS)
    yield enqueue("reason")
    yield call("outbox.recover", cutoff=0, later_ms=DAY_MS)


def pruning() -> Iterator[Action]:
    """Ages for pruning, to the millisecond; a pending message is never pruned."""
    step = 1
    for offset in (-1, 0, 1):
        yield enqueue(f"m{offset}")
        yield call("outbox.ack", message_id=f"m{offset}")
        yield call("outbox.prune", age_ms=1_000, later_ms=later(step + 1, 1_000 + offset, step + 2))
        step += 3
    # Another message of the same id, in the same transaction.
    yield enqueue("same")
    yield call("outbox.ack", message_id="same")
    yield batch(call("outbox.prune", age_ms=1), enqueue("same", target="another"))
    step += 3
    # An age between two milliseconds.
    for number, age_ms in enumerate((1_000.5, 999.5, 1_000.0)):
        yield enqueue(f"h{number}")
        yield call("outbox.ack", message_id=f"h{number}")
        yield call("outbox.prune", age_ms=age_ms, later_ms=later(step + 1, 1_000, step + 2))
        step += 3
    for number in range(4):
        yield enqueue(f"n{number}")
    # They end in another order than they came.
    for number in (2, 0, 3, 1):
        yield call("outbox.move_to_failed", message_id=f"n{number}")
    yield call("outbox.move_to_failed", message_id="n1", reason=5)
    yield enqueue("pending")
    for age in (0, -1, float("nan"), float("inf"), True, "1"):
        yield call("outbox.prune", age_ms=age)
    for limit in (0, -1, "1", 1.5, True):
        yield call("outbox.prune", age_ms=1, limit=limit)
    yield call("outbox.prune", age_ms=1, limit=2)
    yield call("outbox.prune", age_ms=1.5, limit=2**63)
    yield call("outbox.prune", age_ms=1, later_ms=100 * DAY_MS)


def import_files() -> Iterator[Action]:
    """Files of the old queue: valid, bad, known, changed, and come back."""
    yield call("outbox.import_legacy")
    base = {"channel": "mail", "to": "you"}
    files: list[Any] = [
        {"id": "a", **base}, {"id": " b ", **base, "retryCount": 2, "lastAttemptAt": START_MS, "lastError": "e"},
        {"id": "c", **base, "retryCount": -1, "accountId": " bot ", "lastError": "e", "lastAttemptAt": 7},
        {"id": "d", **base, "retryCount": 1e300}, {"id": "e", **base, "to": " "},
        {"id": "f", **base, "retryCount": 1.5, "enqueuedAt": 5}, {"id": "g", **base, "retryCount": "2"},
        {"id": "h", **base, "retryCount": True, "lastError": 5}, {"id": 5, **base}, [], "text", {},
        {"id": "i", **base, "retryCount": 3.0, "lastAttemptAt": 9, "turnId": " t ", "accountId": 5},
        {"id": "j", **base, "retryCount": 9, "idempotencyKey": "k", "more": [1]},
        {"id": "k", **base, "retryCount": 5}, {"id": "l", **base, "enqueuedAt": None, "lastAttemptAt": "x"},
        *({"id": f"n{count}", **base, "retryCount": count} for count in (999_999, 1_000_000, 1_000_001)),
    ]  # fmt: skip
    for number, content in enumerate(files):
        yield call("legacy_file", name=f"f{number:02}.json", content=content)
    for name in ("other.txt", "other.JSON", "other.json5", "other.json.new", ".json"):
        yield call("legacy_file", name=name, content={"id": name, **base})
    yield enqueue("e2", idempotency_key="k")
    yield call("outbox.import_legacy")
    yield call("outbox.ack", message_id="a")
    yield call("outbox.prune", age_ms=1, later_ms=MINUTE_MS)
    for content in ({"id": "a", **base}, {"id": "a", **base, "to": "me"}, {"id": "c", **base, "text": "other"}):
        yield call("legacy_file", name="again.json", content=content)
        yield call("outbox.import_legacy")
    yield call("outbox.recover", cutoff=None, later_ms=DAY_MS, max_age_ms=100_000 * DAY_MS)
    yield call("batch", calls=[{"name": "outbox.import_legacy", "args": {}}])
    yield call("memory.import_legacy")


def odd_files() -> Iterator[Action]:
    """Other files beside those of the old queue, or too large ones, stay and are reported."""
    for kind in ("text", "bytes", "bytes in a text", "large", "too large", "link", "directory", "fifo"):
        content = {"id": kind, "channel": "mail", "to": "you"}
        yield call("legacy_file", name=f"{kind}.json", content=content, kind=kind)
    yield call("outbox.import_legacy")
    yield call("outbox.import_legacy")


def changing_files() -> Iterator[Action]:
    """A file that is replaced while it is imported, and one in the directory of abandoned messages."""
    old = {"id": "a", "channel": "mail", "to": "you"}
    yield call("legacy_file", name="below.json", content={**old, "id": "below"}, kind="below")
    yield call("legacy_file", name="a.json", content=old)
    yield call("outbox.import_legacy", changes={"name": "a.json", "content": {**old, "id": "b", "text": "another"}})
    yield call("outbox.import_legacy")
    # The same size, and written later in the same second.
    yield call("legacy_file", name="s.json", content={**old, "id": "s"})
    changed = {"name": "s.json", "content": {**old, "id": "r"}, "kind": "later"}
    yield call("outbox.import_legacy", changes=changed)
    # Another file, of the same size and time; before it is read, while it is imported, and when it has been.
    for first, replaced in (("h", "i"), ("h", "h"), ("i", "h")):
        for name in sorted({first, replaced}):
            yield call("legacy_file", name=f"{name}.json", content={**old, "id": f"{first}{replaced}-{name}"})
        changed = {"name": f"{replaced}.json", "content": {**old, "id": f"n{first}{replaced}"}, "kind": "another"}
        yield call("outbox.import_legacy", changes=changed)
        yield call("outbox.import_legacy")
    # The same message, its fields in another order.
    for order in (("id", "channel", "to"), ("to", "channel", "id")):
        yield call("legacy_file", name="o.json", content={name: {**old, "id": "o"}[name] for name in order})
        yield call("outbox.import_legacy")
    yield call("legacy_file", name="t.json", content={**old, "id": "t", "retryCount": 1, "lastAttemptAt": -5})
    yield call("legacy_file", name="u.json", content={**old, "id": "u", "enqueuedAt": -7})
    yield call("outbox.import_legacy")
    # Each time and count that a file may have, or may not.
    odd = (0, 1, -1, EARLIEST_MS, EARLIEST_MS - 1, LATEST_MS, LATEST_MS + 1, 5.0, 5.5, True, "5", [5])
    for number, (key, value) in enumerate(product(("enqueuedAt", "lastAttemptAt", "retryCount"), odd)):
        content = {**old, "id": f"odd{number}", "retryCount": number % 3, key: value}
        yield call("legacy_file", name=f"odd{number}.json", content=content)
    names = ("lastError", "turnId", "accountId", "idempotencyKey")
    for number, (key, text) in enumerate(product(names, (" x\n", "", " \t", 5, ["x"]))):
        content = {**old, "id": f"text{number}", "retryCount": 1, key: f"{text}{number}" if text == " x\n" else text}
        yield call("legacy_file", name=f"text{number}.json", content=content)
    yield call("outbox.import_legacy")
    yield call("outbox.recover", cutoff=None, max_age_ms=10 * DAY_MS)
    for name in ("z", "m", "y", "c", "x"):
        yield call("legacy_file", name=f"{name}.json", content={**old, "id": name, "enqueuedAt": 5})
    yield call("outbox.import_legacy")
    yield call("outbox.list")
    # The message there can't be parsed: the file may be its only whole copy.
    yield enqueue("dp", {"channel": "mail", "to": "you"})
    yield call("damaged_payload", message_id="dp")
    for name, key in (("dp", ""), ("dk", "key-dp")):
        yield call("legacy_file", name=f"{name}.json", content={**old, "id": name, "idempotencyKey": key})
        yield call("outbox.import_legacy")
    # Queued by a call, and in a file as well.
    yield enqueue("q", {"channel": "mail", "to": "you"})
    for text in ({}, {"text": "another"}):
        yield call("legacy_file", name="q.json", content={**old, "id": "q", **text})
        yield call("outbox.import_legacy")


def imports_in_turns() -> Iterator[Action]:
    """Two processes import in turns; a pruned message of one of them is known to the other one."""
    elsewhere = call("elsewhere", call={"name": "outbox.import_legacy", "args": {}})
    old = {"channel": "mail", "to": "you"}
    for name, importing in (("a", elsewhere), ("b", call("outbox.import_legacy")), ("c", elsewhere)):
        yield call("legacy_file", name="f.json", content={"id": name, **old})
        yield importing
        yield call("outbox.ack", message_id=name)
    yield call("outbox.prune", age_ms=1, later_ms=DAY_MS)
    for name in ("a", "b", "c"):
        for text in ({"text": "another"}, {}):
            yield call("legacy_file", name="f.json", content={"id": name, **old, **text})
            yield elsewhere
    # Nothing that tidies up forgets an import, however long ago it was.
    years_ms = 4_000 * DAY_MS
    for tidies in (
        call("maintenance", later_ms=years_ms), call("recover", later_ms=years_ms), call("tasks.restore"),
        call("outbox.prune", age_ms=1, later_ms=years_ms), call("outbox.recover", cutoff=None, later_ms=years_ms),
    ):  # fmt: skip
        yield tidies
        yield call("legacy_file", name="f.json", content={"id": "a", **old})
        yield call("outbox.import_legacy")


def slow_receivers() -> Iterator[Action]:
    """The clock advances, or jumps back, while a receiver works; beyond the budget the rest stays unchanged."""
    for budget_ms in (1, 40_000, 60_000, 120_000, 120_001):
        for takes_ms in (60_000, -DAY_MS, 59_999):
            for number in range(4):
                yield enqueue(f"m{number}", {"takes_ms": takes_ms if number % 2 else 20_000})
            yield enqueue("fails", {"takes_ms": 7, "error": "reset"})
            yield call("outbox.recover", cutoff=None, budget_ms=budget_ms)
            yield call("outbox.recover", cutoff=None, later_ms=DAY_MS, max_age_ms=9 * DAY_MS)
            for name in ("m0", "m1", "m2", "m3", "fails"):
                yield call("outbox.move_to_failed", message_id=name)
            yield call("outbox.prune", age_ms=1, later_ms=90 * DAY_MS)
    # The time is spent before the first delivery.
    for looks_ms in (999, 1_000, -DAY_MS):
        for number in range(2):
            yield enqueue(f"l{number}", {"takes_ms": 1})
        yield call("outbox.recover", cutoff=None, budget_ms=1_000, looks_ms=looks_ms)
        yield call("outbox.recover", cutoff=None, looks_ms=1)


def ending_receivers() -> Iterator[Action]:
    """A receiver that ends the process: its message is free again, and what was sent before it stays so."""
    for name, payload in (("a", ARRIVES), ("b", {"exits": True}), ("c", ARRIVES), ("d", {"raises": "x", "odd": True})):
        yield enqueue(name, payload)
    yield call("outbox.fail", message_id="b", **FAIL)
    yield call("outbox.recover", cutoff=None)
    yield call("outbox.recover", cutoff=None)
    yield call("outbox.move_to_failed", message_id="b")
    yield call("outbox.recover", cutoff=None)
    # While the first one is delivered the clock is set back: the second one is no longer due.
    yield enqueue("e", {"takes_ms": -57_000})
    yield enqueue("f")
    yield call("outbox.fail", message_id="f", **FAIL)
    yield call("outbox.recover", cutoff=None)
    yield call("outbox.list")


def spoiled_messages() -> Iterator[Action]:
    """A message that can't be read is reported and left alone, and the others are sent."""
    for number, (column, value) in enumerate((("queued_at", "soon"), ("attempt_count", "x"), ("error_class", "odd"))):
        name = f"bad{number}"
        for one in (name, f"a{number}"):
            yield enqueue(one)
        yield call("spoiled_row", table="message_outbox", key=name, column=column, value=value)
        yield call("outbox.list")
        yield call("outbox.read")
        yield call("outbox.quarantined")
        yield call("outbox.get", message_id=name)
        yield enqueue(name, idempotency_key="other")
        # The key of the one that can't be read, of a call, in a batch, of another process and in a file.
        again = enqueue("again", idempotency_key=f"key-{name}")
        yield from (again, batch(enqueue("before"), again), call("elsewhere", call=within(again)))
        keyed = {"id": "again", "channel": "mail", "to": "you", "idempotencyKey": f" key-{name} "}
        yield call("legacy_file", name=f"key{number}.json", content=keyed)
        yield call("outbox.import_legacy")
        for method, more in (
            ("ack", {}), ("fail", FAIL), ("move_to_failed", {}), ("claim", {"worker_id": "w"}),
            ("release", {"worker_id": "w"}),
        ):  # fmt: skip
            yield call(f"outbox.{method}", message_id=name, **more)
        yield call("outbox.recover", cutoff=None)
        yield call("outbox.recover", cutoff=None, later_ms=DAY_MS)
    # A message of that id, in a file: it is not known to be the one that can't be read.
    yield call("legacy_file", name="bad.json", content={"id": "bad0", "channel": "mail", "to": "you"})
    yield call("outbox.import_legacy")
    yield call("outbox.prune", age_ms=1, later_ms=DAY_MS)
    # One that was imported, and whose file comes back.
    old = {"id": "old", "channel": "mail", "to": "you"}
    for spoils in (
        call("spoiled_row", table="message_outbox", key="old", column="queued_at", value="soon"),
        call("spoiled_row", table="outbox_imports", key="old", column="imported_at", value="soon"),
    ):  # fmt: skip
        for name in ("old", "other"):
            yield call("legacy_file", name=f"{name}.json", content={**old, "id": name})
        yield call("outbox.import_legacy")
        yield spoils
    for name in ("old", "other"):
        yield call("legacy_file", name=f"{name}.json", content={**old, "id": name})
    yield call("outbox.import_legacy")


SCRIPTS: Final = (
    changing_files,
    imports_in_turns,
    slow_receivers,
    ending_receivers,
    spoiled_messages,
    odd_files,
    queueing,
    endings,
    retries,
    permanent,
    passes,
    ages,
    pruning,
    import_files,
)
