"""The import of the old queue's files (§5)."""

import hashlib
import json
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.outbox import BACKOFF_MS, new_message
from tornpage.scenarios.targets.reference.model.state import Outcome, Row, State
from tornpage.scenarios.targets.reference.model.values import Refusal, a_time, as_json, the_time
from tornpage.scenarios.targets.reference.model.world import World

_AT_READING: Final = 2


def import_legacy(world: World, state: State, *, changes: Any = None) -> Outcome:
    """§5: top-level ``*.json`` with id, channel and to; insert-or-ignore by id; a bad file stays and is reported.

    Another program `changes` one: before it is read, while it is imported (then it is another one, and stays), or
    later. The answer has the files that are reported, with whether their message was imported, and those that are left.
    """
    if world.files is None:
        raise Refusal("UsageError")
    counts = {"imported": 0, "already_there": 0, "removed": 0}
    files, stay = dict(world.files), []
    change = _Change(files, changes)
    for name in sorted(one for one in files if one.endswith(".json")):
        change.read_clock()
        change.forget()
        message = _from_file(the_time(world.now_ms), files[name])
        verdict = "conflict" if message is None else _verdict(world, state, message)
        if message is None or verdict == "conflict":
            stay.append([name, False])
            continue
        if verdict == "imported":
            change.read_clock()
            state = state.put("message", message["id"], message)
        counts[verdict] += 1
        if change.is_of(name):
            stay.append([name, True])
        else:
            counts["removed"] += 1
            del files[name]
    return Outcome(state, {**counts, "problems": stay, "left": sorted(one for one in files if one.endswith(".json"))})


class _Change:
    """A file that another program puts down when the clock is read for the second time.

    It is read before each file is read, and once a message is recorded.
    """

    def __init__(self, files: dict[str, Any], changes: Any) -> None:
        self._files = files
        self._changes = changes
        self._readings = 0
        self._replaced: str | None = None

    def forget(self) -> None:
        """What was replaced before now is read as it is."""
        self._replaced = None

    def is_of(self, name: str) -> bool:
        """Whether this file was replaced since."""
        return self._replaced == name

    def read_clock(self) -> None:
        """One more reading."""
        self._readings += 1
        if self._readings == _AT_READING and self._changes is not None:
            self._replaced = self._changes["name"]
            self._files[self._replaced] = self._changes["content"]


def _verdict(world: World, state: State, message: Row) -> str:
    """A delivered message never comes back, even after it was pruned; another message under the same id stays out."""
    name, key = message["id"], message["idempotency_key"]
    if name in state.unreadable.get("message_outbox", ()):
        return "conflict"
    known = world.imported.get(name)
    if known is not None:
        return "already_there" if known == fingerprint(as_json(message["payload"])) else "conflict"
    there = state.message.get(name) or next(
        (one for one in state.message.values() if key is not None and one["idempotency_key"] == key), None
    )
    if there is None and key in world.unreadable_keys.values():
        # Not in the specification: whether it is the same message is unknown, and its file stays.
        return "conflict"
    if there is None:
        return "imported"
    try:
        return "already_there" if as_json(there["payload"]) == as_json(message["payload"]) else "conflict"
    except ValueError:
        return "conflict"


def fingerprint(payload: Any) -> str:
    """Identifies one message among others under the same id, even long after it was removed."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def _from_file(now_ms: int, entry: Any) -> Row | None:
    """§5: keeps attempt data, a missing or bad retry count is 0; None for a file that can't be imported."""
    if not isinstance(entry, dict):
        return None
    if any(not isinstance(entry.get(name), str) or not entry[name].strip() for name in ("id", "channel", "to")):
        return None
    attempts, last, queued = (_whole(entry.get(one)) for one in ("retryCount", "lastAttemptAt", "enqueuedAt"))
    attempts = attempts if attempts is not None and 0 <= attempts <= 1_000_000 else 0
    last, queued = (_time(one) for one in (last, queued))
    about = {"id", "enqueuedAt", "retryCount", "lastAttemptAt", "lastError"}
    payload = {name: value for name, value in entry.items() if name not in about}
    texts = {
        ours: entry.get(theirs) if isinstance(entry.get(theirs), str) else None
        for ours, theirs in (("turn_id", "turnId"), ("account_id", "accountId"), ("idempotency_key", "idempotencyKey"))
    }
    try:
        row = new_message(
            now_ms if queued is None else queued, entry["id"], entry["channel"], entry["to"], payload, **texts
        )
    except Refusal:
        return None
    wait_ms = BACKOFF_MS[min(attempts, len(BACKOFF_MS)) - 1] if attempts and last is not None else 0
    error = entry.get("lastError")
    return {
        **row, "status": "failed_retryable" if attempts else "queued", "attempt_count": attempts,
        "last_attempt_at": last, "next_attempt_at": (row["queued_at"] if last is None else last) + wait_ms,
        "last_error": error if isinstance(error, str) and error.strip() else None,
    }  # fmt: skip


def _whole(value: Any) -> int | None:
    """A whole number, also one that JavaScript wrote as 3.0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def _time(value: int | None) -> int | None:
    try:
        return a_time(value)
    except Refusal:
        return None
