"""Whether an exception is a store's refusal: a duplicate key, a missing task, an invalid value.

`Refused` is the harness's own exception for it, which few stores use. Without any fault a store's own exception counts
as a refusal, too, if the call has changed nothing. That is any exception except

- one of SQLite, of the operating system or of memory, or one that was raised from such an error; of SQLite's errors
  only a broken constraint is a refusal;
- one that reports an error in the code (`TypeError`, `AttributeError`, a bare `RuntimeError` and the like);
- one whose name stands for a failure (`StoreBusy`, `DiskFull`, `CorruptRecord`); `QueueFull`, `SeatLocked` and the like
  may be about the things that are kept, and are refusals.

A store of plain files may leave it to the system to say that something is not there, or is there already
(`says_there_is_none`).

A fault never makes an exception a refusal: an exception under a fault is compared with the call's result without one.

A store that loses a race against another caller may say so by any error of its own, or by SQLite's for a lock or a
constraint; `is_mistake` tells those that say nothing of the kind.
"""

import re
from typing import Final

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.hidden_errors import is_foreign, speaks_of_trouble
from tornpage.scenarios.model.target import Action, View

# As bindings and object-relational mappers call a broken constraint.
_CONSTRAINTS: Final = frozenset({"IntegrityError", "ConstraintError"})
# Names of what happens below a store; and of the store itself, which may be busy, locked or full as its things may be.
_OF_THE_MACHINE: Final = re.compile("memory|interrupt|corrupt|disk|ioerror", re.IGNORECASE)
_OF_THE_STORE: Final = re.compile("store|storage|database|db|sql|file", re.IGNORECASE)
_MISTAKES: Final = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, NameError, NotImplementedError,
    RecursionError, ReferenceError, StopAsyncIteration, StopIteration, SyntaxError, SystemError, TypeError,
    UnicodeError,
)  # fmt: skip


def says_no(error: BaseException | None) -> bool:
    """Whether a call that raised `error` without any fault may have been refused by the store."""
    if not isinstance(error, Exception) or isinstance(error, _MISTAKES) or type(error) is RuntimeError:
        return False
    return not any(_is_trouble(one) for one in faults.causes(error))


def may_be_out_of_place(error: BaseException | None) -> bool:
    """Whether a call that raised `error` without any fault may have met a state in which it makes no sense.

    Such as a row that is not there and is taken apart, or an average of nothing. A bare `RuntimeError` says less.
    """
    kinds = (TypeError, AttributeError, ArithmeticError, AssertionError, StopIteration)
    return isinstance(error, kinds) and not any(_is_trouble(one) for one in faults.causes(error) if one is not error)


def says_there_is_none(error: BaseException | None, action: Action, view: View) -> bool:
    """Whether a call that raised `error` without any fault names something that is not there, or is there already.

    That is decided by the `view` before the call: the file of a thing that the view shows, and that is not there, is
    lost.
    """
    parts = {part for key in view for part in (key, *key.split("/"))}
    names = [one for one in action.args.values() if isinstance(one, str)]
    if isinstance(error, FileNotFoundError):
        return bool(names) and parts.isdisjoint(names)
    return isinstance(error, FileExistsError) and not parts.isdisjoint(names)


def is_alike(one: BaseException | None, other: BaseException | None) -> bool:
    """Whether two errors are of one class by its name: some stores make their classes anew when they are opened."""
    ours, theirs = type(one), type(other)
    return (ours.__module__, ours.__qualname__) == (theirs.__module__, theirs.__qualname__)


def _is_trouble(error: BaseException) -> bool:
    name = type(error).__name__
    if name in _CONSTRAINTS:
        return False
    if isinstance(error, sqlite3.Error | sqlite3.Warning | OSError | MemoryError) or is_foreign(error):
        return True
    return speaks_of_trouble(name) and (_OF_THE_MACHINE.search(name) or _OF_THE_STORE.search(name)) is not None


# A connection in the wrong state, a statement that fails as such, or a row that is gone when it is used.
_NONSENSE: Final = frozenset({
    sqlite3.SQLITE_ERROR, sqlite3.SQLITE_INTERNAL, sqlite3.SQLITE_ABORT, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_RANGE,
})  # fmt: skip
_WRAPPED: Final = frozenset({"OperationalError", "ProgrammingError", "InterfaceError", "DatabaseError"})


def is_mistake(error: BaseException) -> bool:
    """Whether an exception shows code that fails, such as a `TypeError` or "no such table", and is no store's answer.

    An `AssertionError` may be a store's own check. Of an object-relational mapper the error beneath counts.
    """
    if type(error).__name__ in _WRAPPED and not isinstance(error, sqlite3.Error):
        error = next((one for one in faults.causes(error) if isinstance(one, sqlite3.Error)), error)
    if isinstance(error, sqlite3.Error) or is_foreign(error):
        code = getattr(error, "sqlite_errorcode", getattr(error, "result", None))
        if isinstance(code, int):
            return code & 0xFF in _NONSENSE
        return isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError)
    return isinstance(error, _MISTAKES) and not isinstance(error, AssertionError)


def keeps_from_opening(error: BaseException) -> bool:
    """Whether an exception of a store that another caller opens, too, is neither about a lock nor its own answer.

    A call may lose a race by a broken constraint, an opening may not: a table that is made twice, a directory, a row.
    """
    name = type(error).__name__
    if isinstance(error, BlockingIOError) or any(faults.is_busy(one) for one in faults.causes(error)):
        return False
    return is_mistake(error) or isinstance(error, sqlite3.Error | OSError) or is_foreign(error) or name in _CONSTRAINTS
