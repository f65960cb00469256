"""The state changes of a message: functions without I/O from a record and the time to a new record.

Backoff, the number of attempts, the age limit and the texts of permanent errors are those of openclaw's pull request
29998. The time of the next attempt is stored with the row, and only this decides when it is due: computing it again at
recovery was one of that pull request's defects.

The clock may jump. A row whose time is now in the future is due at once, because the time that it has waited is
unknown; and an age is never negative. After a jump forward, messages expire as if the time had really passed.
"""

# no fault in this file: it only looks at arguments.

import json
import math
from typing import Any, Final

from msgspec.structs import replace

from tornpage.ledger.errors import UsageError
from tornpage.ledger.outbox.messages import ErrorClass, Message, MessageStatus, Waiting
from tornpage.ledger.records import JsonValue
from tornpage.ledger.rules.values import json_value, trimmed, with_each_key

MAX_ATTEMPTS: Final = 5
_MOST: Final = 2**63 - 1
BACKOFF_MS: Final = (5_000, 25_000, 120_000, 600_000)
"""How long to wait after the first, second, third and fourth failed attempt."""
DEFAULT_BUDGET_MS: Final = 60_000
DEFAULT_MAX_AGE_MS: Final = 30 * 60_000

PERMANENT_ERRORS: Final = (
    "no conversation reference found",
    "chat not found",
    "user not found",
    "bot was blocked by the user",
    "forbidden: bot was kicked",
    "chat_id is empty",
    "recipient is not a valid",
    "outbound not configured for channel",
)


class PayloadError(ValueError):
    """The payload of a message is not JSON."""


def new_message(
    *,
    message_id: str,
    channel: str,
    target: str,
    payload: JsonValue,
    now: int,
    turn_id: str | None = None,
    account_id: str | None = None,
    dispatch_kind: str | None = None,
    idempotency_key: str | None = None,
) -> Message:
    """A message that is due at once. Raises `UsageError` for a blank id, channel or target and a payload not JSON."""
    return Message(
        id=_required("message_id", message_id),
        turn_id=trimmed("turn_id", turn_id),
        channel=_required("channel", channel),
        account_id=trimmed("account_id", account_id),
        target=_required("target", target),
        dispatch_kind=trimmed("dispatch_kind", dispatch_kind),
        payload=payload_text(payload),
        queued_at=now,
        next_attempt_at=now,
        idempotency_key=trimmed("idempotency_key", idempotency_key),
    )


def _required(name: str, value: str) -> str:
    text = trimmed(name, value)
    if text is None:
        raise UsageError(f"{name} must not be blank")
    return text


def payload_text(payload: JsonValue) -> str:
    """The JSON text to store. Raises `UsageError` if the value has no JSON form."""
    # Not msgspec's encoder: it refuses integers beyond 64 bits, which are JSON.
    return json.dumps(json_value("payload", payload), ensure_ascii=False, separators=(",", ":"))


def parse_payload(text: str, *, every_key: bool = False) -> JsonValue:
    """The payload as a value; of two equal keys the last one counts, unless `every_key`. Raises `PayloadError`."""
    hook = with_each_key if every_key else None
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=hook)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"the payload can't be parsed: {error}") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        # It is valid JSON, but would be parsed as Infinity, which is not.
        raise ValueError(f"the number {text} is too large")
    return number


def backoff_ms(attempt_count: int) -> int:
    """The wait after this many failed attempts (at least one)."""
    return BACKOFF_MS[min(attempt_count, len(BACKOFF_MS)) - 1]


def is_permanent(error: str) -> bool:
    """Whether an error's text is that of a permanent error."""
    lowered = error.lower()
    return any(known in lowered for known in PERMANENT_ERRORS)


def is_due(message: Message | Waiting, now: int) -> bool:
    """Whether the next attempt may be made; also True if the clock has jumped back since the last one."""
    if message.next_attempt_at is None or now >= message.next_attempt_at:
        return True
    touched_at = message.last_attempt_at if message.last_attempt_at is not None else message.queued_at
    return now < touched_at


def age_ms(message: Message | Waiting, now: int) -> int:
    """The time since the message was queued, never negative."""
    return max(0, now - message.queued_at)


def delivered(message: Message, now: int) -> Message:
    """The message after its delivery."""
    return _ended(replace(message, delivered_at=now), MessageStatus.DELIVERED, now, message.terminal_reason)


def failed(message: Message, now: int, error: str, *, permanent: bool) -> Message:
    """The message after a failed attempt; whatever the error is, the attempt counts."""
    attempts = _one_more(message.attempt_count)
    tried = replace(
        message,
        attempt_count=attempts,
        last_attempt_at=now,
        last_error=error,
        error_class=ErrorClass.PERMANENT if permanent else ErrorClass.TRANSIENT,
        leased_by=None,
    )
    if permanent:
        return _ended(tried, MessageStatus.FAILED_TERMINAL, now, f"permanent error: {error}")
    if attempts >= MAX_ATTEMPTS:
        return _ended(tried, MessageStatus.FAILED_TERMINAL, now, f"gave up after {attempts} attempts: {error}")
    return replace(tried, status=MessageStatus.FAILED_RETRYABLE, next_attempt_at=now + backoff_ms(attempts))


def taken_over(message: Message, now: int) -> Message:
    """The message of a sender that died: its attempt counts, but causes no delay.

    Otherwise a message that kills its sender would do so until it expires.
    """
    return replace(
        message,
        status=MessageStatus.FAILED_RETRYABLE,
        attempt_count=_one_more(message.attempt_count),
        last_attempt_at=now,
        last_error=f"worker {message.leased_by} died while sending it",
        error_class=ErrorClass.TRANSIENT,
        leased_by=None,
    )


def _one_more(attempts: int) -> int:
    """One more attempt; a row that was written by hand may have as many as SQLite can store."""
    return min(attempts + 1, _MOST)


def moved_to_failed(message: Message, now: int, reason: str) -> Message:
    """The message given up; an existing reason stays."""
    return _ended(message, MessageStatus.FAILED_TERMINAL, now, message.terminal_reason or reason)


def expired(message: Message, now: int, max_age_ms: float) -> Message:
    """The message after it has become too old to send."""
    reason = f"not delivered within {max_age_ms:.0f} ms: it was {age_ms(message, now)} ms old"
    return _ended(message, MessageStatus.EXPIRED, now, message.terminal_reason or reason)


def _ended(message: Message, status: MessageStatus, now: int, reason: str | None) -> Message:
    return replace(
        message, status=status, completed_at=now, terminal_reason=reason, next_attempt_at=None, leased_by=None
    )


def duration_ms(name: str, value: object, *, zero_allowed: bool = False) -> float:
    """A span of time. Raises `UsageError` if it is not finite, negative, or zero unless that is allowed."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        is_finite = isinstance(value, int) or math.isfinite(value)
        if is_finite and (value > 0 or (value == 0 and zero_allowed)):
            return value
    bound = "0 or more" if zero_allowed else "more than 0"
    raise UsageError(f"{name} must be a finite number of milliseconds, {bound}, not {value!r}")
