"""What every limit has in common: it is in force in scopes, it is met, and an error may come of that."""

import abc
import contextlib
from contextlib import AbstractContextManager
from types import ModuleType

from tornpage.faults.sqlite_library import sqlite3
from tornpage.faults.vfs.arm import causes


class Limit(abc.ABC):
    """One limit; it may be put in force again and again, and counts over all of that.

    `reached` is how far the code under it came, in the unit of the limit; `fired` how often it was met, and `surfaced`
    how many errors reached a caller. Where a limit is not `certain`, only an error tells that it was met.
    """

    certain = True
    # It knows at once whether it was met, as far as it knows at all.
    is_known_late = False

    def __init__(self, module: ModuleType = sqlite3) -> None:
        self.reached = 0
        self.fired = 0
        self.surfaced = 0
        self._errors = (module.Error, MemoryError)
        self._fired_when_last_seen = 0

    @abc.abstractmethod
    def in_force(self) -> AbstractContextManager[None]:
        """Inside this scope the limit can be met."""

    def paused(self) -> AbstractContextManager[None]:
        """Nothing to do: outside `in_force` it is not met anyway."""
        return contextlib.nullcontext()

    def saw(self, error: BaseException) -> bool:
        """Tell of an error that reached a caller; True if it came of this limit, met since the last one."""
        if not any(isinstance(cause, self._errors) for cause in causes(error)):
            return False
        if not self.certain:
            self.fired += 1
        elif self.fired == self._fired_when_last_seen:
            return False
        self._fired_when_last_seen = self.fired
        self.surfaced += 1
        return True
