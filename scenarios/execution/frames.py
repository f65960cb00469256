"""Tracebacks of errors that a store has raised: what they keep alive, and where the error came from."""

import traceback
from typing import Final, NamedTuple

from tornpage import faults
from tornpage.scenarios.model.judging.with_statements import remember_a_with

_FORGOTTEN: Final = "_tornpage_forgotten"


class Line(NamedTuple):
    """A line of a traceback: its module, its file, and its number."""

    module: str
    file: str
    number: int


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and its causes.

    Their frames hold cursors, and a connection that is closed while a cursor lives stays open inside SQLite: the next
    session on these files would share its view of the WAL.
    """
    for cause in faults.causes(error):
        if cause.__traceback__ is not None:
            setattr(cause, _FORGOTTEN, lines_of(cause))
            remember_a_with(cause)
            cause.__traceback__ = None


def lines_of(error: BaseException) -> list[Line]:
    """The lines through which an error came, the innermost one last; those of frames that are forgotten, too."""
    forgotten: list[Line] = getattr(error, _FORGOTTEN, [])
    seen = [(frame.f_globals, frame.f_code, number) for frame, number in traceback.walk_tb(error.__traceback__)]
    return [Line(names.get("__name__", ""), code.co_filename, number) for names, code, number in seen] + forgotten
