"""The outbox: messages that are delivered at least once, and the import from the old file queue.

Files are imported one at a time: the row is committed, and only then the file is removed, so a crash leaves the file,
the row or both, never neither. Imports are recorded permanently, even when the message has been pruned: if a file
reappears (it could not be removed, a backup was restored), its message is not imported again.

The row must be durable before its file is removed. If the ledger's level of ``synchronous`` may lose the newest commits
in a power cut, the import raises it for its own commits.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from tornpage.ledger.disk.rows import Unreadable, fetch
from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.errors import StoreError, UsageError, from_sqlite, is_database_error
from tornpage.ledger.outbox import legacy, rules
from tornpage.ledger.outbox.messages import IMPORTED, MESSAGES, ImportedFile, Message
from tornpage.ledger.outbox.recovery import RecoveringQueue

_FULL: Final = 2
_EXTRA: Final = 3
"""SQLite's numbers. FULL loses no acknowledged commit in a power cut, except in mode DELETE, which needs EXTRA; source:
sqlite-under-faults.md, rule 2."""

_log = logging.getLogger("ledger.outbox")

Verdict = Literal["imported", "already_there", "conflict"]


class ImportProblem(msgspec.Struct, frozen=True):
    """A file that was not removed: its name and the reason. `imported`: its message is in the outbox nevertheless."""

    file: str
    reason: str
    imported: bool = False


class ImportReport(msgspec.Struct, frozen=True):
    """The result of an import: messages imported, messages known before, files removed, files not removed."""

    imported: int
    already_there: int
    removed: int
    problems: tuple[ImportProblem, ...] = ()


class Outbox(RecoveringQueue):
    """Messages to deliver: queue, send, retry, expire, prune, import. Safe to share between threads."""

    def import_legacy(self, directory: str | os.PathLike[str]) -> ImportReport:
        """Import the files of the old queue; each is removed once its message is durable in the outbox.

        A message that is or was in the outbox stays unchanged. A file that can't be imported stays and is reported.
        Raises `UsageError` for a ledger in memory, inside a batch and for a missing directory, and `StoreError`: then
        the remaining files still exist, and another import continues with them.
        """
        self._refuse_import_in_memory()
        self._refuse_in_batch("import_legacy")
        counts = {"imported": 0, "already_there": 0, "removed": 0}
        problems = []
        for path in legacy.files_in(Path(directory)):
            try:
                problem = self._import_file(path, counts)
            except legacy.BadFileError as error:
                problem = ImportProblem(_shown(path), str(error))
            except FileNotFoundError:  # no fault: it takes another import that is at work just now.
                # Another import has removed it meanwhile.
                continue
            if problem is not None:
                _log.warning("[outbox] %s stays: %s", problem.file, problem.reason)
                problems.append(problem)
        return ImportReport(**counts, problems=tuple(problems))

    def _refuse_import_in_memory(self) -> None:
        if self._database.in_memory:
            raise UsageError("a ledger in memory can't import: the files would be removed and nothing kept")

    def _import_file(self, path: Path, counts: dict[str, int]) -> ImportProblem | None:
        file = legacy.read(path, now=self._now())
        verdict = self._store_imported(file)
        if verdict == "conflict":
            return ImportProblem(_shown(path), f"another message has the id {file.message.id!r} or the same key")
        counts[verdict] += 1
        problem = self._remove_imported(file)
        counts["removed"] += problem is None
        return problem

    def _store_imported(self, file: legacy.LegacyFile) -> Verdict:
        """Commit the message, unless it is or was in the outbox."""
        with self._durable(), self._database.transaction() as transaction:
            return self._insert_or_ignore(transaction, file)

    def _insert_or_ignore(self, transaction: Transaction, file: legacy.LegacyFile) -> Verdict:
        message = file.message
        note = transaction.read(IMPORTED, message.id)
        row = transaction.read(MESSAGES, message.id)
        try:
            existing = MESSAGES.decode(row) if row is not None else None
            if note is not None:
                known = IMPORTED.decode(note).fingerprint
                return "already_there" if known == file.fingerprint else "conflict"
            existing = existing or self._find_by_key(transaction, message.idempotency_key)
        except Unreadable:  # no fault: no search damages a row.
            # It may be another message, and the file the only copy of this one that can be read.
            return "conflict"
        if existing is not None:
            return "already_there" if _is_same(existing, file) else "conflict"
        transaction.write(MESSAGES, MESSAGES.encode(message))
        transaction.write(IMPORTED, IMPORTED.encode(ImportedFile(message.id, self._now(), file.fingerprint)))
        return "imported"

    def _remove_imported(self, file: legacy.LegacyFile) -> ImportProblem | None:
        """Remove the file, unless it has changed since it was read."""
        try:
            if not legacy.is_unchanged(file):
                return ImportProblem(_shown(file.path), legacy.CHANGED, imported=True)
            file.path.unlink()
        except FileNotFoundError:  # no fault: it takes another import that is at work just now.
            return None
        except OSError as error:
            reason = f"it could not be removed: {error.strerror or error}"
            return ImportProblem(_shown(file.path), reason, imported=True)
        return None

    @contextmanager
    def _durable(self) -> Iterator[None]:
        """Commits inside this scope survive a power cut, whatever the ledger's level."""
        database = self._database
        with database.lock:
            database.ensure_usable()
            level = self._set_synchronous(None)
            if level == _EXTRA or (level == _FULL and database.journal_mode != "delete"):
                yield
                return
            self._set_synchronous(_EXTRA)
            try:
                yield
            finally:
                try:
                    self._set_synchronous(level)
                except StoreError as error:
                    # The next connection is configured again, at the chosen level.
                    _log.warning("the connection is replaced: %s", error)
                    database.discard_connection()

    def _set_synchronous(self, level: int | None) -> int:
        """Set SQLite's level of durability if one is given; returns the level."""
        try:
            if level is not None:
                self._database.connection.execute(f"PRAGMA synchronous = {level}")
                return level
            return int(fetch(self._database.connection, "PRAGMA synchronous")[0][0])
        except Exception as error:
            if is_database_error(error):
                raise from_sqlite(error, doing="set the durability of the import") from error
            raise


def _is_same(existing: Message, file: legacy.LegacyFile) -> bool:
    try:
        return legacy.fingerprint(rules.parse_payload(existing.payload)) == file.fingerprint
    except rules.PayloadError:  # no fault: no search damages a row.
        return False


def _shown(path: Path) -> str:
    """The name as text, also if it is not valid Unicode."""
    return os.fsencode(path.name).decode(errors="backslashreplace")
