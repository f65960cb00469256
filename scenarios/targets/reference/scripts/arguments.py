"""Scripts of odd arguments: each argument of each call in turn, with values that most arguments refuse."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.draws.whole_space import NAMES, each_argument
from tornpage.scenarios.targets.reference.scripts.calls import call, create, enqueue

# Blank, no valid Unicode, a list where a text is wanted, a number, and what Python counts as the number 1.
_ODD: Final[tuple[Any, ...]] = ("", "\ud800", [], 5, True)
_ROOMS: Final = ("tasks", "history", "outbox", "")


def _odd_arguments(room: str) -> Callable[[], Iterator[Action]]:
    def script() -> Iterator[Action]:
        for number in range(4):
            yield create(f"t{number}", run_id=f"r{number}")
            yield enqueue(f"m{number}")
            yield call("history.start", task_id=f"t{number}", worker_id="w0", run_id=f"r{number}")
            yield call("history.open_session", run_id=f"r{number}", session_id=f"s{number}")
        for name in NAMES:
            if name.rpartition(".")[0] == room:
                yield from each_argument(name, _ODD)

    return script


SCRIPTS: Final = tuple(map(_odd_arguments, _ROOMS))
