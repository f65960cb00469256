"""Tracebacks of errors that a store has raised: what they keep alive."""

from tornpage import faults


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and its causes.

    Their frames hold cursors, and a connection that is closed while a cursor lives stays open inside SQLite: the next
    session on these files would share its view of the WAL.
    """
    for cause in faults.causes(error):
        cause.__traceback__ = None
