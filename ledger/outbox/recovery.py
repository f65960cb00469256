"""A recovery pass: sends the waiting messages, one after another.

1. Messages that are too old expire, in one transaction.
2. Due messages are sent in the order in which they were queued. A message that isn't due, is leased to a living sender,
   can't be parsed or fails is skipped and never ends the pass.
3. Each is leased (one commit), delivered with no lock held, and acknowledged or failed (one commit).

A crash between delivery and ack leaves a lease of a dead worker: the next pass counts the attempt, since it was begun,
and sends the message again at once, with the same idempotency key. Delivery is at-least-once; the receiver must drop a
second copy. A message that kills its sender is given up like any other, after its last attempt.

The budget is measured with the ledger's clock, counting only forward steps: a clock that jumps back doesn't extend the
pass indefinitely; a clock that jumps forward ends it early, and the remaining messages stay unchanged.

Not covered: a delivery that hangs; the function must bound its time. Messages queued after the pass has begun wait
for the next one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from tornpage.ledger.clock import Clock
from tornpage.ledger.disk.rows import Quarantined, Unreadable
from tornpage.ledger.errors import NotFound, StoreError, UsageError
from tornpage.ledger.outbox import rules
from tornpage.ledger.outbox.messages import MESSAGES, WAITING, Envelope, Message, Waiting
from tornpage.ledger.outbox.queue import PENDING_SQL, MessageQueue, MessageResult, log
from tornpage.ledger.rules.values import optional_time_ms
from tornpage.ledger.workers import Worker, checked_worker_id


class DeliveryFailed(Exception):  # noqa: N818 - it names what happened, as the ledger's own exceptions do
    """A delivery failed; `permanent`: a retry can't succeed; if None, the text decides."""

    def __init__(self, message: str, *, permanent: bool | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent


Deliver = Callable[[Envelope], object]
"""Sends one message; returning means delivered. An exception says whether the failure is permanent by its attribute
`permanent`, True or False, as `DeliveryFailed` has it; else the text decides: a known permanent error, or a retry."""


class RecoveryPass(msgspec.Struct, frozen=True):
    """How many messages a pass delivered, failed (temporarily or permanently), expired and skipped, by reason.

    `deferred`: not due. `over_budget`: due, but the budget was spent. `skipped_cutoff`: queued at the cutoff or later.
    `leased`: another worker is sending them. `unreadable`: quarantined rows.
    """

    recovered: int = 0
    failed: int = 0
    expired: int = 0
    deferred: int = 0
    over_budget: int = 0
    skipped_cutoff: int = 0
    leased: int = 0
    unreadable: int = 0


class _Budget:
    """The time spent since it was created; backward steps of the clock count as zero."""

    def __init__(self, clock: Clock, budget_ms: float) -> None:
        self._clock = clock
        self._budget_ms = budget_ms
        self._last = clock()
        self._spent_ms = 0

    def is_spent(self) -> bool:
        now = self._clock()
        self._spent_ms += max(0, now - self._last)
        self._last = now
        return self._spent_ms >= self._budget_ms


class RecoveringQueue(MessageQueue):
    """The part of the outbox that sends."""

    def recover(
        self,
        deliver: Deliver,
        *,
        budget_ms: float = rules.DEFAULT_BUDGET_MS,
        cutoff: int | None = None,
        max_age_ms: float = rules.DEFAULT_MAX_AGE_MS,
        worker_id: str | None = None,
    ) -> RecoveryPass:
        """Expire messages that are too old and deliver due ones, each message once.

        `cutoff`: messages queued at that time or later are skipped. `worker_id`: the worker id of this pass, else a new
        one; a given one counts as used until the next recovery of the ledger. Raises `UsageError` inside a batch and
        for an invalid span, and `StoreError`; messages acknowledged before the error stay delivered.
        """
        self._refuse_in_batch("recover")
        if worker_id is not None:
            checked_worker_id(worker_id)
        budget = _Budget(self._clock, rules.duration_ms("budget_ms", budget_ms, zero_allowed=True))
        limit = optional_time_ms("cutoff", cutoff)
        expired, too_old = self._expire_old(rules.duration_ms("max_age_ms", max_age_ms))
        found, quarantined = self._waiting()
        for one in (*quarantined, *too_old):
            log.warning("[outbox] message %s can't be read and is left alone: %s", one.key, one.reason)
        # Each is reported and counted once.
        left = {one.key for one in too_old}
        waiting = [one for one in found if one.id not in left]
        in_scope = [one for one in waiting if limit is None or one.queued_at < limit]
        due = self._select_due(in_scope)
        counts = {
            "expired": expired,
            "unreadable": len(quarantined) + len(left),
            "skipped_cutoff": len(waiting) - len(in_scope),
            "deferred": len(in_scope) - len(due),
        }
        if due:
            self._send_all(due, deliver, budget, worker_id, counts)
        done = RecoveryPass(**counts)
        log.info("[outbox] recovery pass: %s", done)
        return done

    def _refuse_in_batch(self, doing: str) -> None:
        with self._database.lock:
            if self._database.active is not None:
                raise UsageError(f"{doing} can't be called inside a batch: it has to commit as it goes")

    def _waiting(self) -> tuple[list[Waiting], list[Quarantined]]:
        """The pending messages in the order in which they were queued, and the rows that can't be read."""
        rows, quarantined = WAITING.decode_all(self._database.select(WAITING, PENDING_SQL))
        return sorted(rows, key=lambda one: one.queued_at), quarantined

    def _select_due(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """The due messages; a message that isn't due doesn't hold back later ones."""
        now = self._now()
        return [one for one in waiting if self._is_due(one, now)]

    # Expiring

    def _expire_old(self, max_age_ms: float) -> tuple[int, list[Quarantined]]:
        """Expire messages that are too old and not being sent, in one transaction.

        Returns how many, and those that can't be read.
        """
        now = self._now()
        old = [one for one in self._waiting()[0] if self._is_too_old(one, now, max_age_ms)]
        quarantined: list[Quarantined] = []
        if not old:
            return 0, quarantined
        with self._database.transaction() as transaction:
            rows = [(one.id, transaction.read(MESSAGES, one.id)) for one in old]
            count = 0
            for message_id, row in rows:
                if row is None:
                    continue
                try:
                    result = self._change_row(
                        transaction, row, lambda message: self._expire(message, now, max_age_ms), self._why_not_expire
                    )
                except Unreadable as error:  # no fault: no search damages a row.
                    quarantined.append(Quarantined(MESSAGES.name, message_id, str(error)))
                    continue
                count += result.changed
        return count, quarantined

    def _is_too_old(self, message: Waiting, now: int, max_age_ms: float) -> bool:
        return rules.age_ms(message, now) > max_age_ms

    def _expire(self, message: Message, now: int, max_age_ms: float) -> Message:
        return rules.expired(message, now, max_age_ms)

    def _why_not_expire(self, message: Message) -> str | None:
        return self._sent_by_another(message, None)

    # Sending

    def _send_all(
        self, due: Sequence[Waiting], deliver: Deliver, budget: _Budget, worker_id: str | None, counts: dict[str, int]
    ) -> None:
        with self._passing(worker_id) as worker:
            for position, one in enumerate(due):
                if budget.is_spent():
                    counts["over_budget"] = len(due) - position
                    return
                outcome = self._send_one(one.id, deliver, worker.id)
                if outcome is not None:
                    counts[outcome] = counts.get(outcome, 0) + 1

    @contextmanager
    def _passing(self, worker_id: str | None) -> Iterator[Worker]:
        """The worker of a pass; a generated id is never used again, so its file is removed."""
        with self._workers.hold(worker_id) as worker:
            try:
                yield worker
            finally:
                if worker_id is None:
                    worker.retire()

    def _send_one(self, message_id: str, deliver: Deliver, worker_id: str) -> str | None:
        """Lease, deliver, and record the result; returns the name of the count, None if the message was deleted."""
        try:
            claimed = self._lease(message_id, worker_id, self._why_not_send)
            if not claimed.changed:
                return self._count_as(claimed.message)
            return self._deliver_claimed(claimed.message, deliver, worker_id)
        except NotFound:  # no fault: it takes another process that prunes the message just now.
            return None
        except Unreadable as error:  # no fault: no search damages a row.
            log.warning("[outbox] message %s can't be read and is left alone: %s", message_id, error)
            return "unreadable"

    def _why_not_send(self, message: Message) -> str | None:
        return None if self._is_due(message, self._now()) else "it is not due yet"

    def _count_as(self, message: Message) -> str | None:
        if not self._is_pending(message):
            return None
        return "deferred" if self._is_free(message) else "leased"

    def _deliver_claimed(self, message: Message, deliver: Deliver, worker_id: str) -> str | None:
        try:
            failure = self._attempt(message, deliver, worker_id)
            if failure is None:
                self.ack(message.id)
                return "recovered"
        except BaseException:
            self._give_back(message.id, worker_id)
            raise
        # Unchanged: the message has ended meanwhile, or the lease was lost; then this attempt isn't counted.
        return "failed" if failure.changed else self._count_as(failure.message)

    def _attempt(self, message: Message, deliver: Deliver, worker_id: str) -> MessageResult | None:
        """Deliver a leased message; None if it succeeded, else the result of recording the failure."""
        if message.attempt_count >= rules.MAX_ATTEMPTS:
            # It had them elsewhere before it was imported, or its last sender died.
            because = f": {message.last_error}" if message.last_error is not None else ""
            reason = f"gave up after {message.attempt_count} attempts{because}"
            return self.move_to_failed(message.id, reason, worker_id=worker_id)
        try:
            deliver(self._envelope(message))
        except Exception as error:  # noqa: BLE001 - whatever a delivery raises is why it failed.
            return self.fail(message.id, _text_of(error), permanent=_says_permanent(error), worker_id=worker_id)
        return None

    def _envelope(self, message: Message) -> Envelope:
        """The data for the receiver. Raises `PayloadError`."""
        return Envelope(
            id=message.id,
            idempotency_key=message.idempotency_key or message.id,
            turn_id=message.turn_id,
            channel=message.channel,
            account_id=message.account_id,
            target=message.target,
            dispatch_kind=message.dispatch_kind,
            payload=rules.parse_payload(message.payload),
            queued_at=message.queued_at,
            attempt=message.attempt_count + 1,
        )

    def _give_back(self, message_id: str, worker_id: str) -> None:
        """Release the message for the next pass; if that fails, the end of the worker releases it."""
        try:
            with suppress(NotFound):
                self.release(message_id, worker_id)
        except StoreError as error:
            log.warning("[outbox] the lease of message %s stays until its worker ends: %s", message_id, error)


def _says_permanent(error: BaseException) -> bool | None:
    """Whether the error itself says that it is permanent, None if it doesn't say."""
    if isinstance(error, rules.PayloadError):
        return True
    said = getattr(error, "permanent", None)
    return said if isinstance(said, bool) else None


def _text_of(error: BaseException) -> str:
    """The error's text in a form that the database can store."""
    text = str(error) or type(error).__name__
    return text.encode(errors="backslashreplace").decode()
