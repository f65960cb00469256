"""Which rows are readable (§1): an unknown enum value, broken JSON or a wrong type makes only that row unreadable."""

import json
from collections.abc import Mapping
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.values import (
    DELIVERY_STATUSES,
    MESSAGE_STATUSES,
    NOTIFY_POLICIES,
    OUTCOMES,
    RESULTS,
    RUNTIMES,
    SCOPES,
    STATUSES,
    Refusal,
    a_time,
    json_value,
)

_ENUMS: Final[Mapping[str, Mapping[str, tuple[str | None, ...]]]] = {
    "task": {
        "runtime": RUNTIMES, "scope_kind": SCOPES, "status": STATUSES, "delivery_status": DELIVERY_STATUSES,
        "notify_policy": NOTIFY_POLICIES, "terminal_outcome": (None, *OUTCOMES),
    },
    "run": {"status": ("running", *RESULTS)},
    "message": {"status": MESSAGE_STATUSES, "error_class": (None, "transient", "permanent")},
}  # fmt: skip
_WHOLE: Final = frozenset({
    "created_at", "started_at", "ended_at", "last_event_at", "cleanup_after", "last_notified_event_at", "issue_number",
    "finished_at", "tokens_in", "tokens_out", "turns", "queued_at", "attempt_count", "next_attempt_at",
    "last_attempt_at", "delivered_at", "completed_at", "invalidated_at",
})  # fmt: skip
_TIMES: Final = _WHOLE - {"issue_number", "tokens_in", "tokens_out", "turns", "attempt_count"}
# Those that are computed from another time: by at most a week.
_LONGEST_WAIT_MS: Final = dict.fromkeys(("cleanup_after", "next_attempt_at"), 7 * 24 * 3_600_000)
_JSON: Final = frozenset({"requester_origin", "artifacts"})
_OTHERS: Final = frozenset({"cost_usd", "valid", "payload", *_WHOLE, *_JSON})


def is_readable(kind: str, row: Mapping[str, Any]) -> bool:
    """Whether a row, as SQLite returns it, is one of its kind."""
    if any(row[name] not in allowed for name, allowed in _ENUMS.get(kind, {}).items()):
        return False
    for name, value in row.items():
        if value is None:
            continue
        if name in _WHOLE and not isinstance(value, int):
            return False
        if name in _TIMES and not _is_time(value - _LONGEST_WAIT_MS.get(name, 0)) and not _is_time(value):
            return False
        if name not in _OTHERS and not isinstance(value, str):
            return False
        if (name in _JSON and not _is_json(value)) or _is_refused(kind, name, value):
            return False
    return row.get("valid", 0) in (0, 1)


def _is_refused(kind: str, name: str, value: Any) -> bool:
    """Not in the specification: a padded key, by which no query finds its row, and a negative number of attempts."""
    is_padded = kind == "task" and name in ("owner_key", "run_id") and value.strip() != value
    return is_padded or (name == "attempt_count" and value < 0)


def _is_time(value: int) -> bool:
    """Not in the specification: a time that no caller may give makes its row unreadable."""
    try:
        a_time(value)
    except Refusal:
        return False
    return True


def _is_json(text: object) -> bool:
    """Not in the specification: a value that is nested too deep for a caller is no JSON in a row either."""
    try:
        json_value(json.loads(text))  # type: ignore[arg-type] # what is no text is no JSON
    except (TypeError, ValueError, RecursionError, Refusal):
        return False
    return True
