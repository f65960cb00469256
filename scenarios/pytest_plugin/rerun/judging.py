"""The verdict of one run under a fault: the fault surfaced, was absorbed, or showed a defect.

*Surfaced*: the test ended with an exception that is, or is caused by, an error of ``sqlite3`` that a failing file
system can cause, or the injected error of a plain file itself. The kind of the error counts, not only its class: "no
such table" or a UNIQUE constraint after a fault is a consequence in the code under test, not a report of the fault.

*Absorbed*: the test passed. *Failed*: it ended in any other way, also by an assertion that fails while the fault is
being handled; or it left the database damaged, or, unless the test itself ran the failing statement, a transaction
open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Final

import pytest

from tornpage import faults
from tornpage.faults.files import is_made
from tornpage.faults.integrity import problems_of
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.hidden_errors import names_a_fault
from tornpage.scenarios.pytest_plugin.rerun.connections import file_of

# Primary result codes caused by the code's own request, and not below SQLite.
_OF_THE_CODE: Final = frozenset(
    getattr(sqlite3, f"SQLITE_{name}")
    for name in ("ERROR", "CONSTRAINT", "MISUSE", "MISMATCH", "RANGE", "SCHEMA", "TOOBIG", "AUTH", "ABORT")
)
# Packages that pass a statement on to ``sqlite3`` for their caller, and those that they use to do so elsewhere.
_DRIVERS: Final = frozenset({
    "aiosqlite", "anyio", "apsw", "asgiref", "asyncio", "concurrent", "contextlib", "databases", "django", "greenlet",
    "peewee", "playhouse", "pysqlite3", "sqlalchemy", "sqlean", "sqlite3", "sqlmodel", "threading", "tortoise", "trio",
    "uvloop",
})  # fmt: skip
# Whose context managers expect an error.
_EXPECTING: Final = frozenset({"_pytest", "unittest"})
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN)

SURFACED, ABSORBED, FAILED, VACUOUS = "surfaced", "absorbed", "failed", "vacuous"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a run: the kind, and the error in words; `shown` if the exception itself has it."""

    kind: str
    message: str = ""
    shown: bool = False


def injected(error: BaseException) -> BaseException | None:
    """The error of SQLite, of any binding, or of a plain file, that a fault causes; or the one that led to one."""
    errors, of_the_code = faults.sqlite_errors(), faults.errors_of_the_code()
    for cause in faults.causes(error):
        if is_made(cause):
            return cause
        if isinstance(cause, errors) and not isinstance(cause, of_the_code):
            code = faults.result_code(cause)
            if code is None or code & 0xFF not in _OF_THE_CODE:
                return cause
    return None


def judge(error: BaseException | None, armed: faults.Armed) -> Verdict:
    """The verdict on how a run ended."""
    if not armed.firings:
        if error is not None:
            return Verdict(FAILED, f"the fault did not fire, and the test ended with {in_words(error)}", shown=True)
        return Verdict(VACUOUS, never_fired(armed))
    if error is None:
        return Verdict(ABSORBED)
    if injected(error) is not None and not _is_failed_assertion(error):
        return Verdict(SURFACED)
    if isinstance(error, pytest.skip.Exception | pytest.xfail.Exception):
        return Verdict(FAILED, f"under the fault it ended with {in_words(error)}, which proves nothing")
    return Verdict(FAILED, in_words(error) + _of_a_late_error(armed), shown=True)


def _of_a_late_error(armed: faults.Armed) -> str:
    """The note on a fault after an unlock: SQLite reports it at the first unlock after a COMMIT, and at no other."""
    if not any((firing.kind, firing.fault.timing) == ("unlock", "after") for firing in armed.firings):
        return ""
    return " (SQLite reports this fault after the COMMIT has taken effect: the call fails, and its change is on disk)"


