"""The records of the outbox: a `Message` to deliver, and the `Envelope` that a receiver gets.

The fields and their order follow openclaw's pull request 29998; `leased_by` is added. All times are whole milliseconds
since the epoch, UTC. The payload is stored as the queued JSON text and parsed only when it is sent: a text that can't
be parsed must not make its row unreadable, since then the message could not be marked as failed either.

Not covered: the meaning of a payload for a channel.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from tornpage.ledger.disk.rows import RecordTable, Row
from tornpage.ledger.records import JsonValue, LaterMs, TimeMs


class MessageStatus(StrEnum):
    """The state of a message: pending (`PENDING`) or ended."""

    QUEUED = "queued"
    FAILED_RETRYABLE = "failed_retryable"
    DELIVERED = "delivered"
    FAILED_TERMINAL = "failed_terminal"
    EXPIRED = "expired"


PENDING: Final[frozenset[MessageStatus]] = frozenset({MessageStatus.QUEUED, MessageStatus.FAILED_RETRYABLE})
"""The statuses of a message that is still to be delivered; the others are final."""


class ErrorClass(StrEnum):
    """Whether a retry could have succeeded after the last error."""

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
    queued_at: TimeMs
    status: MessageStatus = MessageStatus.QUEUED
    attempt_count: Annotated[int, msgspec.Meta(ge=0)] = 0
    next_attempt_at: LaterMs | None = None
    last_attempt_at: TimeMs | None = None
    last_error: str | None = None
    error_class: ErrorClass | None = None
    delivered_at: TimeMs | None = None
    completed_at: TimeMs | None = None
    terminal_reason: str | None = None
    idempotency_key: str | None = None
    leased_by: str | None = None


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """The fields of a pending message that decide whether and when it is sent; the names are those of `Message`."""

    id: str
    queued_at: TimeMs
    next_attempt_at: LaterMs | None
    last_attempt_at: TimeMs | None


class Envelope(msgspec.Struct, frozen=True):
    """The data that a receiver gets.

    `idempotency_key` is the message's own key, else its id, and the same in every copy of the message: a receiver that
    has seen it before drops the copy. `attempt` counts from 1 and includes attempts whose sender died.
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
        """The row as a record; a payload that is not valid Unicode is returned as text that is not JSON."""
        payload = row[self._payload_index]
        if isinstance(payload, bytes):
            row = self._with_payload(row, payload.decode(errors="backslashreplace"))
        return super().decode(row)

    def encode_over(self, before: Row, record: Message) -> Row:
        """The record as a row, with exactly the payload of the previous row."""
        return self._with_payload(self.encode(record), before[self._payload_index])

    def _with_payload(self, row: Sequence[object], payload: object) -> Row:
        return (*row[: self._payload_index], payload, *row[self._payload_index + 1 :])


class ImportedFile(msgspec.Struct, frozen=True):
    """Records that a file of the old queue was imported; never deleted, so that a pruned message can't reappear.

    `fingerprint` distinguishes the same message from another one with the same id; see `ledger.outbox.legacy`.
    """

    id: str
    imported_at: int
    fingerprint: str


MESSAGES: Final = MessageTable()
WAITING: Final = RecordTable("message_outbox", Waiting, "id")
"""Only for reading outside transactions: a transaction knows one set of columns for a row."""
IMPORTED: Final = RecordTable("outbox_imports", ImportedFile, "id")
