"""What the process's exit code says."""

from enum import IntEnum


class Exit(IntEnum):
    """What the process's exit code says."""

    HOLDS = 0
    FINDING = 1
    NOT_TESTED = 2
    INTERRUPTED = 130
