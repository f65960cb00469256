"""The errors of this package itself: misuse of a plan, and a libsqlite3 that can't be reached.

An *injected* fault is neither: it is a real ``sqlite3`` exception with SQLite's own code.
"""


class FaultError(Exception):
    """The base class of this package's own errors."""


class PlanError(FaultError, ValueError):
    """A fault plan that can't be parsed; the message shows the position and what is allowed there."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        super().__init__(
            f"cannot read the fault plan at column {position + 1}: expected {expected}\n  {text}\n  {' ' * position}^"
        )


class ImpossibleFaultError(FaultError, ValueError):
    """A fault that no real system can produce; the message lists the possible ones."""


class ShimUnavailableError(FaultError, RuntimeError):
    """The libsqlite3 behind a binding can't be reached; the ``statement`` depth still works."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the vfs depth is not available: {reason}. "
            "The statement depth works everywhere: use --depth statement, or faults.faulting_connect()."
        )


class NotInstalledError(FaultError, RuntimeError):
    """A plan, rival or recording was started outside an ``install()`` scope, so no file would be watched."""


class SubinterpreterError(FaultError, RuntimeError):
    """Subinterpreters are not allowed while a shim is installed: SQLite would call the shim's functions in them."""


class AllocatorUnavailableError(FaultError, RuntimeError):
    """SQLite's allocator can't be replaced now, or has not been: single allocations can't be made to fail."""
