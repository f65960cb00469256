"""The outbox (§5)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.lookups import by_queue_time
from tornpage.scenarios.targets.reference.model.state import Outcome, Row, State
from tornpage.scenarios.targets.reference.model.values import (
    PENDING,
    JsonText,
    Refusal,
    Text,
    a_span,
    a_time,
    a_worker_id,
    an_id,
    as_json,
    given,
    json_value,
    the_time,
    trimmed,
)
from tornpage.scenarios.targets.reference.model.world import World

_MINUTE_MS: Final = 60_000
BACKOFF_MS: Final = (5_000, 25_000, 2 * _MINUTE_MS, 10 * _MINUTE_MS)
_MOST_ATTEMPTS: Final = 5
_PERMANENT: Final = (
    "no conversation reference found", "chat not found", "user not found", "bot was blocked by the user",
    "forbidden: bot was kicked", "chat_id is empty", "recipient is not a valid", "outbound not configured for channel",
)  # fmt: skip


def new_message(now_ms: int, message_id: Any, channel: Any, target: Any, payload: Any, **fields: Any) -> Row:
    """§5, enqueue: queued, and due at once; the keys are trimmed."""
    name, where, to = trimmed(message_id), trimmed(channel), trimmed(target)
    if name is None or where is None or to is None:
        raise Refusal("UsageError")
    texts = {key: trimmed(fields.get(key)) for key in ("turn_id", "account_id", "dispatch_kind", "idempotency_key")}
    return {
        "id": name, "channel": where, "target": to, "payload": JsonText(json_value(payload)), **texts,
        "queued_at": now_ms, "status": "queued", "attempt_count": 0, "next_attempt_at": now_ms,
        "last_attempt_at": None, "last_error": None, "error_class": None, "delivered_at": None, "completed_at": None,
        "terminal_reason": None, "leased_by": None,
    }  # fmt: skip


def enqueue(
    world: World, state: State, *, channel: Any, target: Any, payload: Any, message_id: Any = None, **fields: Any
) -> Outcome:
    """§5: queued, next_attempt_at = now; the same idempotency key again returns the existing row, changing nothing."""
    row = new_message(
        the_time(world.now_ms), world.new_id if message_id is None else message_id, channel, target, payload, **fields
    )
    key = row["idempotency_key"]
    if key in world.unreadable_keys.values():
        # Not in the specification: whether it is the same message is unknown.
        raise Refusal("Unreadable")
    for known in state.message.values():
        if key is not None and known["idempotency_key"] == key:
            return Outcome(state, known)
    if row["id"] in (*state.message, *state.unreadable.get("message_outbox", ())):
        raise Refusal("UsageError")
    return Outcome(state.put("message", row["id"], row), row)


# -- one message -----------------------------------------------------------------------------------------------


def _result(state: State, message: Row, changed: Row | None) -> Outcome:
    """The answer of a call on one message; None: it changes nothing, and reports why."""
    if changed is None:
        return Outcome(state, {"changed": False, "message": message, "reason": Text()})
    answer = {"changed": True, "message": changed, "reason": None}
    return Outcome(state.put("message", message["id"], changed), answer)


def _existing(state: State, message_id: Any) -> Row:
    row = state.message.get(an_id(message_id))
    if row is None:
        raise Refusal("Unreadable" if message_id in state.unreadable.get("message_outbox", ()) else "NotFound")
    return row


def _is_sent_by_another(world: World, message: Row, worker_id: Any) -> bool:
    """§5, claim: a pending row is leased to one worker and falls free when that worker dies."""
    holder = message["leased_by"]
    return holder is not None and holder != worker_id and world.is_alive(holder)


def _ended(message: Row, now_ms: int, status: str, reason: Any) -> Row:
    patch = {"status": status, "completed_at": now_ms, "terminal_reason": reason, "next_attempt_at": None}
    return {**message, **patch, "leased_by": None}


def _one_more(message: Row) -> int:
    """Not in the specification: a row that was edited by hand may have as many as SQLite can store."""
    return int(min(message["attempt_count"] + 1, 2**63 - 1))


def _taken_over(message: Row, now_ms: int) -> Row:
    """Not in the specification: the attempt that a dead sender had begun counts, and delays nothing."""
    if message["leased_by"] is None:
        return message
    return {
        **message, "status": "failed_retryable", "attempt_count": _one_more(message),
        "last_attempt_at": the_time(now_ms), "last_error": Text(message["leased_by"]), "error_class": "transient",
        "leased_by": None,
    }  # fmt: skip


def claim(world: World, state: State, message_id: Any, worker_id: Any) -> Outcome:
    """§5: leases a pending row that no living worker has; a lease of the same worker is not a second one."""
    if not world.is_alive(worker_id):
        raise Refusal("UsageError")
    message = _existing(state, message_id)
    if message["status"] not in PENDING or _is_sent_by_another(world, message, None):
        return _result(state, message, None)
    free = _taken_over(message, world.now_ms)
    if free["attempt_count"] >= _MOST_ATTEMPTS:
        return _result(state, message, None)
    return _result(state, message, {**free, "leased_by": worker_id})


def release(_world: World, state: State, message_id: Any, worker_id: Any) -> Outcome:
    """Not in the specification: returns a lease, without an attempt."""
    an_id(worker_id)
    message = _existing(state, message_id)
    is_held = message["status"] in PENDING and message["leased_by"] == worker_id
    return _result(state, message, {**message, "leased_by": None} if is_held else None)


def _delivered(message: Row, now_ms: int) -> Row:
    return {**_ended(message, now_ms, "delivered", message["terminal_reason"]), "delivered_at": now_ms}


def ack(world: World, state: State, message_id: Any) -> Outcome:
    """§5: pending → delivered; on a terminal row a no-op that reports so."""
    message = _existing(state, message_id)
    return _result(
        state, message, _delivered(message, the_time(world.now_ms)) if message["status"] in PENDING else None
    )


def _failed(message: Row, now_ms: int, error: Any, *, permanent: bool) -> Row:
    """§5, fail: the attempt counts always; permanent, or the 5th → failed_terminal; else the backoff."""
    attempts = _one_more(message)
    tried = {
        **message, "attempt_count": attempts, "last_attempt_at": now_ms, "last_error": error,
        "error_class": "permanent" if permanent else "transient", "leased_by": None,
    }  # fmt: skip
    if permanent or attempts >= _MOST_ATTEMPTS:
        return _ended(tried, now_ms, "failed_terminal", Text(error) if isinstance(error, str) else error)
    return {**tried, "status": "failed_retryable", "next_attempt_at": now_ms + BACKOFF_MS[attempts - 1]}


def is_permanent(error: str) -> bool:
    """§5: case-insensitive."""
    return any(one in error.lower() for one in _PERMANENT)


def fail(
    world: World, state: State, message_id: Any, error: Any, *, permanent: bool | None = None, worker_id: Any = None
) -> Outcome:
    """§5: pending rows only; and only the sending worker can report it."""
    text = given(error) or "no reason given"
    given(worker_id)
    message = _existing(state, message_id)
    if message["status"] not in PENDING or _is_sent_by_another(world, message, worker_id):
        return _result(state, message, None)
    hopeless = is_permanent(text) if permanent is None else permanent
    return _result(state, message, _failed(message, the_time(world.now_ms), text, permanent=hopeless))


def move_to_failed(
    world: World, state: State, message_id: Any, reason: Any = None, *, worker_id: Any = None
) -> Outcome:
    """§5: pending only, keeps an existing reason."""
    why = given(reason) or Text()
    given(worker_id)
    message = _existing(state, message_id)
    if message["status"] not in PENDING or _is_sent_by_another(world, message, worker_id):
        return _result(state, message, None)
    reason = message["terminal_reason"] or why
    return _result(state, message, _ended(message, the_time(world.now_ms), "failed_terminal", reason))


def prune(world: World, state: State, age_ms: Any, *, limit: Any = None) -> Outcome:
    """§5: terminal rows older than age; age ≤ 0 or not finite is a usage error. The answer is how many."""
    before = the_time(world.now_ms) - a_span(age_ms)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise Refusal("UsageError")
    old = [
        name for name, row in state.message.items() if row["status"] not in PENDING and row["completed_at"] < before
    ][:limit]
    for name in old:
        state = state.drop("message", name)
    return Outcome(state, len(old))


# -- a pass ----------------------------------------------------------------------------------------------------


def _is_due(message: Row, now_ms: int) -> bool:
    """§5: its time has come; not in the specification: also if the clock has jumped back before its last change."""
    due = message["next_attempt_at"]
    last = message["last_attempt_at"] if message["last_attempt_at"] is not None else message["queued_at"]
    return due is None or now_ms >= due or now_ms < last


def recover(
    world: World,
    state: State,
    *,
    cutoff: Any = None,
    budget_ms: Any = 60_000,
    max_age_ms: Any = 30 * _MINUTE_MS,
    worker_id: Any = None,
    looks_ms: int = 0,
) -> Outcome:
    """§5, recover: expire what is too old, then due rows by queued_at; one that isn't due never stops the pass.

    The clock advances while a receiver works, and by `looks_ms` when the pass has just begun; beyond the budget the
    rest stays unchanged. A clock that jumps back uses none of it. All unreadable rows are counted, and each has one
    line in the log, so a script damages only rows that are due.
    """
    if worker_id is not None:
        a_worker_id(worker_id)
    budget, limit, oldest = a_span(budget_ms, zero=True), a_time(cutoff), a_span(max_age_ms)
    counts = dict.fromkeys(
        ("recovered", "failed", "expired", "deferred", "over_budget", "skipped_cutoff", "leased", "unreadable"), 0
    )
    world = replace(world, now_ms=world.now_ms + looks_ms)
    the_time(world.now_ms)
    state = _expire(world, state, oldest, counts)
    waiting = by_queue_time(one for one in state.message.values() if one["status"] in PENDING)
    in_scope = [one for one in waiting if limit is None or one["queued_at"] < limit]
    due = [one for one in in_scope if _is_due(one, world.now_ms)]
    counts["skipped_cutoff"] = len(waiting) - len(in_scope)
    counts["deferred"] = len(in_scope) - len(due)
    unreadable = sorted(state.unreadable.get("message_outbox", ()))
    counts["unreadable"] = len(unreadable)
    lines = tuple(Text(f"[outbox] message {name} ") for name in unreadable)
    sent: list[Row] = []
    spent_ms = max(0, looks_ms)
    for position, message in enumerate(due):
        if spent_ms >= budget:
            # Past the budget the rest stays as it was, no attempt counted.
            counts["over_budget"] = len(due) - position
            break
        if _is_sent_by_another(world, message, None):
            counts["leased"] += 1
        elif not _is_due(message, world.now_ms):
            counts["deferred"] += 1
        else:
            at_ms, row = _sent(world, message, sent)
            if row["leased_by"] is None and row["status"] in PENDING and _is_exit(row):
                # §5: the rest stays as it was, no attempt counted; the message is free again.
                done = state.put("message", message["id"], row)
                return Outcome(done, "it ended", lines=lines, sent=tuple(sent))
            spent_ms += max(0, at_ms - world.now_ms)
            world = replace(world, now_ms=at_ms)
            if not _is_overtaken(row):
                counts["recovered" if row["status"] == "delivered" else "failed"] += 1
            state = state.put("message", message["id"], row)
    return Outcome(state, counts, lines=lines, sent=tuple(sent))


def _expire(world: World, state: State, oldest_ms: float, counts: dict[str, int]) -> State:
    for name, message in state.message.items():
        age_ms = max(0, world.now_ms - message["queued_at"])
        if message["status"] in PENDING and age_ms > oldest_ms and not _is_sent_by_another(world, message, None):
            counts["expired"] += 1
            row = _ended(message, world.now_ms, "expired", message["terminal_reason"] or Text())
            state = state.put("message", name, row)
    return state


def _sent(world: World, message: Row, sent: list[Row]) -> tuple[int, Row]:
    """What becomes of one message that is sent, and when; the receiver does what its payload says."""
    now_ms = world.now_ms
    message = _taken_over(message, now_ms)
    if message["attempt_count"] >= _MOST_ATTEMPTS:
        return now_ms, _ended(message, now_ms, "failed_terminal", message["terminal_reason"] or Text())
    try:
        payload = as_json(message["payload"])
    except ValueError:
        # §5: a payload that can't be parsed fails that row alone.
        failed = _failed(message, now_ms, "?", permanent=True)
        return now_ms, {**failed, "last_error": Text(), "terminal_reason": Text()}
    names = ("id", "turn_id", "channel", "account_id", "target", "dispatch_kind", "queued_at")
    key = message["idempotency_key"] or message["id"]
    sent.append({
        **{name: message[name] for name in names}, "payload": payload, "idempotency_key": key,
        "attempt": message["attempt_count"] + 1,
    })  # fmt: skip
    said = payload if isinstance(payload, Mapping) else {}
    now_ms += said.get("takes_ms", 0)
    if world.program is not None:
        said = {} if world.program == {} else {**world.program, "error": Text(*world.program["says"])}
    return now_ms, _answered(message, now_ms, said)


def _is_exit(message: Row) -> bool:
    """Whether the receiver of this message ends the whole pass."""
    try:
        payload = as_json(message["payload"])
    except ValueError:
        return False
    return isinstance(payload, Mapping) and "exits" in payload


def _is_overtaken(message: Row) -> bool:
    """Not in the specification: a delivery that fails after another process has acknowledged it counts as nothing."""
    try:
        payload = as_json(message["payload"])
    except ValueError:
        return False
    return (
        isinstance(payload, Mapping) and "elsewhere" in payload and not payload.keys().isdisjoint(("raises", "error"))
    )


def _answered(message: Row, now_ms: int, said: Row) -> Row:
    """A message after its receiver has said how it went; one that has been acknowledged by then stays so."""
    if "elsewhere" in said:
        return _delivered(message, now_ms)
    if "exits" in said:
        return message
    text = said.get("raises", said.get("error"))
    if text is None:
        return _delivered(message, now_ms)
    # Not in the specification: an error says itself whether it is permanent, by yes or no; else its text decides.
    permanent = said.get("permanent")
    hopeless = permanent if isinstance(permanent, bool) else is_permanent(text)
    error = Text(text) if "odd" in said or ("raises" in said and not text) else text
    return _failed(message, now_ms, error, permanent=hopeless)
