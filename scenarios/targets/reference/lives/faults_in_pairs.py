"""A ledger whose driver fails twice: the second fault comes while the first one is handled, or in the query after it.

The searches inject one fault, or all from one on. Here each statement of a change fails, in each way, together with
each later one up to the end of the next query; the list ends where the second fault is never reached. Before that query
another process changes the row. After each pair:

* memory equals the rows, and observers know it, also before anybody has looked again;
* a change that failed can be made again at once;
* the answer is true of the rows, a COMMIT in doubt has been fenced, and an answer that is unknown has
  left a fence to make, which is made at the end; one fault alone leaves no answer unknown;
* another process is not locked out, and a query shows its change, or raises;
* as soon as nothing fails any more the ledger answers, with the settings it was opened with, owes no fence, and keeps
  its connection.

Not covered: what a power cut after two faults leaves.
"""

import contextlib
import functools
import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

from tornpage.ledger import IllegalTransition, Ledger, LedgerError, StoreError
from tornpage.ledger.cache.engine import RegistryEngine
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.scenarios.targets.reference.environment import Mirror
from tornpage.scenarios.targets.reference.introspection import holds_a_lock, is_suspect
from tornpage.scenarios.targets.reference.lives.failing_driver import BUSY, HOWS, INTERRUPTS, Driver

_SETTINGS: Final = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint")
_FULL: Final = 2
# A COMMIT, and what secures its result.
_TO_BE_UNKNOWN: Final = 2
_ENDED_LONG_AGO: Final = (
    "INSERT INTO message_outbox (id, channel, target, payload, queued_at, status, attempt_count, completed_at) "
    "VALUES ('again', 'mail', 'you', '{}', 1, 'delivered', 1, 2)"
)


def pairs(
    home: Path, clock: Callable[[], int], *, journal_mode: str, synchronous: str | None, batch: bool = False
) -> list[str]:
    """What went wrong after the first bad pair of faults in a change; empty if nothing did.

    The change is one progress text, or with `batch` several calls in one transaction, with a query among them.
    """
    shutil.rmtree(home, ignore_errors=True)
    case = _Case(home, {"clock": clock, "journal_mode": journal_mode, "synchronous": synchronous}, in_batch=batch)
    try:
        return list(itertools.islice(case.wrong(), 1))
    finally:
        case.close()
        shutil.rmtree(home, ignore_errors=True)


def interrupts(
    home: Path, clock: Callable[[], int], *, journal_mode: str, synchronous: str | None, batch: bool = False
) -> list[str]:
    """What went wrong after the first bad interrupt of the change, at each statement in turn; empty if nothing did.

    The interrupt gets out, no lock stays, and the ledger answers as after a fault.
    """
    shutil.rmtree(home, ignore_errors=True)
    case = _Case(home, {"clock": clock, "journal_mode": journal_mode, "synchronous": synchronous}, in_batch=batch)
    try:
        return list(itertools.islice(case.wrong_after_interrupts(), 1))
    finally:
        case.close()
        shutil.rmtree(home, ignore_errors=True)


