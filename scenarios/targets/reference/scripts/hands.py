"""Scripts of rows by another's hand: ones that the ledger itself would not have written, readable or not."""

from collections.abc import Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import DAY_MS, FAIL, as_json, call, enqueue


def _written(table: str, key: str, **columns: Any) -> Iterator[Action]:
    for column, value in columns.items():
        yield call("spoiled_row", table=table, key=key, column=column, value=value)


# No pass of this name runs: its worker is dead.
_DEAD: Final = "pass-of-another"


def dead_senders() -> Iterator[Action]:
    """Every call on a message whose sender has died, before and after its last attempt; a reason stays."""
    calls = (
        call("outbox.claim", message_id="m", worker_id="w"), call("outbox.ack", message_id="m"),
        call("outbox.fail", message_id="m", **FAIL), call("outbox.fail", message_id="m", worker_id=_DEAD, **FAIL),
        call("outbox.move_to_failed", message_id="m"), call("outbox.release", message_id="m", worker_id=_DEAD),
        call("outbox.recover", cutoff=None), call("outbox.recover", cutoff=None, later_ms=DAY_MS),
    )  # fmt: skip
    dead = {"leased_by": _DEAD, "terminal_reason": "earlier"}
    rows: tuple[dict[str, Any], ...] = (
        {"attempt_count": 0, **dead}, {"attempt_count": 4, **dead}, {"attempt_count": 5},
    )  # fmt: skip
    for number, columns in enumerate(rows):
        for one in calls:
            name = f"m{number}{calls.index(one)}"
            yield enqueue(name)
            yield from _written("message_outbox", name, **columns)
            meant = {"message_id": name} if "message_id" in one.args else {}
            yield Action(one.name, {**one.args, **meant})
            yield call("outbox.move_to_failed", message_id=name, worker_id="w")


def odd_payloads() -> Iterator[Action]:
    """Payloads that are no JSON, or none that Python can read: each fails alone, and is shown as it is."""
    for number, text in enumerate(("{", "NaN", "[1, Infinity]", "1e999", "", "nul", "[" * 100_000, "5 6")):
        name = f"m{number}"
        yield enqueue(name)
        yield enqueue(f"n{number}")
        yield from _written("message_outbox", name, payload=text)
        yield call("outbox.get", message_id=name)
        if text in ("{", "NaN"):
            for command in (["show", name], ["list"]):
                means = call("outbox.get", message_id=name) if command[0] == "show" else call("outbox.list")
                yield as_json(means, "outbox", *command)
        yield call("outbox.recover", cutoff=None)
        yield call("outbox.prune", age_ms=1, later_ms=DAY_MS)
    yield enqueue("bytes")
    yield from _written("message_outbox", "bytes", payload={"hex": "7b22ff"})
    yield from (
        call("outbox.get", message_id="bytes"), call("outbox.claim", message_id="bytes", worker_id="w"),
        call("outbox.release", message_id="bytes", worker_id="w"), call("outbox.recover", cutoff=None),
    )  # fmt: skip


SCRIPTS: Final = (dead_senders, odd_payloads)
