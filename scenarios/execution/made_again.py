"""The calls that a shadow has made by itself, made once more without any fault, to judge an answer that differs.

A store may write values of its own into rows that no view shows, such as a token or a time: then the shadow's rows have
other values, and so has the answer of a call that reads them. Where two more runs of the same calls differ, too, that
place of the answer is not compared. The shadow's files are the store's own after a crash, and the calls begin there.

After a call that failed the shadow starts again, and the store's session goes on: a call that returns what is new since
its last one answers otherwise in the two. So an answer is right, too, that a session gives which has made these calls,
and was opened again where the store was.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.answers import is_alike
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.judging.refusals import says_no
from tornpage.scenarios.model.judging.varying import differ_where_these_do
from tornpage.scenarios.model.target import Action, Configuration, Target, View

# None: the store was closed and opened again. A view: a crash has left that, as one of the calls before it had.
_Calls = list[tuple[Action, int] | View | None]


class MadeAgain:
    """The calls since the shadow has last taken over the store's files, and those files."""

    def __init__(self, target: Target, configuration: Configuration, home: Path, files: Files) -> None:
        self._target, self._configuration, self._home = target, configuration, home
        self.begin(files)

    def begin(self, files: Files) -> None:
        """Forget the calls: the shadow continues from these files."""
        self._files, self._calls = files, _Calls()

    def restart(self) -> None:
        """Note that the store was opened again."""
        self._calls.append(None)

    def crashed(self, view: View) -> None:
        """Note that a crash has led back to the state `view`, which one of the calls has left."""
        self._calls.append(view)

    def add(self, action: Action, now_ms: int) -> None:
        """Note a call that the shadow has made, at this time in milliseconds."""
        self._calls.append((action, now_ms))

    def explains(self, action: Action, now_ms: int, answered: Any, wanted: Any) -> bool:
        """Whether an answer that is not the `wanted` one is right, as far as it does not vary from run to run."""
        try:
            first, second = (self._answer(action, now_ms) for _ in range(2))
        except Exception:  # noqa: BLE001 - whatever fails there explains nothing
            return False
        return is_alike(answered, first) or differ_where_these_do(answered, wanted, first, second)

    def fails_by_itself(self, action: Action, now_ms: int, view: View, error: BaseException) -> bool:
        """Whether the calls lead to this state without any fault, and `action` fails there in the same way."""
        answer = self._answer_at(action, now_ms, view)
        return answer is not None and type(answer.error) is type(error)

    def works(self, action: Action, now_ms: int, view: View) -> bool:
        """Whether the calls lead to this state without any fault, and `action` works there, or is refused."""
        answer = self._answer_at(action, now_ms, view)
        return answer is not None and (answer.error is None or says_no(answer.error))

    def _answer_at(self, action: Action, now_ms: int, view: View) -> Answer | None:
        """The answer in the state to which the calls lead; None if that is another one."""
        try:
            self._forget_undone()
            with self._played() as played:
                *_, trial = played
                trial.environment.now_ms = now_ms
                return trial.ask(action) if trial.live_view() == view else None
        except Exception:  # noqa: BLE001 - the calls themselves fail: it is no state that they lead to
            return None

    def _forget_undone(self) -> None:
        """Forget the calls that a crash has undone; raises ValueError if none has left what the crash has."""
        calls, self._calls = self._calls, []
        for one in calls:
            if isinstance(one, Mapping):
                with self._played() as played:
                    views = [trial.live_view() for trial in played]
                kept = len(views) - 1 - [*reversed(views)].index(one)
                self._calls = [*self._calls[:kept], None]
            else:
                self._calls.append(one)

    def states(self) -> list[tuple[Files, int]]:
        """The files after each call, and the time then, in milliseconds."""
        with self._played() as played:
            return [(trial.crash_copy(), trial.environment.now_ms) for trial in played]

    def _answer(self, action: Action, now_ms: int) -> Any:
        """The answer of a call after the others."""
        with self._played() as played:
            *_, trial = played
            trial.environment.now_ms = now_ms
            return trial.ask(action).value

    @contextlib.contextmanager
    def _played(self) -> Iterator[Iterator[Trial]]:
        """A session on the files: when it is opened, and after each call."""
        place(self._files, self._home)
        with Trial(self._target, self._configuration, self._home, {}) as trial:
            yield self._steps(trial)

    def _steps(self, trial: Trial) -> Iterator[Trial]:
        yield trial.open()
        for one in self._calls:
            if isinstance(one, tuple):
                call, trial.environment.now_ms = one
                trial.ask(call)
            else:
                trial.close()
                trial.open()
            yield trial