def _is_failed_assertion(error: BaseException) -> bool:
    """Whether an assertion failed while the fault was being handled, in an ``except`` or a ``finally``.

    Code that expects an error, such as ``pytest.raises(match=…)``, also fails by an assertion if it meets another one.
    """
    if not isinstance(error, AssertionError | pytest.fail.Exception) or error.__cause__ is not None:
        return False
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__exit__" and _package_of(frame) in _EXPECTING:
            return False
        trace = trace.tb_next
    return True


def never_fired(armed: faults.Armed) -> str:
    """The message for a plan of which a fault did not fire."""
    fired = {firing.fault for firing in armed.firings}
    missing = [
        f"{fault} (there were {count} such operations)" if count else f"{fault} (there was no such operation)"
        for fault, count in zip(armed.plan.faults, armed.injector.matches, strict=True)
        if fault not in fired
    ]
    return f"never fired: {'; '.join(missing)}. A fault that does not fire tests nothing"


def in_words(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def cure_of(error: BaseException) -> str:
    """The advice for an error that is not a fault of the disk, "" for none."""
    if not isinstance(error, sqlite3.OperationalError) or "no transaction is active" not in str(error):
        return ""
    return (
        " (with autocommit=False, SQLite's own rollback leaves the connection outside of a transaction: after an error "
        "set `autocommit = False` again, or open a new connection; see docs/autocommit-false.md)"
    )


def hidden(error: BaseException, test: CodeType | None) -> str:
    """The error message for an exception that does not name the fault, "" if it does.

    An exception that a statement of the test itself raises, in the test's own handler, does not count.
    """
    if test is not None and _raised_in(error) is test:
        return ""
    if isinstance(error, SystemExit) and not error.code:
        return f"error-is-not-hidden: SystemExit: {error.code}; a program that ends so reports success"
    if names_a_fault(error):
        return ""
    return f"error-is-not-hidden: {in_words(error)}; neither that nor its cause names the fault"


def left_open(
    connections: Iterable[sqlite3.Connection | str], error: BaseException | None, test: CodeType | None
) -> str:
    """The error message for transactions that are open after a run, "" for none.

    The test's own statements do not count: it has ended there, and nothing uses its connection any more.
    """
    open_ones = list(connections)
    if not open_ones:
        return ""
    cause = injected(error) if error is not None else None
    if cause is not None and test is not None and _raised_in(cause) is test:
        return ""
    where = ", ".join(sorted({file_of(connection) for connection in open_ones}))
    how = f"raised {in_words(error)}" if error is not None else "did not report the fault"
    return f"the code under test {how} and left a transaction open on {where}: its next user is inside it"


def _raised_in(error: BaseException) -> CodeType | None:
    """The code whose call into SQLite failed: the innermost Python code that does not belong to a driver.

    A driver acts for its caller: if a statement of the test goes through aiosqlite, or through a thread that the test
    passes it to, it counts as the test's own.
    """
    found, trace = None, error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        # apsw adds frames of its own C code to a traceback.
        is_python = not frame.f_code.co_filename.endswith(".c")
        if is_python and _package_of(frame) not in _DRIVERS:
            found = frame.f_code
        trace = trace.tb_next
    return found


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def damage(paths: Iterable[str]) -> tuple[str, list[str]]:
    """The damage that SQLite itself finds in these databases, past every fault; and those that could not be checked."""
    locked = []
    for path in paths:
        try:
            connection = faults.connect_unwatched(path)
        except sqlite3.OperationalError:
            continue  # The test has removed it.
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            # Closing the last connection to a log removes it, and this may be the last.
            connection.execute("PRAGMA synchronous = OFF")
            problems = problems_of(connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in _BUSY:
                locked.append(path)
                continue
            return f"{path} can't be read: {error}", []
        except sqlite3.DatabaseError as error:
            return f"{path} can't be read: {error}", []
        finally:
            connection.close()
        if problems:
            return f"PRAGMA integrity_check of {path} reports: {'; '.join(problems)}", []
    return "", locked
