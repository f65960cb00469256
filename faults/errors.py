"""The two ways in which this package says no: misuse of a plan, and a libsqlite3 that cannot be reached.

An *injected* fault is neither: it is a real ``sqlite3`` exception with SQLite's own code.
"""


class FaultError(Exception):
    """The base of what this package raises on its own account."""


class PlanError(FaultError, ValueError):
    """A fault plan that cannot be read; the message shows the place and what is allowed there."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        super().__init__(
            f"cannot read the fault plan at column {position + 1}: expected {expected}\n  {text}\n  {' ' * position}^"
        )


class ImpossibleFaultError(FaultError, ValueError):
    """A fault that no real system can produce, with the possible ones beside it."""


class ShimUnavailableError(FaultError, RuntimeError):
    """The libsqlite3 behind ``sqlite3`` cannot be reached from here; the ``statement`` depth still works."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the vfs depth is not available: {reason}. "
            "The statement depth works everywhere: use --depth statement, or faults.faulting_connect()."
        )


class NotInstalledError(FaultError, RuntimeError):
    """Arming was asked for outside an ``install()`` scope, so no file would have been watched."""


class SubinterpreterError(FaultError, RuntimeError):
    """A subinterpreter and the shim exclude each other: SQLite would call the shim's functions in it."""


class AllocatorUnavailableError(FaultError, RuntimeError):
    """SQLite's allocator cannot be exchanged now, or has not been: exact allocations are out of reach."""
