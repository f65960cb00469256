"""One transaction over rows, and the handling of a COMMIT that reports an error.

A transaction is ``BEGIN IMMEDIATE … COMMIT``. Rows are read and written by key through it, and it remembers each
touched row before and after. A failed statement has no effect: the open transaction is rolled back and the error's
outcome is ``unchanged``. The effect of a failed COMMIT is ambiguous, and is settled before the error is raised:

1. An open transaction is rolled back (checked first: after an I/O error SQLite has already done so).
2. The touched rows are read again on a fresh connection.
3. One small writing commit, the *fence*, is made. In WAL mode the failed commit's frames may be in the log, invisible
   to live readers, and could reappear after a crash; the fence overwrites them, and is synced even at NORMAL. In the
   rollback modes it secures the rows that the second step read.

Rows as after, and a fence: the call succeeds. Rows as before, and a fence: ``unchanged``. No fence, or rows that equal
neither because another process wrote since: ``unknown``, and memory adopts the rows read. If the second step fails: the
database is *suspect* until it recovers. Source: sqlite-under-faults.md, "A COMMIT that raised is a maybe".

Transactions nest by joining: only the outermost commits. A store error inside dooms the whole transaction, and so does
any other exception of an inner block that has already written; a refusal before any write doesn't.

Not covered: an exception that a signal handler raises in the few instructions between ``BEGIN`` and the with-block.
"""

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from tornpage.ledger.disk.rows import Row, Table, fetch
from tornpage.ledger.errors import Outcome, StoreError, StoreUnavailable, from_sqlite, is_database_error

RowKey = tuple[str, str]
"""A table's name and a row's key."""
Found = Mapping[RowKey, Row | None]
"""The touched rows on disk, as a settlement read them; None if there is no row."""


class TouchedRow:
    """One row that a transaction has read: before the transaction, and after it."""

    __slots__ = ("after", "before", "key", "table")

    def __init__(self, table: Table, key: str, before: Row | None) -> None:
        self.table = table
        self.key = key
        self.before = before
        self.after = before


