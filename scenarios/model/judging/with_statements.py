"""Errors that a library's own ``with connection`` raises at the end of a block, in the place of another error.

That other error has left the block, or is of the COMMIT at its end; the library then sends a ROLLBACK, which fails if
SQLite has rolled back already. apsw does so, and Python's sqlite3 with ``autocommit=False``.
"""

import dis
import functools
from types import CodeType
from typing import Final

_REMEMBERED: Final = "_tornpage_of_a_with"
# Between the three arguments of an ``__exit__`` after a block without an error, and its call.
_BETWEEN: Final = frozenset({"PRECALL", "CACHE"})


def is_of_a_with(error: BaseException) -> bool:
    """Whether C code has raised it at the end of a ``with`` block, in the place of its context."""
    if getattr(error, _REMEMBERED, False):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or error.__context__ is None:
        return False
    # Python code would have a frame of its own here.
    return _ends_a_with(last.tb_frame.f_code, last.tb_lasti)


def remember_a_with(error: BaseException) -> None:
    """Let `is_of_a_with` be right of an error whose traceback is dropped next."""
    if is_of_a_with(error):
        setattr(error, _REMEMBERED, True)


@functools.lru_cache(maxsize=1024)
def _ends_a_with(code: CodeType, offset: int) -> bool:
    """Whether the instruction calls ``__exit__``: after an error, or with None three times."""
    before = [one for one in dis.get_instructions(code) if one.offset <= offset and one.opname not in _BETWEEN]
    if not before or before[-1].offset != offset:
        return False
    if before[-1].opname == "WITH_EXCEPT_START":
        return True
    nothing = [one for one in before[-4:-1] if one.opname.startswith("LOAD_") and one.argval is None]
    return before[-1].opname == "CALL" and len(nothing) == 3
