"""A ledger of whose driver each statement is seen: an import's commits, two openers at once, a switch of the mode."""

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tornpage.ledger import Ledger, LedgerError, StoreError
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.scenarios.targets.reference.lives.failing_driver import HOWS, Driver
from tornpage.scenarios.targets.reference.lives.openings import BEFORE, lost_rows, place

# SQLite's numbers of the levels at which a commit survives a power cut.
_FULL: Final = 2
_EXTRA: Final = 3


def imports(home: Path, clock: Callable[[], int], *, journal_mode: str, synchronous: str) -> list[str]:
    """What was wrong with imports, each with one fault at another statement; empty if nothing was.

    A removed file's message was committed at a level that survives a power cut, whatever the ledger's own level, which
    is in force again afterwards.
    """
    with place(home) as directory:
        driver = Driver()
        ledger = Ledger.open(
            directory, connect=driver, clock=clock, journal_mode=journal_mode, synchronous=synchronous, observers=()
        )
        with contextlib.closing(ledger):
            needed = _EXTRA if journal_mode == "delete" else _FULL
            return list(itertools.islice(_wrong_imports(ledger, driver, directory / "queue", needed), 1))


def _wrong_imports(ledger: Ledger, driver: Driver, queue: Path, needed: int) -> Iterator[str]:
    queue.mkdir()
    level = _level(ledger)
    for number in itertools.count(1):
        came = False
        for how in HOWS:
            file = queue / f"{number}-{how}.json"
            file.write_text(json.dumps({"id": file.stem, "channel": "mail", "to": "you"}))
            driver.arm({number: how})
            with contextlib.suppress(StoreError):
                ledger.outbox.import_legacy(queue)
            driver.disarm()
            came = came or number in driver.fired
            if number not in driver.fired and file.exists():
                yield "without a fault the file stays"
            if not file.exists() and ledger.outbox.get(file.stem) is None:
                yield f"after a fault at statement {number} ({how}) the file is gone, and there is no message"
            if _level(ledger) != level:
                yield f"after a fault at statement {number} ({how}) the level is {_level(ledger)}, and was {level}"
        low = [one for last, one in driver.commits if "outbox_imports" in last and one < needed]
        if low:
            yield f"an import was committed at level {low[0]}, and a power cut may lose it"
        if not came:
            return


def _level(ledger: Ledger) -> int:
    ledger.outbox.list()
    return int(ledger.database.connection.execute("PRAGMA synchronous").fetchone()[0])  # type: ignore[union-attr] # it is on SQLite


def switch(home: Path, clock: Callable[[], int], *, locked: int, busy_timeout_ms: int) -> str:
    """The journal mode after an opening that switches it, which finds the database locked so many times; or the error.

    SQLite itself doesn't wait for the lock there.
    """
    with place(home) as directory:
        BEFORE["other mode"](directory)
        driver = Driver()
        driver.locked_switches = locked
        how: dict[str, Any] = {"journal_mode": "wal", "busy_timeout_ms": busy_timeout_ms}
        try:
            with contextlib.closing(Ledger.open(directory, connect=driver, clock=clock, **how)) as ledger:
                return ledger.database.journal_mode  # type: ignore[union-attr] # it is on SQLite
        except StoreError as error:
            return f"{type(error).__name__} {error.retryable}"


def broken_openings(home: Path, clock: Callable[[], int], *, before: str) -> list[str]:
    """What was wrong after an opening that failed at one statement, each in turn; empty if nothing was.

    The next opening succeeds, nothing that was there has changed, and the failed one has left nothing open.
    """
    return list(itertools.islice(_wrong_after_failures(home, clock, before), 1))


def _wrong_after_failures(home: Path, clock: Callable[[], int], before: str) -> Iterator[str]:
    for number in itertools.count(1):
        came = False
        for how in ("before", "after"):
            with place(home) as directory:
                BEFORE[before](directory)
                driver = Driver()
                driver.arm({number: how})
                with contextlib.suppress(StoreError):
                    Ledger.open(directory, connect=driver, clock=clock).close()
                try:
                    # Nobody else has the file open: its mode could not be switched else.
                    Ledger.open(directory, clock=clock, journal_mode="delete", busy_timeout_ms=0).close()
                    wrong = lost_rows(directory, before)
                except (LedgerError, sqlite3.Error) as error:
                    wrong = [error]
                if wrong:
                    yield f"after a fault at statement {number} ({how}): {wrong}"
                came = came or bool(driver.fired)
        if not came:
            return


def openers(home: Path, clock: Callable[[], int], *, before: str) -> list[str]:
    """What was wrong with an opening during which another process opens the same directory; empty if nothing was.

    At each statement of the first one's opening in turn; the other one makes a task, unless the first has a lock.
    """
    return list(itertools.islice(_wrong_openings(home, clock, before), 1))


def _wrong_openings(home: Path, clock: Callable[[], int], before: str) -> Iterator[str]:
    for number in itertools.count(1):
        with place(home) as directory:
            BEFORE[before](directory)
            driver = Driver()

            @contextlib.contextmanager
            def meet(another: Callable[[], None], driver: Driver = driver, number: int = number) -> Iterator[None]:
                driver.arm({number: "meanwhile"}, another)
                yield
                driver.disarm()

            wrong = opened_beside(directory, clock, meet, driver)
            if wrong:
                yield f"another opener came at statement {number}: {wrong}"
            if not driver.fired:
                if number == 1:
                    yield "no statement was met, so no other opener came"
                return


def opened_beside(
    directory: Path,
    clock: Callable[[], int],
    meet: Callable[[Callable[[], None]], AbstractContextManager[None]],
    connect: Driver | None = None,
) -> str:
    """What was wrong with an opening inside the scope of `meet`, which calls another process's opening; "" if nothing.

    Both make a task, unless the other one finds a lock.
    """
    how: dict[str, Any] = {"clock": clock, "busy_timeout_ms": 0}
    made: list[str] = []

    def another() -> None:
        with (
            contextlib.suppress(StoreError),
            contextlib.closing(Ledger.open(directory, connect=Driver(), **how)) as ledger,
        ):
            made.append(ledger.tasks.create(runtime="cli", owner_key="me", task="theirs").task_id)

    try:
        with meet(another):
            first = Ledger.open(directory, connect=connect or Driver(), **how)
        with contextlib.closing(first) as ledger:
            made.append(ledger.tasks.create(runtime="cli", owner_key="me", task="mine").task_id)
            shown = {task.task_id for task in ledger.tasks.list()}
    except (LedgerError, sqlite3.Error) as error:
        return f"the first one raises {error!r}"
    with contextlib.closing(sqlite3.connect(directory / DATABASE_NAME)) as connection:
        there = {task_id for (task_id,) in connection.execute("SELECT task_id FROM tasks")}
    return "" if {*made} <= shown == there else f"{made} were made, {sorted(there)} are there, {sorted(shown)} shown"
