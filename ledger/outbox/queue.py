"""The outbox's rows, changed one at a time: queueing, leasing, and the result of a delivery.

Every change is one transaction that reads the row again. It joins the current transaction, so that a task's end and the
message that announces it commit together. Rows are not cached: every read is from disk. A message that has ended never
changes: a later call returns the reason and writes nothing.

A *lease* is a worker's id in the row. It is valid while that worker is alive (`ledger.workers`), also for the same
process: a live sender and a recovery pass of one process must not send the same message twice. It has no time limit,
and so needs no clock: no worker can lose a lease while alive. A worker that takes over a dead worker's lease counts the
attempt that the dead worker had begun.

Only the holder of a lease can report a failed attempt; for every other caller the message is being sent.

Not covered: an ack by a caller without a lease is accepted, since the receiver may answer anywhere.
"""

import builtins
import logging
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tornpage.ledger.clock import Clock
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.rows import Quarantined, RecordTable, Row
from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.errors import NotFound, UsageError
from tornpage.ledger.outbox import rules
from tornpage.ledger.outbox.messages import MESSAGES, PENDING, Message, MessageStatus
from tornpage.ledger.records import EARLIEST_MS, JsonValue
from tornpage.ledger.rules.values import checked_id, given_text, member, time_ms
from tornpage.ledger.workers import Workers

PENDING_SQL: Final = "status IN ('queued', 'failed_retryable')"
_ALL: Final = 2**63 - 1
_ENDED_SQL: Final = "completed_at < ? AND status IN ('delivered', 'failed_terminal', 'expired')"

Rule = Callable[[Message], Message]
"""Computes the new record from the row as it was read inside the transaction."""

log = logging.getLogger("ledger.outbox")


class MessageResult(msgspec.Struct, frozen=True):
    """The result of a call: whether it changed the message, the message now, and the reason if it did not."""

    changed: bool
    message: Message
    reason: str | None = None


_SMALL: Final = [(one.name, one.type) for one in msgspec.structs.fields(Message) if one.name != "payload"]
_ENDED: Final = RecordTable[Any](MESSAGES.name, msgspec.defstruct("Ended", _SMALL, frozen=True), "id")
"""For rows that are deleted in a transaction of their own: all that may make them unreadable, no payloads."""


