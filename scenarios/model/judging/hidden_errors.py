"""The check ``error-is-not-hidden``: the caller of a failed call learns the real error.

The caller has the exception, and its causes: its ``__cause__``, or without one, and if nothing suppresses it, its
``__context__``, as a traceback shows them. The check walks this chain from the outside in; the first error of the
database decides:

- an error of SQLite, of the operating system or of memory that is not itself a *consequence* names the fault;
- a consequence (a ROLLBACK, COMMIT or BEGIN that came too late, a closed connection) raised in its place hides it, even
  with the fault as its context: a handler would look at the transaction although the disk was full;
- but one that a library's own ``with connection`` raises at its end (apsw, and Python's with ``autocommit=False``, roll
  back what SQLite has rolled back already) is none of the store's: the fault, its context, decides;
- a store's own exception names the fault by its cause, by SQLite's words in its message, by the error that its message
  quotes ("OperationalError: …", as an ORM writes), or by a word for that kind of error in its name (`StoreBusy`,
  `DiskFull`); otherwise it hides the fault.

A call that is *refused* under a fault, and succeeds without it, hides an error whatever its cause: the caller got "no
such key". Only a refusal that repeats SQLite's own message ("database is locked") names the fault. Not applied: where
no fault fired; where the call was acknowledged (the other checks judge the state it left).

Of a program in another language only a message is known, written by the author of its adapter: there the check fails
only for a message that describes a consequence and names no fault.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.judging.with_statements import is_of_a_with
from tornpage.scenarios.model.target import Action

CODE: Final = "error-is-not-hidden"

# Messages about a transaction that SQLite has ended already, or has not ended, and about a closed connection.
_CONSEQUENCE: Final = re.compile(
    r"cannot (rollback|commit)|no transaction is active|within a transaction|no such savepoint|closed database|"
    r"bad parameter or other api misuse|(safety level|wal mode).*(inside|within) a transaction",
    re.IGNORECASE,
)
# SQLite's own words, and words for its errors, as a message may quote or repeat them.
_NAMED: Final = re.compile(
    r"sqlite_(?!error\b)[a-z]+|\bi/?o[ -_]?error|input/output|\bdisk\b|\bfull\b|no space|\block(ed|s)?\b|\bbusy\b|"
    r"time[ds]?[ -_]?out|\bmemory\b|interrupt|unable to open|can(no|')?t open|cannot be opened|malformed|corrupt|"
    r"damaged|not a database|read-?only|errno \d|permission|not permitted|locking protocol",
    re.IGNORECASE,
)
# An error that a message quotes by its class, with a message that is not SQLite's own ("Error creating function").
_QUOTED: Final = re.compile(r"\b(Operational|Database|Internal|Interface|Memory|OS|IO|Permission)Error\b")
# SQLite's own messages, one of which a refusal has to repeat: a key may be called "disk".
_MESSAGES: Final = re.compile(
    r"sqlite_(?!error\b)[a-z]+|database (table )?is locked|disk i/o error|database or disk is full|unable to open "
    r"database|out of memory|disk image is malformed|is not a database|readonly database|\binterrupted\b|"
    r"locking protocol",
    re.IGNORECASE,
)
# The same words as parts of a class name such as StoreBusy.
_IN_A_NAME: Final = re.compile(r"busy|lock|timeout|timedout|full|memory|interrupt|corrupt|disk|ioerror", re.IGNORECASE)
_FAULTS: Final = (OSError, MemoryError)


def require_named(action: Action, answer: Answer, fault: str) -> None:
    """Raise `Violation` where the answer to `action`, given under `fault` (in words), does not name the fault."""
    error = answer.error
    if answer.kind == "done" or error is None or getattr(error, "is_no_answer", False):
        return
    if answer.kind == "refused":
        is_hidden = not _MESSAGES.search(_own_text(error))
    elif getattr(error, "is_only_a_message", False):
        is_hidden = bool(_CONSEQUENCE.search(str(error))) and not _NAMED.search(str(error))
    else:
        is_hidden = not names_a_fault(error)
    if not is_hidden:
        return
    if answer.kind == "refused":
        raise Violation(
            CODE,
            f"{action} is refused ({_own_text(error)}) where a fault is met: {fault}; without the fault it is "
            "acknowledged, and the refusal does not name it",
        )
    said = f"{type(error).__name__}: {_own_text(error)}".removesuffix(": ")
    raise Violation(
        CODE,
        f"{action} fails and hides the fault: the caller gets {said}; neither that nor its cause names what "
        f"failed: {fault}",
    )


def is_of_an_open_transaction(error: BaseException | None) -> bool:
    """Whether a call failed because its connection has a transaction open."""
    return error is not None and any("within a transaction" in _own_text(one) for one in _shown(error))


def names_a_fault(error: BaseException) -> bool:
    """Whether an exception, or one of its visible causes, is or names an error of the database or the system."""
    for one in _shown(error):
        said = _is_fault(one)
        if said is False and is_of_a_with(one):
            continue
        if said is not None:
            return said
        if _names_it(_own_text(one)) or speaks_of_trouble(type(one).__name__):
            return True
    return False


def _names_it(text: str) -> bool:
    """Whether a message has words for an error of the database, or quotes one that is no consequence of another."""
    return bool(_NAMED.search(text) or (_QUOTED.search(text) and not _CONSEQUENCE.search(text)))


def _is_fault(error: BaseException) -> bool | None:
    """Whether an error of the database is the fault itself (True) or a consequence; None for any other error."""
    if isinstance(error, _FAULTS):
        return True
    if not isinstance(error, sqlite3.Error | sqlite3.Warning) and not is_foreign(error):
        return None
    return not _CONSEQUENCE.search(str(error))


def is_a_consequence(error: object) -> bool:
    """Whether an error of the database only follows from another one, such as that of a ROLLBACK that came too late."""
    return isinstance(error, BaseException) and _is_fault(error) is False


def is_foreign(error: BaseException) -> bool:
    """Whether the error comes from another SQLite binding, such as pysqlite3 or apsw."""
    return type(error).__module__.partition(".")[0] in {"pysqlite3", "apsw", "sqlcipher3", "sqlean"}


def speaks_of_trouble(name: str) -> bool:
    """Whether the name of an exception, such as StoreBusy, has a word for an error below a store."""
    return _IN_A_NAME.search(name) is not None


def _own_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception that can't even be shown names nothing
        return ""


def _shown(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes as a traceback shows them, from the outside in; of a group, each member in turn."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if one.__cause__ is not None:
            waiting.append(one.__cause__)
        elif not one.__suppress_context__:
            waiting.append(one.__context__)
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(one.exceptions)