class Transaction:
    """One outermost transaction; a context manager that nested calls enter again."""

    def __init__(self, database: "Connected") -> None:
        self._database = database
        self._connection: Any = None
        self._touched: dict[RowKey, TouchedRow] = {}
        self._writes = 0
        self._writes_at_entry: list[int] = []
        self._doom: BaseException | None = None
        self._participants: list[Participant] = []

    # Rows

    def read(self, table: Table, key: str) -> Row | None:
        """The row with this key as this transaction sees it, or None."""
        touched = self._touched.get((table.name, key))
        if touched is None:
            rows = self._execute(table.select_one, (key,))
            touched = TouchedRow(table, key, rows[0] if rows else None)
            self._touched[table.name, key] = touched
        return touched.after

    def select(self, table: Table, where: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """The rows of a table that match an SQL condition (a literal of the calling code), in insertion order."""
        rows = self._execute(table.matching(where), parameters)
        for row in rows:
            place = (table.name, row[table.key_index])
            if place not in self._touched:
                self._touched[place] = TouchedRow(table, row[table.key_index], row)
        return rows

    def write(self, table: Table, row: Row) -> None:
        """Insert the row, or update the columns that differ; an equal row causes no write."""
        key = row[table.key_index]
        place = (table.name, key)
        if place not in self._touched:
            self.read(table, key)
        touched = self._touched[place]
        before = touched.after
        if before is None:
            self._execute(table.insert, table.parameters(row))
        else:
            statement, parameters = table.update(before, row)
            if not statement:
                return
            self._execute(statement, parameters)
        self._writes += 1
        touched.after = row

    def delete(self, table: Table, key: str) -> None:
        """Delete the row; no write if there is none."""
        if self.read(table, key) is None:
            return
        self._execute(table.delete, (key,))
        self._writes += 1
        self._touched[table.name, key].after = None

    def enlist(self, participant: "Participant") -> bool:
        """Notify this participant of the transaction's end; returns False if it is enlisted already."""
        if participant in self._participants:
            return False
        self._participants.append(participant)
        return True

    @property
    def is_joined(self) -> bool:
        """Whether the innermost block has joined an outer one, which may read and write the same rows."""
        return len(self._writes_at_entry) > 1

    def doom(self, error: BaseException) -> None:
        """Prevent this transaction from committing; the first reason is kept."""
        self._doom = self._doom or error

    def refuse_doomed(self) -> None:
        """Raise `StoreError` if the transaction can only be rolled back."""
        cause = self._doom
        if cause is None:
            return
        raise StoreError(
            f"nothing of this batch was written, because one of its calls failed: {cause!r}",
            retryable=isinstance(cause, StoreError) and cause.retryable,
            sqlite_errorcode=getattr(cause, "sqlite_errorcode", None),
            sqlite_errorname=getattr(cause, "sqlite_errorname", None),
        ) from cause

    # Beginning and end

    def __enter__(self) -> Self:
        if not self._writes_at_entry:
            self._connection = self._database.begin(self)
        else:
            self.refuse_doomed()
            self._database.lock.acquire()
        self._writes_at_entry.append(self._writes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        writes_at_entry = self._writes_at_entry.pop()
        if self._writes_at_entry:
            if error is not None and (isinstance(error, StoreError) or self._writes > writes_at_entry):
                self._doom = self._doom or error
            self._database.lock.release()
            return False
        try:
            if error is None and self._doom is None:
                self._commit()
            else:
                self._roll_back()
        finally:
            self._database.end()
        if error is None:
            self.refuse_doomed()
        return False

    def _execute(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        if self._doom is not None:
            # SQLite may have ended the transaction; a further statement would commit separately.
            self.refuse_doomed()
        try:
            return fetch(self._connection, statement, parameters)
        except BaseException as error:
            self._doom = error
            self._database.abandon()
            if is_database_error(error):
                # What the rest of a batch is refused with says, too, whether to try again.
                self._doom = refused = from_sqlite(error, doing=statement.split(maxsplit=1)[0].lower())
                raise refused from error
            raise

    def _roll_back(self) -> None:
        self._database.abandon()
        self._database.active = None
        for participant in self._participants:
            participant.rolled_back()

    def _commit(self) -> None:
        if not self._writes:
            # Nothing to commit, so no ambiguous failure is possible.
            self._roll_back()
            self._secure_what_was_read()
            return
        try:
            self._connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the change may have happened.
            self._settle(error)
            return
        self._database.fence_owed = False
        self._committed()

    def _secure_what_was_read(self) -> None:
        """Secure the rows on which a transaction without writes relies: an earlier failed COMMIT may not be fenced yet.

        Raises `StoreUnavailable` if they can't be secured yet.
        """
        if self._database.fence_owed and not self._database.lay_fence():
            raise StoreUnavailable(
                "what an earlier failed COMMIT left can't be secured yet", outcome="unknown", retryable=True
            ) from self._database.fence_error

    def _committed(self) -> None:
        # Participants may call the ledger again, and that must be a new transaction.
        self._database.active = None
        for participant in self._participants:
            participant.committed()

    def _settle(self, error: BaseException) -> None:
        changed = [row for row in self._touched.values() if row.before != row.after]
        settlement = self._database.settle(changed, error)
        if settlement.verdict == "committed":
            self._committed()
            if is_database_error(error):
                return
            raise error
        self._database.active = None
        for participant in self._participants:
            participant.settled(settlement.found)
        if not is_database_error(error):
            raise error
        outcome: Outcome = "unchanged" if settlement.verdict == "unchanged" else "unknown"
        raise from_sqlite(error, doing=f"commit ({settlement.explanation})", outcome=outcome) from error


class Connected(Protocol):
    """The parts of the database that a transaction needs."""

    active: "Transaction | None"
    fence_owed: bool
    fence_error: Exception | None

    @property
    def lock(self) -> threading.RLock:
        """The re-entrant lock of everything that uses the database."""

    def begin(self, transaction: "Transaction") -> Any:
        """Take the lock and send BEGIN; the connection."""

    def end(self) -> None:
        """Release the lock."""

    def abandon(self) -> bool:
        """Roll back an open transaction."""

    def lay_fence(self) -> bool:
        """Secure the state with a small separate commit; returns whether that worked."""

    def settle(self, changed: Sequence[TouchedRow], error: BaseException) -> "Settlement":
        """Determine the effect of a COMMIT that raised."""


class Participant(Protocol):
    """A listener that keeps memory in step with the rows. Called with the lock held, after the transaction's end."""

    def committed(self) -> None:
        """The transaction is durable."""

    def settled(self, found: Found | None) -> None:
        """COMMIT failed, and the change is not proven to be committed.

        `found` are the touched rows on disk now, None if they could not be read.
        """

    def rolled_back(self) -> None:
        """Nothing was committed, on purpose or because a statement failed."""


class Settlement:
    """The result of a failed COMMIT: a verdict, the rows found (None: they couldn't be read) and a sentence."""

    __slots__ = ("explanation", "found", "verdict")

    def __init__(
        self, verdict: Literal["committed", "unchanged", "unknown"], found: Found | None, explanation: str
    ) -> None:
        self.verdict = verdict
        self.found = found
        self.explanation = explanation


def judge(changed: Sequence[TouchedRow], found: Found | None, *, fenced: bool) -> Settlement:
    """Compare the transaction's intended rows with the rows on disk."""
    if found is None:
        return Settlement("unknown", None, "the rows could not be read again; the ledger is suspect")
    seen = [found[row.table.name, row.key] for row in changed]
    is_after = all(one == row.after for one, row in zip(seen, changed, strict=True))
    is_before = all(one == row.before for one, row in zip(seen, changed, strict=True))
    if fenced and is_after:
        return Settlement("committed", found, "the change is there and secured")
    if fenced and is_before:
        return Settlement("unchanged", found, "nothing was written")
    if is_after or is_before:
        now = "the change is visible" if is_after else "nothing is visible of the change"
        return Settlement("unknown", found, f"{now}, but a crash may show the other state")
    return Settlement("unknown", found, "the rows were changed by another process since")


def unavailable(message: str, cause: BaseException | None) -> StoreUnavailable:
    """A `StoreUnavailable` with its cause's SQLite code and `retryable`."""
    return StoreUnavailable(
        message,
        outcome="unchanged",
        retryable=isinstance(cause, StoreError) and cause.retryable,
        sqlite_errorcode=getattr(cause, "sqlite_errorcode", None),
        sqlite_errorname=getattr(cause, "sqlite_errorname", None),
    )
