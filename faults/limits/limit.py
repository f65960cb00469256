"""The base class of all limits: a limit is in force inside scopes, can be reached, and may cause an error."""

import abc
import contextlib
from contextlib import AbstractContextManager
from types import ModuleType

from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.arm import causes


class Limit(abc.ABC):
    """One limit; it may be in force in several scopes, and counts over all of them.

    `reached` is the usage of the code under it, in the unit of the limit; `fired` is how often the limit was hit, and
    `surfaced` how many errors reached a caller. If a limit is not `certain`, only an error shows that it was hit.
    """

    certain = True
    # `fired` is up to date at once.
    is_known_late = False

    def __init__(self, module: ModuleType = sqlite3) -> None:
        self.reached = 0
        self.fired = 0
        self.surfaced = 0
        self._errors = (module.Error, MemoryError)
        self._fired_when_last_seen = 0

    @abc.abstractmethod
    def in_force(self) -> AbstractContextManager[None]:
        """Put the limit in force inside this scope."""

    def paused(self) -> AbstractContextManager[None]:
        """No effect: outside `in_force` the limit doesn't apply."""
        return contextlib.nullcontext()

    def saw(self, error: BaseException) -> bool:
        """Report an error that reached a caller; True if this limit, hit since the last report, caused it."""
        if not any(isinstance(cause, self._errors) for cause in causes(error)):
            return False
        if not self.certain:
            self.fired += 1
        elif self.fired == self._fired_when_last_seen:
            return False
        self._fired_when_last_seen = self.fired
        self.surfaced += 1
        return True
