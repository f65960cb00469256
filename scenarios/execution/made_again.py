"""The calls that a shadow has made by itself, made once more to see which answers vary from run to run.

A store may write values of its own into rows that no view shows, such as a token or a time: then the shadow's rows have
other values, and so has the answer of a call that reads them. Where two more runs of the same calls differ, too, that
place of the answer is not compared. The shadow's files are the store's own after a crash, and the calls begin there.
"""

from pathlib import Path
from typing import Any

from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.varying import differ_where_these_do
from tornpage.scenarios.model.target import Action, Configuration, Target


class MadeAgain:
    """The calls since the shadow has last taken over the store's files, and those files."""

    def __init__(self, target: Target, configuration: Configuration, home: Path, files: Files) -> None:
        self._target, self._configuration, self._home = target, configuration, home
        self.begin(files)

    def begin(self, files: Files) -> None:
        """Forget the calls: the shadow continues from these files."""
        self._files = files
        self._calls: list[tuple[Action, int]] = []

    def add(self, action: Action, now_ms: int) -> None:
        """Note a call that the shadow has made, at this time in milliseconds."""
        self._calls.append((action, now_ms))

    def explains(self, action: Action, now_ms: int, answered: Any, wanted: Any) -> bool:
        """Whether an answer differs from the `wanted` one only where two runs differ from each other."""
        try:
            first, second = (self._answer(action, now_ms) for _ in range(2))
        except Exception:  # noqa: BLE001 - whatever fails there explains nothing
            return False
        return differ_where_these_do(answered, wanted, first, second)

    def _answer(self, action: Action, now_ms: int) -> Any:
        """The answer of a call after the others."""
        place(self._files, self._home)
        with Trial(self._target, self._configuration, self._home, {}) as trial:
            trial.open()
            for one, at_ms in self._calls:
                trial.environment.now_ms = at_ms
                trial.ask(one)
            trial.environment.now_ms = now_ms
            return trial.ask(action).value
