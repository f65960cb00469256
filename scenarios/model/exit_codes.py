"""The process's exit codes."""

from enum import IntEnum


class Exit(IntEnum):
    """The process's exit codes."""

    HOLDS = 0
    FINDING = 1
    NOT_TESTED = 2
    INTERRUPTED = 130
