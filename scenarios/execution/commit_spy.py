"""The states that one call commits, one after the other."""

from collections.abc import Callable

from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import View


class CommitSpy:
    """An injector that never fires; at each commit, or before each lock, it reads the committed state with `look`."""

    kinds = frozenset({"commit", "lock", "shmlock"})

    def __init__(self, look: Callable[[], View]) -> None:
        self.seen: list[View] = []
        self._look = look
        self._looks = False

    def decide(self, kind: str, role: str, path: str | None) -> None:  # noqa: ARG002 - the protocol's shape
        """Read, and never inject; during a write nothing new is committed, and reads may be impossible."""
        if self._looks:
            return
        self._looks = True
        try:
            view = self._look()
        except (Exception, Violation):  # noqa: BLE001 - it is read again at the next lock, and after the call
            return
        finally:
            self._looks = False
        if not self.seen or view != self.seen[-1]:
            self.seen.append(view)
