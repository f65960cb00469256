"""Errors that a library's own ``with connection`` raises at the end of a block that another error leaves."""

import dis
from typing import Final

_REMEMBERED: Final = "_tornpage_of_a_with"


def is_of_a_with(error: BaseException) -> bool:
    """Whether C code has raised it at the end of a ``with`` block, in the place of the error that left the block."""
    if getattr(error, _REMEMBERED, False):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or error.__context__ is None:
        return False
    # Python code would have a frame of its own here.
    return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] == "WITH_EXCEPT_START"


def remember_a_with(error: BaseException) -> None:
    """Let `is_of_a_with` be right of an error whose traceback is dropped next."""
    if is_of_a_with(error):
        setattr(error, _REMEMBERED, True)
