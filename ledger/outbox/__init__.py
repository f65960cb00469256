"""The outbox of the ledger: messages delivered at least once, also across crashes.

It follows openclaw's pull request 29998, without the defects that its reviews found.
"""

from tornpage.ledger.outbox.messages import PENDING, Envelope, ErrorClass, Message, MessageStatus
from tornpage.ledger.outbox.outbox import ImportProblem, ImportReport, Outbox
from tornpage.ledger.outbox.queue import MessageResult
from tornpage.ledger.outbox.recovery import Deliver, DeliveryFailed, RecoveryPass
from tornpage.ledger.outbox.rules import PERMANENT_ERRORS, PayloadError

__all__ = [
    "PENDING",
    "PERMANENT_ERRORS",
    "Deliver",
    "DeliveryFailed",
    "Envelope",
    "ErrorClass",
    "ImportProblem",
    "ImportReport",
    "Message",
    "MessageResult",
    "MessageStatus",
    "Outbox",
    "PayloadError",
    "RecoveryPass",
]
