"""Files of the old queue: one JSON document a message, in one directory.

Only files ``*.json`` at the top level are imported; ``failed/`` below contains messages that were given up. A file is
checked before it is read: symbolic links, other non-regular files, and files larger than any message are refused. A
document needs `id`, `channel` and `to`. Its attempts are kept, and the rest becomes the payload, unchanged. Format:
openclaw's delivery queue before pull request 29998.

Not covered: a program that still writes to the directory. A file that changes during the import is not removed, but
stop the old program first.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage.ledger.errors import StoreIOError, UsageError
from tornpage.ledger.outbox import rules
from tornpage.ledger.outbox.messages import Message, MessageStatus
from tornpage.ledger.records import EARLIEST_MS, LATEST_MS, JsonValue

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
UNREADABLE: Final = "it can't be read"
CHANGED: Final = "it changed while it was imported"
_MOST_ATTEMPTS: Final = 1_000_000
_ATTEMPT_DATA: Final = frozenset({"id", "enqueuedAt", "retryCount", "lastAttemptAt", "lastError"})
_OPEN_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class BadFileError(Exception):
    """A file that can't be imported; the text is the reason."""


class LegacyFile(msgspec.Struct, frozen=True):
    """A file as it was read: its message, the message's fingerprint, and the file's identity at that time."""

    path: Path
    message: Message
    fingerprint: str
    identity: tuple[int, int, int, int]


def files_in(directory: Path) -> list[Path]:
    """The candidates, by name. Raises `UsageError` if it is no directory, `StoreIOError` if it can't be read."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.endswith(".json"))
    except FileNotFoundError as error:  # no fault: no search takes the directory away.
        raise UsageError(f"there is no directory {directory} to import from") from error
    except NotADirectoryError as error:  # no fault: no search puts a file there.
        raise UsageError(f"{directory} is not a directory") from error
    except (OSError, ValueError) as error:  # no fault: to list a directory is none of the operations that fail.
        raise StoreIOError(f"the directory {directory} can't be read: {error}") from error


def read(path: Path, *, now: int) -> LegacyFile:
    """The message in a file. Raises `BadFileError`, and `FileNotFoundError` if the file was removed."""
    try:
        content, identity = _content(path)
    except FileNotFoundError:  # no fault: it takes another import that is at work just now.
        raise
    except OSError as error:
        raise BadFileError(f"{UNREADABLE}: {error.strerror or error}") from error
    entry = _document(content)
    message = _message(entry, now)
    return LegacyFile(path, message, fingerprint(rules.parse_payload(message.payload)), identity)


def is_unchanged(file: LegacyFile) -> bool:
    """Whether the file is still the one that was read. Raises `OSError`."""
    return _identity(file.path.lstat()) == file.identity


def fingerprint(payload: JsonValue) -> str:
    """A digest that is equal for equal payloads, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> tuple[bytes, tuple[int, int, int, int]]:
    # Checked before it is opened, since opening may block (a FIFO) or have effects (a device).
    _judge(path.lstat())
    descriptor = os.open(path, _OPEN_FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        _judge(found)
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise BadFileError(f"it is larger than {MAX_FILE_BYTES} bytes")
    return content, _identity(found)


def _judge(found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise BadFileError("it is a symbolic link")
    if not stat.S_ISREG(found.st_mode):
        raise BadFileError("it is not a regular file")
    if found.st_size > MAX_FILE_BYTES:
        raise BadFileError(f"it has {found.st_size} bytes, more than {MAX_FILE_BYTES}, and was not read")


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _document(content: bytes) -> dict[str, Any]:
    try:
        entry = rules.parse_payload(content.decode())
    except UnicodeDecodeError as error:  # no fault: no search has a file that is no message.
        raise BadFileError(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    except rules.PayloadError as error:  # no fault: no search has a file that is no message.
        raise BadFileError(f"it is not JSON: {error.__cause__}") from error
    if not isinstance(entry, dict):
        raise BadFileError(f"it holds no JSON object, but {type(entry).__name__}")
    missing = [name for name in ("id", "channel", "to") if not _is_text(entry.get(name))]
    if missing:
        raise BadFileError(f"{', '.join(missing)} is missing, blank or no text")
    return entry


def _message(entry: Mapping[str, Any], now: int) -> Message:
    attempts = _attempts(entry.get("retryCount"))
    queued_at = _time(entry.get("enqueuedAt"))
    last_attempt_at = _time(entry.get("lastAttemptAt"))
    try:
        message = rules.new_message(
            message_id=entry["id"],
            channel=entry["channel"],
            target=entry["to"],
            payload={name: value for name, value in entry.items() if name not in _ATTEMPT_DATA},
            now=queued_at if queued_at is not None else now,
            turn_id=_optional_text(entry.get("turnId")),
            account_id=_optional_text(entry.get("accountId")),
            idempotency_key=_optional_text(entry.get("idempotencyKey")),
        )
    except UsageError as error:  # no fault: no search has a file that is no message.
        raise BadFileError(str(error)) from error
    wait_ms = rules.backoff_ms(attempts) if attempts and last_attempt_at is not None else 0
    return msgspec.structs.replace(
        message,
        status=MessageStatus.FAILED_RETRYABLE if attempts else MessageStatus.QUEUED,
        attempt_count=attempts,
        last_attempt_at=last_attempt_at,
        next_attempt_at=(last_attempt_at if last_attempt_at is not None else message.queued_at) + wait_ms,
        last_error=_optional_text(entry.get("lastError")),
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _optional_text(value: object) -> str | None:
    """The text if it can be stored, else None; it is kept in the payload in any case."""
    if not isinstance(value, str) or not value.strip():
        return None
    return value.encode(errors="backslashreplace").decode()


def _attempts(value: object) -> int:
    """The retry count; 0 if it is missing or invalid."""
    number = _whole(value)
    return number if number is not None and 0 <= number <= _MOST_ATTEMPTS else 0


def _time(value: object) -> int | None:
    number = _whole(value)
    return number if number is not None and EARLIEST_MS <= number <= LATEST_MS else None


def _whole(value: object) -> int | None:
    """A whole number; JavaScript has one number type, so 3 may be written as 3.0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None
