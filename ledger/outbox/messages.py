"""What the outbox keeps: a `Message` to deliver, and what a receiver gets of it, the `Envelope`.

The fields and their order follow openclaw's pull request 29998; `leased_by` is ours. All times are whole milliseconds
since the epoch, UTC. The payload is kept as the JSON text that was queued and is parsed only when it is sent: a text
that can't be parsed must not make its row unreadable, since then it could not be failed either.

Not covered: what a payload means to a channel.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from tornpage.ledger.disk.rows import RecordTable, Row
from tornpage.ledger.records import JsonValue


class MessageStatus(StrEnum):
    """Where a message stands: pending (`PENDING`) or ended for good."""

    QUEUED = "queued"
    FAILED_RETRYABLE = "failed_retryable"
    DELIVERED = "delivered"
    FAILED_TERMINAL = "failed_terminal"
    EXPIRED = "expired"


PENDING: Final[frozenset[MessageStatus]] = frozenset({MessageStatus.QUEUED, MessageStatus.FAILED_RETRYABLE})
"""The statuses of a message that is still to be delivered; the others are final."""


class ErrorClass(StrEnum):
    """Whether trying again could have helped against the last error."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """One message; optional fields are None where absent. Times in milliseconds since the epoch.

    `payload` is JSON text. `next_attempt_at` is None once the message has ended. `leased_by` is the worker that is
    sending it; a lease counts for as long as that worker lives.
    """

    id: str
    turn_id: str | None = None
    channel: str
    account_id: str | None = None
    target: str
    dispatch_kind: str | None = None
    payload: str
    queued_at: int
    status: MessageStatus = MessageStatus.QUEUED
    attempt_count: int = 0
    next_attempt_at: int | None = None
    last_attempt_at: int | None = None
    last_error: str | None = None
    error_class: ErrorClass | None = None
    delivered_at: int | None = None
    completed_at: int | None = None
    terminal_reason: str | None = None
    idempotency_key: str | None = None
    leased_by: str | None = None


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """As much of a pending message as decides whether and when it is sent; the names are those of `Message`."""

    id: str
    queued_at: int
    next_attempt_at: int | None
    last_attempt_at: int | None


class Envelope(msgspec.Struct, frozen=True):
    """What a receiver gets.

    `idempotency_key` is the message's own or else its id, and the same in every copy of the message: a receiver that
    has seen it before drops the copy. `attempt` counts from 1, also the attempts that nobody lived to report.
    """

    id: str
    idempotency_key: str
    turn_id: str | None
    channel: str
    account_id: str | None
    target: str
    dispatch_kind: str | None
    payload: JsonValue
    queued_at: int
    attempt: int


class MessageTable(RecordTable[Message]):
    """The outbox's rows. The payload of a row is written once and never again."""

    def __init__(self) -> None:
        super().__init__("message_outbox", Message, "id")
        self._payload_index = self.columns.index("payload")

    def decode(self, row: Row) -> Message:
        """The row as a record; a payload that is no Unicode comes as a text that is no JSON."""
        payload = row[self._payload_index]
        if isinstance(payload, bytes):
            row = self._with_payload(row, payload.decode(errors="backslashreplace"))
        return super().decode(row)

    def encode_over(self, before: Row, record: Message) -> Row:
        """The record as a row, with the payload exactly as the row before had it."""
        return self._with_payload(self.encode(record), before[self._payload_index])

    def _with_payload(self, row: Sequence[object], payload: object) -> Row:
        return (*row[: self._payload_index], payload, *row[self._payload_index + 1 :])


class ImportedFile(msgspec.Struct, frozen=True):
    """That a file of the old queue was taken over; kept for good, so that a pruned message can't come back.

    `fingerprint` tells the same message from another one under the same id; see `ledger.outbox.legacy`.
    """

    id: str
    imported_at: int
    fingerprint: str


MESSAGES: Final = MessageTable()
WAITING: Final = RecordTable("message_outbox", Waiting, "id")
"""Only for reading outside transactions: a transaction knows one set of columns for a row."""
IMPORTED: Final = RecordTable("outbox_imports", ImportedFile, "id")