class _Case:
    """One ledger with one task; each pair of faults begins where the one before has ended."""

    def __init__(self, directory: Path, how: Mapping[str, Any], *, in_batch: bool) -> None:
        self._directory, self._how, self._in_batch = directory, how, in_batch
        self._turn = 0
        self._driver = Driver()
        self._driver.is_foreign = how["journal_mode"] == "delete"
        self._open()
        self._settings = self._asked()
        self._task = self._ledger.tasks.create(runtime="cli", owner_key="me", task="work", run_id="run").task_id
        self._reader = sqlite3.connect(directory / DATABASE_NAME, isolation_level=None, timeout=0)

    def _open(self) -> None:
        self._mirror = Mirror()
        self._ledger = Ledger.open(
            self._directory, connect=self._driver, busy_timeout_ms=70, observers=[self._mirror], **self._how
        )

    def close(self) -> None:
        """Release the files."""
        self._driver.disarm()
        self._reader.close()
        with contextlib.suppress(LedgerError):
            self._ledger.close()

    def wrong(self) -> Iterator[str]:
        """What is wrong after each pair of faults, in their order."""
        for first in itertools.count(1):
            came = False
            for how in HOWS:
                for second in itertools.count(first + 1):
                    faults = {first: how, second: "before"}
                    said, wrong = self._look_after(faults)
                    fired = self._driver.fired
                    if not wrong and said == "unknown":
                        wrong = self._close_after(faults)
                    if not wrong and said == "unchanged" and second == first + 1:
                        wrong = self._again_after(faults)
                    if wrong:
                        yield f"after the faults {faults}: {wrong}"
                    came = came or first in fired
                    if not fired.issuperset(faults):
                        break
            if not came:
                break
        yield from self._wrong_when_overtaken()
        yield from self._wrong_quarantine()
        yield from self._wrong_with_odd_keys()
        if self._in_batch:
            yield from self._wrong_when_outdated()
            yield from self._wrong_when_queued_again()

    def _wrong_when_overtaken(self) -> Iterator[str]:
        """What is wrong where a COMMIT fails after its work, and another process changes the row while that is settled.

        Then no look at the rows can tell what the change did, but it was made. Of a batch the other process may also
        undo one row: there is still a part.
        """
        last = next(number for number in itertools.count(1) if self._fails_at_commit(number))
        for number in itertools.count(last + 1):
            for undoes in (False, True)[: 1 + self._in_batch]:
                self._turn += 1
                text = self._stored()[0] if undoes else f"another's, after turn {self._turn}"
                self._driver.arm({last: "after", number: "meanwhile"}, functools.partial(self._written, text))
                said = _attempt(self._change)
                self._driver.disarm()
                wrong = "" if said in ("done", "unknown") else f"it says {said} of a change that was made"
                if wrong := wrong or self._wrong_when_well():
                    yield f"after the fault {last}, and another process at {number}: {wrong}"
            if number not in self._driver.fired:
                return

    def _wrong_quarantine(self) -> Iterator[str]:
        """What is wrong where another process breaks the row, or mends it, and the first look is at the quarantine."""
        for kind, many in ("'abacus'", 1), ("'cli'", 0):
            self._reader.execute("PRAGMA ignore_check_constraints = ON")
            self._reader.execute(f"UPDATE tasks SET runtime = {kind}")  # noqa: S608 - literals
            if len(self._ledger.tasks.quarantined()) != many:
                yield f"another process made a task's runtime {kind}, and the quarantine has not {many} rows"

    def _wrong_with_odd_keys(self) -> Iterator[str]:
        """What is wrong after one fault in the end of a run that has a session whose id is no text."""
        ledger = self._ledger
        for number in itertools.count(1):
            with ledger.workers.hold() as worker:
                task = ledger.tasks.create(runtime="cli", owner_key="me", task="another").task_id
                run = ledger.history.start(task, worker_id=worker.id).id
                ledger.history.open_session(run, run)
                self._reader.execute("UPDATE agent_sessions SET session_id = CAST(session_id AS BLOB)")
                self._driver.arm({number: "after"})
                said = _attempt(functools.partial(ledger.history.finish, run, "interrupted"))
                self._driver.disarm()
                (valid,) = self._reader.execute("SELECT valid FROM agent_sessions WHERE run_id = ?", (run,)).fetchone()
                ledger.tasks.delete(task)
            if said != ("unchanged" if valid else "done"):
                yield f"after the fault {number} the end of a run says {said}, and its session is valid: {valid}"
            if number not in self._driver.fired:
                return

    def _fails_at_commit(self, number: int) -> bool:
        """Make the change; whether the statement of that number is its COMMIT."""
        self._turn += 1
        self._driver.arm({number: "after"})
        _attempt(self._change)
        self._driver.disarm()
        return bool(self._driver.fired)

    def _wrong_when_outdated(self) -> Iterator[str]:
        """What is wrong after one fault in a batch that begins with reading what another process has changed.

        Its caller goes on, or gives up at the end: then nothing of it is made.
        """
        for number in itertools.count(1):
            came = False
            for how, change in itertools.product(HOWS, (self._changed, self._given_up)):
                self._turn += 1
                wrong = self._changed_by_another() or change({number: how})[1]
                self._driver.disarm()
                if wrong := wrong or self._wrong_when_well():
                    yield f"after the fault {number} ({how}) in an outdated ledger: {wrong}"
                came = came or number in self._driver.fired
            if not came:
                return

    def _wrong_when_queued_again(self) -> Iterator[str]:
        """What is wrong after one fault in a batch that prunes a message and queues another one of its id."""
        for number in itertools.count(1):
            came = False
            for how in HOWS:
                self._reader.execute("DELETE FROM message_outbox WHERE id = 'again'")
                self._reader.execute(_ENDED_LONG_AGO)
                self._driver.arm({number: how})
                said = _attempt(self._queue_again)
                self._driver.disarm()
                (found,) = self._reader.execute("SELECT status FROM message_outbox WHERE id = 'again'").fetchone()
                if said != {"queued": "done", "delivered": "unchanged"}.get(found):
                    yield f"after the fault {number} ({how}) the call says {said}, and the message is {found}"
                came = came or number in self._driver.fired
            if not came:
                return

    def _queue_again(self) -> None:
        outbox = self._ledger.outbox
        with self._ledger.batch():
            outbox.prune(1)
            outbox.enqueue(channel="mail", target="you", payload={}, message_id="again")

    def wrong_after_interrupts(self) -> Iterator[str]:
        """What is wrong after an interrupt at each statement, and then another process's change.

        A caller may also drop the interrupt of a call in its batch: then all of the batch is made, or nothing.
        """
        for then in (None, self._refused, self._redone):
            if wrong := self._interrupted_in_memory(then):
                yield f"after an interrupt between the COMMIT and memory, and {then}: {wrong}"
        for number in itertools.count(1):
            came = False
            for how, drops in itertools.product(INTERRUPTS, (False, True)[: 1 + self._in_batch]):
                wrong = self._interrupted({number: how}, drops=drops)
                if wrong:
                    yield f"after an interrupt at statement {number} ({how}{', dropped' * drops}): {wrong}"
                came = came or bool(self._driver.fired)
            if not came:
                return

    def _refused(self) -> None:
        with contextlib.suppress(LedgerError):
            self._ledger.tasks.start("nobody")

    def _redone(self) -> None:
        self._ledger.tasks.progress(self._task, f"turn {self._turn}")

    def _interrupted_in_memory(self, then: Callable[[], None] | None) -> str:
        """No other process changes the row here: that alone would have it read again.

        The next call is a query, or `then`, which changes nothing.
        """
        self._turn += 1
        with mock.patch.object(RegistryEngine, "_adopt", side_effect=KeyboardInterrupt):
            try:
                said = _attempt(self._change)
            except KeyboardInterrupt:
                said = "interrupted"
        if then is not None:
            then()
        shown, stored = self._texts(), self._stored()
        if said != "interrupted" or shown != stored or stored != [f"turn {self._turn}"]:
            return f"the call says {said}, it shows {shown}, and the rows have {stored}"
        return self._wrong_when_well()

    def _interrupted(self, faults: Mapping[int, str], *, drops: bool) -> str:
        self._turn += 1
        before = self._rows()
        self._driver.arm(faults)
        try:
            said = _attempt(lambda: self._change(drops=drops))
        except KeyboardInterrupt:
            said = "interrupted"
        self._driver.disarm()
        after, whole = self._rows(), (f"turn {self._turn}", before[-1] + self._in_batch)
        wrong = ""
        is_dropped = drops and said in ("done", "unchanged", "unknown")
        if self._driver.fired and said != "interrupted" and not is_dropped:
            wrong = f"the call says {said}"
        if after != whole and (said == "done" or after != before):
            wrong = f"the call says {said}, and of the batch there is a part: {after}"
        return wrong or self._changed_by_another() or self._wrong_when_well()

    def _look_after(self, faults: Mapping[int, str]) -> tuple[str, str]:
        """The change and a query, under faults; then none. What the ledger said of the change, and what is wrong."""
        said, wrong = self._changed(faults)
        wrong = wrong or self._unheard() or self._changed_by_another()
        shown: list[Any] = []
        answer = _attempt(lambda: shown.extend(self._texts()))
        self._driver.disarm()
        if answer == "done" and shown != self._stored():
            wrong = wrong or f"it shows {shown}, and the rows have {self._stored()}"
        return said, wrong or self._wrong_when_well()

    def _changed_by_another(self) -> str:
        """Another process changes the row; what keeps it from doing so."""
        return self._written(f"another's, after turn {self._turn}")

    def _written(self, text: str | None) -> str:
        try:
            self._reader.execute("UPDATE tasks SET progress_summary = ?", (text,))
        except sqlite3.OperationalError as error:
            return f"another process can't write: {error}"
        return ""

    def _unheard(self) -> str:
        """What differs: memory, without a new look at the rows; the rows; and what observers were notified of."""
        known, heard = self._ledger.tasks.view().tasks, self._mirror.tasks
        texts = [one.progress_summary for one in known.values()]
        if not is_suspect(self._ledger) and texts != self._stored():
            return f"memory has {texts}, and the rows have {self._stored()}"
        if self._mirror.wrong or {*known.values()} != {*heard.values()}:
            told = [one.progress_summary for one in heard.values()]
            return f"memory has {texts}, and observers were notified of {told}: {self._mirror.wrong}"
        return ""

    def _close_after(self, faults: Mapping[int, str]) -> str:
        """The change under faults, and the end of the ledger, which makes a fence that is owed."""
        said, wrong = self._changed(faults)
        self._driver.disarm()
        fences = self._fences()
        self._ledger.close()
        if said == "unknown" and self._fences() == fences:
            wrong = wrong or "the fence that was owed was not made at the end"
        self._open()
        return wrong or self._wrong_when_well()

    def _again_after(self, faults: Mapping[int, str]) -> str:
        """The change under faults, and at once again without any."""
        said, wrong = self._changed(faults)
        self._driver.disarm()
        self._turn += 1
        again = _attempt(self._change)
        if said == "unchanged" and again != "done":
            wrong = wrong or f"it says unchanged, and when it is made again, {again}"
        return wrong or self._wrong_when_well()

    def _changed(self, faults: Mapping[int, str]) -> tuple[str, str]:
        self._turn += 1
        before, fences = self._rows(), self._fences()
        self._driver.arm(faults)
        said = _attempt(self._change)
        after = self._rows()
        if not {"done": after != before, "unchanged": after == before, "unknown": True}.get(said, False):
            return said, f"it says {said}, and the rows were {before} and are {after}"
        if said == "unknown" and len(self._driver.fired) < _TO_BE_UNKNOWN:
            return said, "it says unknown, although nothing failed while it was settled"
        if said == "unknown" and not self._owes_a_fence():
            return said, "it says unknown, and there is no fence left to make"
        if said != "unknown" and self._driver.is_ambiguous and self._fences() == fences:
            return said, f"it says {said} of a change that may come back, or go, for there was no fence"
        return said, ""

    def _given_up(self, faults: Mapping[int, str]) -> tuple[str, str]:
        before = self._rows()
        self._driver.arm(faults)

        def begin() -> None:
            with self._ledger.batch():
                self._begun(f"turn {self._turn}")
                raise IllegalTransition("the caller gives up")

        said = _attempt(begin)
        after = self._rows()
        return said, "" if after == before else f"a batch was given up, and the rows were {before} and are {after}"

    def _change(self, *, drops: bool = False) -> None:
        ledger, text = self._ledger, f"turn {self._turn}"
        if not self._in_batch:
            ledger.tasks.progress(self._task, text)
            return
        with ledger.batch():
            try:
                failed = _attempt(lambda: self._begun(text)) != "done"
            except KeyboardInterrupt:
                if not drops:
                    raise
                failed = True
            seen: list[Any] = []
            if _attempt(lambda: seen.extend(self._texts())) == "done" and not failed and seen != [text]:
                raise RuntimeError(f"a query in a batch shows {seen}, after a change to {text}")
            if _attempt(ledger.outbox.list) == "done" and failed:
                raise RuntimeError("a batch that can't be committed answers a query")
            ledger.outbox.enqueue(channel="mail", target="you", payload={}, message_id=text)

    def _begun(self, text: str) -> None:
        self._ledger.tasks.progress(self._task, "a draft")
        # It reads the row that the batch has written.
        self._ledger.tasks.progress_by_run("run", text)

    def _wrong_when_well(self) -> str:
        """What is wrong although nothing fails any more."""
        self._turn += 1
        try:
            shown, settings, stored = self._texts(), self._asked(), self._stored()
            opened, told = self._driver.opened, self._mirror.changes
            self._ledger.tasks.progress(self._task, f"turn {self._turn}")
        except Exception as error:  # noqa: BLE001 - whatever it raises is wrong
            return f"nothing fails any more, and the ledger raises {error!r}"
        wanted = [f"turn {self._turn}"]
        self._mirror.was_told = False
        if shown != stored or self._texts() != wanted or self._stored() != wanted:
            return f"it shows {shown} and {self._texts()}, and the rows had {stored} and have {self._stored()}"
        if {*settings.items(), *self._asked().items()} != {*self._settings.items()}:
            return f"its settings were {self._settings}, and are {settings}"
        for left, is_so in (
            ("a fence is still owed", self._owes_a_fence()),
            ("this thread still holds a lock", holds_a_lock(self._ledger)),
            ("observers were notified of more than that", self._mirror.changes != told + 1),
            ("the database is opened again at each call", self._driver.opened != opened),
            ("all rows are loaded again at each query", self._mirror.was_told),
        ):
            if is_so:
                return f"a change was committed, and {left}"
        if self._mirror.wrong or [one.progress_summary for one in self._mirror.tasks.values()] != self._texts():
            return f"observers were notified of other changes than there were: {self._mirror.wrong}"
        unsynced = [
            level
            for last, level in self._driver.commits
            if last.startswith("INSERT INTO ledger_fence") and level < _FULL
        ]
        return "a fence was committed without a sync" if unsynced else ""

    def _owes_a_fence(self) -> bool:
        return self._ledger.database is not None and self._ledger.database.fence_owed

    def _texts(self) -> list[str | None]:
        return [task.progress_summary for task in self._ledger.tasks.list()]

    def _stored(self) -> list[str | None]:
        return [text for (text,) in self._reader.execute("SELECT progress_summary FROM tasks").fetchall()]

    def _rows(self) -> tuple[Any, ...]:
        return (*self._stored(), *self._reader.execute("SELECT count(*) FROM message_outbox").fetchone())

    def _fences(self) -> int:
        return int(self._reader.execute("SELECT count FROM ledger_fence").fetchone()[0])

    def _asked(self) -> dict[str, Any]:
        connection = self._ledger.database.connection  # type: ignore[union-attr] # it is on SQLite
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _SETTINGS}


def _attempt(make: Callable[[], object]) -> str:
    """What a call says: ``done``, or the outcome of its error; any other error is an answer of its own."""
    try:
        make()
    except StoreError as error:
        is_busy = error.sqlite_errorcode == BUSY
        return error.outcome if error.retryable or not is_busy else "that it was locked, and that a retry is of no use"
    except Exception as error:  # noqa: BLE001 - the caller judges it
        return repr(error)
    return "done"