class MessageQueue:
    """Messages by id. Every method raises `StoreError` where the store failed. Safe to share between threads."""

    def __init__(self, database: Database, workers: Workers, *, clock: Clock, new_id: Callable[[], str]) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._workers = workers

    # Reading

    def get(self, message_id: str) -> Message | None:
        """The message with this id, or None. Raises `Unreadable` for a row that can't be read."""
        rows = self._database.select(MESSAGES, "id = ?", (checked_id("message_id", message_id),))
        return MESSAGES.decode(rows[0]) if rows else None

    def list(self, *, status: MessageStatus | str | None = None, channel: str | None = None) -> builtins.list[Message]:
        """The messages in the order in which they were queued; only those of one status or channel, if given.

        Raises `UsageError` for an unknown status.
        """
        return self.read(status=status, channel=channel)[0]

    def quarantined(self) -> builtins.list[Quarantined]:
        """The rows that can't be read; no other call touches them."""
        return self.read()[1]

    def read(
        self, *, status: MessageStatus | str | None = None, channel: str | None = None
    ) -> tuple[builtins.list[Message], builtins.list[Quarantined]]:
        """The messages as `list` gives them, and beside them the rows that can't be read."""
        where, parameters = ["1"], builtins.list[str]()
        if status is not None:
            where.append("status = ?")
            parameters.append(member("status", MessageStatus, status).value)
        if channel is not None:
            where.append("channel = ?")
            parameters.append(checked_id("channel", channel).strip())
        rows = self._database.select(MESSAGES, " AND ".join(where), parameters)
        messages, quarantined = MESSAGES.decode_all(rows)
        # The sort is stable, and the rows come in the order of their insertion.
        return sorted(messages, key=lambda message: message.queued_at), quarantined

    def leaseholders(self, transaction: Transaction) -> set[str]:
        """The workers, alive or dead, that pending messages are leased to."""
        place = MESSAGES.columns.index("leased_by")
        return {str(row[place]) for row in transaction.select(MESSAGES, f"leased_by IS NOT NULL AND {PENDING_SQL}")}

    # Queueing

    def enqueue(
        self,
        *,
        channel: str,
        target: str,
        payload: JsonValue,
        idempotency_key: str | None = None,
        turn_id: str | None = None,
        account_id: str | None = None,
        dispatch_kind: str | None = None,
        message_id: str | None = None,
    ) -> Message:
        """Queue a message, due at once; if the idempotency key is known, return the existing message, unchanged.

        `payload` is any JSON value. Raises `UsageError` for a payload that is not JSON, a blank channel or target,
        and a message id that is taken.
        """
        fields = {
            "message_id": message_id if message_id is not None else self._new_id(),
            "channel": channel,
            "target": target,
            "payload": payload,
            "idempotency_key": idempotency_key,
            "turn_id": turn_id,
            "account_id": account_id,
            "dispatch_kind": dispatch_kind,
        }
        # Checked before the transaction: refusing invalid arguments needs no lock.
        made = rules.new_message(**fields, now=self._now())
        with self._database.transaction() as transaction:
            existing = self._find_by_key(transaction, made.idempotency_key)
            if existing is not None:
                return existing
            if transaction.read(MESSAGES, made.id) is not None:
                raise UsageError(f"message_id {made.id!r} is taken")
            transaction.write(MESSAGES, MESSAGES.encode(made))
        return made

    def _find_by_key(self, transaction: Transaction, key: str | None) -> Message | None:
        if key is None:
            return None
        rows = transaction.select(MESSAGES, "idempotency_key = ?", (key,))
        return MESSAGES.decode(rows[0]) if rows else None

    # Leasing

    def claim(self, message_id: str, worker_id: str) -> MessageResult:
        """Lease a pending message to a living worker, due or not; only the caller that gets `changed` may send it.

        Unchanged, with the reason, if the message has ended, has had all its attempts (the next recovery pass gives it
        up) or is leased to a living worker, also to this one: its other thread may be sending. The attempt of a worker
        that died while sending is counted. Raises `NotFound`, and `UsageError` for a worker that isn't alive.
        """

        def refusal(message: Message) -> str | None:
            attempts = self._without_dead_lease(message).attempt_count
            return f"it has had its {attempts} attempts" if attempts >= rules.MAX_ATTEMPTS else None

        return self._lease(message_id, worker_id, refusal)

    def _lease(self, message_id: str, worker_id: str, refusal: Callable[[Message], str | None]) -> MessageResult:
        if not self._workers.is_alive(worker_id):
            raise UsageError(f"worker {worker_id!r} is not alive, so it can't lease a message")
        return self._update(
            message_id,
            lambda message: replace(self._without_dead_lease(message), leased_by=worker_id),
            lambda message: self._sent_by_another(message, None) or refusal(message),
        )

    def _without_dead_lease(self, message: Message) -> Message:
        """The free message; if a dead worker holds its lease, with that worker's attempt counted."""
        return rules.taken_over(message, self._now()) if message.leased_by is not None else message

    def release(self, message_id: str, worker_id: str) -> MessageResult:
        """Release a leased message without an attempt. Raises `NotFound` and `UsageError`."""
        holder = checked_id("worker_id", worker_id)

        def refusal(message: Message) -> str | None:
            return None if message.leased_by == holder else f"it is not leased to worker {holder}"

        return self._update(message_id, lambda message: replace(message, leased_by=None), refusal)

    def _is_free(self, message: Message) -> bool:
        """Whether no living worker is sending the message."""
        return message.leased_by is None or not self._workers.is_alive(message.leased_by)

    def _sent_by_another(self, message: Message, worker_id: str | None) -> str | None:
        """Why this worker (None: the caller is no worker) must not change the message; None if it may."""
        if message.leased_by == worker_id or self._is_free(message):
            return None
        return f"worker {message.leased_by} is sending it"

    def _is_due(self, message: Any, now: int) -> bool:
        """Whether the next attempt may be made."""
        return rules.is_due(message, now)

    # How a delivery ended

    def ack(self, message_id: str) -> MessageResult:
        """Pending → delivered; unchanged, with the reason, if the message has ended. Raises `NotFound`."""
        return self._update(message_id, lambda message: rules.delivered(message, self._now()))

    def fail(
        self, message_id: str, error: str, *, permanent: bool | None = None, worker_id: str | None = None
    ) -> MessageResult:
        """Count a failed attempt: the message is retried later, or ended if a retry can't succeed.

        `permanent`: a retry can't succeed; if None, known texts of permanent errors decide. `worker_id`: the worker
        that made the attempt. Unchanged, with the reason, if the message has ended or is leased to another living
        worker. Raises `NotFound` and `UsageError`.
        """
        text = given_text("error", error) or "no reason given"
        given_text("worker_id", worker_id)
        hopeless = self._is_permanent(text) if permanent is None else permanent
        return self._update(
            message_id,
            lambda message: self._after_failure(message, text, permanent=hopeless),
            lambda message: self._sent_by_another(message, worker_id),
        )

    def move_to_failed(
        self, message_id: str, reason: str = "moved to failed", *, worker_id: str | None = None
    ) -> MessageResult:
        """Give a pending message up; an existing reason stays. `worker_id` and errors: as `fail`."""
        text = given_text("reason", reason) or "moved to failed"
        given_text("worker_id", worker_id)
        return self._update(
            message_id,
            lambda message: rules.moved_to_failed(message, self._now(), text),
            lambda message: self._sent_by_another(message, worker_id),
        )

    def _is_permanent(self, error: str) -> bool:
        """Whether an error's text is that of a permanent error."""
        return rules.is_permanent(error)

    def _after_failure(self, message: Message, error: str, *, permanent: bool) -> Message:
        """The message after a failed attempt."""
        return rules.failed(message, self._now(), error, permanent=permanent)

    # Pruning

    def prune(self, age_ms: float, *, limit: int | None = None) -> int:
        """Delete readable messages that ended longer ago than `age_ms`, all in one transaction; returns how many.

        `limit`: the maximum number, oldest rows first, to hold the write lock only briefly. Raises `UsageError` for an
        invalid limit, and for an age that is not finite or not more than 0; then nothing is deleted.
        """
        age = self._prune_age(age_ms)
        if limit is not None and (type(limit) is not int or limit < 1):
            raise UsageError(f"limit must be a whole number and at least 1, not {limit!r}")
        # No row can be older than this, and SQLite could not store a larger number. Times are whole, an age may not be.
        ended_before = math.ceil(max(self._now() - age, EARLIEST_MS))
        where = f"insertion IN (SELECT insertion FROM message_outbox WHERE {_ENDED_SQL} ORDER BY insertion LIMIT ? OFFSET ?)"  # noqa: S608, E501 - literals
        pruned = skipped = 0
        with self._database.transaction() as transaction:
            # In a batch a later call may queue the same id again, and a failed COMMIT is settled by whole rows.
            table: RecordTable[Any] = MESSAGES if transaction.is_joined else _ENDED
            while True:
                most = min(limit, _ALL) - pruned if limit else -1
                rows = transaction.select(table, where, (ended_before, most, skipped))
                readable = [message.id for message in table.decode_all(rows)[0]]
                for message_id in readable:
                    transaction.delete(table, message_id)
                pruned, skipped = pruned + len(readable), skipped + len(rows) - len(readable)
                if len(readable) == len(rows):
                    return pruned

    def _prune_age(self, age_ms: float) -> float:
        """The age, if it is valid."""
        return rules.duration_ms("age_ms", age_ms)

    # Helpers

    def _now(self) -> int:
        """The clock's time. Raises `UsageError` for one that no row can have."""
        return time_ms("now", self._clock())

    def _update(
        self, message_id: str, rule: Rule, refusal: Callable[[Message], str | None] = lambda _: None
    ) -> MessageResult:
        """Change a pending message by a rule, in one transaction, unless there is a reason not to."""
        checked_id("message_id", message_id)
        with self._database.transaction() as transaction:
            row = transaction.read(MESSAGES, message_id)
            if row is None:
                raise NotFound(f"there is no message {message_id!r}")
            return self._change_row(transaction, row, rule, refusal)

    def _change_row(
        self, transaction: Transaction, row: Row, rule: Rule, refusal: Callable[[Message], str | None]
    ) -> MessageResult:
        message = MESSAGES.decode(row)
        reason = f"it is already {message.status}" if not self._is_pending(message) else refusal(message)
        if reason is not None:
            return MessageResult(changed=False, message=message, reason=reason)
        changed = rule(message)
        transaction.write(MESSAGES, MESSAGES.encode_over(row, changed))
        return MessageResult(changed=True, message=changed)

    def _is_pending(self, message: Message) -> bool:
        """Whether the message is pending; an ended message never changes."""
        return message.status in PENDING
