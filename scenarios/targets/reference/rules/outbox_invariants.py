"""The reference's rules for messages, from the ledger's specification, section 5; see `invariants`."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.targets.reference.calls import Made

BY_ANOTHERS_HAND: Final = "by another's hand"
_MINUTE_MS: Final = 60_000
_MOST_ATTEMPTS: Final = 5
_BACKOFF_MS: Final = (5_000, 25_000, 2 * _MINUTE_MS, 10 * _MINUTE_MS)
_OLDEST_MS: Final = 30 * _MINUTE_MS
_TAKING: Final = frozenset({"outbox.claim", "outbox.recover"})
_PENDING: Final = frozenset({"queued", "failed_retryable"})
_PERMANENT: Final = (
    "no conversation reference found", "chat not found", "user not found", "bot was blocked by the user",
    "forbidden: bot was kicked", "chat_id is empty", "recipient is not a valid", "outbound not configured for channel",
)  # fmt: skip

Row = Mapping[str, Any]
Rows = Mapping[str, Row]


def check_messages(messages: Rows) -> None:
    """Rules for every state. Raises `Violation`."""
    keys = [row["idempotency_key"] for row in messages.values() if row["idempotency_key"] is not None]
    if len(keys) != len(set(keys)):
        raise Violation("no-duplicate-after-ack", "two messages have the same idempotency key")
    for name, row in messages.items():
        if row["status"] in _PENDING:
            _check_pending(name, row)
        else:
            _check_ended(name, row)


def _check_pending(name: str, row: Row) -> None:
    if row["next_attempt_at"] is None:
        raise Violation("no-lost-message", f"message {name} is {row['status']}, and it will never be tried")
    is_completed = row["completed_at"] is not None and row["turn_id"] != BY_ANOTHERS_HAND
    if is_completed or row["delivered_at"] is not None:
        raise Violation("no-duplicate-after-ack", f"message {name} is {row['status']}, and it has been completed")


def _check_ended(name: str, row: Row) -> None:
    status = row["status"]
    if status != "delivered" and row["delivered_at"] is not None:
        # In one change, as of the last attempt: no state between them shows it pending again.
        raise Violation("no-duplicate-after-ack", f"message {name} is {status}, and it has been delivered")
    if row["completed_at"] is None or (status == "delivered" and row["delivered_at"] is None):
        raise Violation("state-makes-sense", f"message {name} is {status}, and its times don't say so")
    if row["next_attempt_at"] is not None or row["leased_by"] is not None:
        raise Violation("state-makes-sense", f"message {name} is {status}, and still has a lease or a next attempt")
    if status != "delivered" and not row["terminal_reason"]:
        raise Violation("no-lost-message", f"message {name} is {status}, and nothing says why")


def check_changes(before: Rows, after: Rows, calls: Iterable[Made], *, is_done: bool) -> None:
    """The allowed and required changes of messages by a call. Raises `Violation`."""
    for name in before.keys() - after.keys():
        if not any(_may_prune(call, before[name]) for call in calls):
            raise Violation("only-what-is-over-goes", f"message {name} was removed, though it was not old enough")
    for name in before.keys() & after.keys():
        if not _is_queued_again(name, before[name], calls):
            _check_change(name, before[name], after[name], calls)
    if is_done:
        for call in calls:
            # Of several calls on one message in a batch only their joint result is visible.
            if call.name != "outbox.fail" or not any(_may_touch(other, call) for other in calls if other is not call):
                _check_done(before, after, call)


def _may_touch(other: Made, call: Made) -> bool:
    """Whether another call may change the message of a call."""
    return other.name == "outbox.recover" or _is_on(other, call.args["message_id"])


def _is_on(call: Made, message: str) -> bool:
    """Whether it is a call on this one message."""
    return call.name.startswith("outbox.") and call.args.get("message_id") == message


def _is_queued_again(name: str, row: Row, calls: Iterable[Made]) -> bool:
    """Whether a batch may have pruned a message and queued another one of its id."""
    is_queued = any(call.name == "outbox.enqueue" and _is_on(call, name) for call in calls)
    return is_queued and any(_may_prune(call, row) for call in calls)


def _may_prune(call: Made, row: Row) -> bool:
    if call.name != "outbox.prune" or row["completed_at"] is None:
        return False
    age_ms = call.args["age_ms"]
    return bool(age_ms > 0 and row["completed_at"] < call.now_ms - age_ms)


def _check_change(name: str, old: Row, new: Row, calls: Iterable[Made]) -> None:
    if old == new:
        return
    if old["status"] not in _PENDING:
        code = "no-duplicate-after-ack" if old["status"] == "delivered" else "terminal-is-final"
        raise Violation(code, f"message {name} was {old['status']}, and it was changed to {new['status']}")
    if new["attempt_count"] < old["attempt_count"]:
        raise Violation("no-lost-message", f"message {name} has had fewer attempts than before")
    takes = [call for call in calls if call.name in _TAKING]
    # Its sender may have released it before, in the same batch.
    let_go = any(_is_on(call, name) for call in calls if call.name not in _TAKING)
    if takes and not let_go and _is_being_sent(old) and new["leased_by"] != old["leased_by"]:
        raise Violation(
            "no-duplicate-after-ack", f"{old['leased_by']} was sending message {name}, and {takes[0].name} took it over"
        )


def _check_done(before: Rows, after: Rows, call: Made) -> None:
    name = str(call.args.get("message_id"))
    if call.name == "outbox.fail" and name in before and name in after:
        _check_failure(name, before[name], after[name], call)
    elif call.name == "outbox.ack" and name in after and after[name]["status"] in _PENDING:
        raise Violation("no-duplicate-after-ack", f"message {name} was acknowledged, and is still to be delivered")
    elif call.name == "outbox.recover" and call.args.get("budget_ms", 1) > 0 and not _takes_time(before):
        for waiting, row in before.items():
            _check_pass(waiting, row, after[waiting], call)


def _takes_time(messages: Rows) -> bool:
    """Whether a receiver may have spent the budget of a pass, or ended it: the rest was left for the next one."""
    return any("takes_ms" in row["payload"] or "exits" in row["payload"] for row in messages.values())


def _check_failure(name: str, old: Row, new: Row, call: Made) -> None:
    """An attempt counts, whatever its result; a permanent failure is not retried."""
    if old == new:
        return
    # A row that was edited by hand may have as many as SQLite can store.
    attempts = min(old["attempt_count"] + 1, 2**63 - 1)
    if new["attempt_count"] != attempts or new["last_attempt_at"] != call.now_ms:
        raise Violation("no-lost-message", f"an attempt to send message {name} failed, and it was not counted")
    hopeless = call.args.get("permanent")
    if hopeless is None:
        said = (call.args["error"] or "").lower()
        hopeless = any(text in said for text in _PERMANENT)
    is_over = bool(hopeless) or attempts >= _MOST_ATTEMPTS
    if is_over != (new["status"] == "failed_terminal"):
        fate = "is tried again, which can't help" if is_over else "was given up too early"
        raise Violation("no-lost-message", f"message {name} failed with {call.args['error']!r}, and {fate}")
    if not is_over and new["next_attempt_at"] != call.now_ms + _BACKOFF_MS[attempts - 1]:
        raise Violation("no-lost-message", f"message {name} is tried again at {new['next_attempt_at']}")


def _check_pass(name: str, old: Row, new: Row, call: Made) -> None:
    """A pass sends each message that is due, whatever happens to those before it."""
    cutoff = call.args.get("cutoff")
    if old["status"] not in _PENDING or not (cutoff is None or old["queued_at"] < cutoff):
        return
    # Also one that another process has begun to send since the pass has begun: a pass leaves no lease of its own.
    if _is_being_sent(old) or _is_being_sent(new):
        return
    if call.now_ms - old["queued_at"] > call.args.get("max_age_ms", _OLDEST_MS):
        if new["status"] != "expired":
            raise Violation("no-lost-message", f"message {name} is too old to be sent, and it has not expired")
    elif not _is_due(old, call.now_ms):
        if new != old:
            raise Violation("no-lost-message", f"message {name} was sent before its time")
    elif new["status"] in _PENDING and new["attempt_count"] == old["attempt_count"]:
        raise Violation("no-lost-message", f"message {name} was due, and a whole pass has not tried to send it")
    elif new["error_class"] == "permanent" and new["attempt_count"] == old["attempt_count"]:
        raise Violation("no-lost-message", f"message {name} failed for good, and its attempt was not counted")


def _is_due(row: Row, now_ms: int) -> bool:
    if now_ms >= row["next_attempt_at"]:
        return True
    # A row last changed in what is now the future: its waiting time is unknown.
    touched = row["last_attempt_at"] if row["last_attempt_at"] is not None else row["queued_at"]
    return bool(now_ms < touched)


def _is_being_sent(row: Row) -> bool:
    """Whether a living worker is sending it: passes over the outbox have ended, every other worker lives."""
    return row["leased_by"] is not None and not row["leased_by"].startswith("pass-")
