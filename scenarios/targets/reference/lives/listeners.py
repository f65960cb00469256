"""Observers that act: one that writes to the ledger, and some that come, go, fail and have no method for an event.

And one that knows the tasks by its notifications alone, on a store that fails.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tornpage.ledger import Ledger, LedgerError, Task
from tornpage.scenarios.targets.reference.environment import Mirror
from tornpage.scenarios.targets.reference.lives.other_stores import FailingStore, store_of
from tornpage.scenarios.targets.reference.logs import warnings_of


class Scribe:
    """An observer that writes: it notes on each new task whose label asks for it that it has seen it."""

    label: Final = "observer writes"

    def __init__(self) -> None:
        self.ledger: Ledger | None = None

    def upserted(self, task: Task, previous: Task | None) -> None:
        """Write, from inside the call that has made the task."""
        if task.label == self.label and previous is None and self.ledger is not None:
            self.ledger.tasks.progress(task.task_id, "seen")


class _FailedError(Exception):
    """An error of a kind that no ledger knows."""


class _Exit(BaseException):
    """What ends a process, as Ctrl-C does."""


class _Ears(dict[str, "_Listener"]):
    """The observers by their names, so that one may stay when others come; they share what they have heard."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__()
        self.heard = heard

    def __missing__(self, name: str) -> "_Listener":
        return self.setdefault(name, _Listener(name, self.heard))

    def of(self, names: Any) -> Any:
        """The observers of these names; any other value as it is."""
        return [self[name] for name in names] if isinstance(names, list) else names


class _Listener:
    """Records its notifications; `name` describes its behaviour."""

    def __init__(self, name: str, heard: list[Any]) -> None:
        self._name, self._heard = name, heard

    def __getattribute__(self, name: str) -> Any:
        if name in ("restored", "upserted", "deleted"):
            own = object.__getattribute__(self, "_name")
            if own in ("deaf", f"no {name}") or (own.startswith("only ") and own != f"only {name}"):
                raise AttributeError(name)
        return object.__getattribute__(self, name)

    def _note(self, event: str, what: object) -> None:
        self._heard.append([self._name, event, what])
        if self._name == "fails":
            raise _FailedError("an observer has failed")
        if self._name == "exits":
            raise _Exit

    def restored(self, tasks: Sequence[Task]) -> None:
        """With the existing tasks, in an immutable sequence."""
        self._note("restored", [task.task_id for task in tasks] if isinstance(tasks, tuple) else type(tasks).__name__)

    def upserted(self, task: Task, previous: Task | None) -> None:
        """A task, and whether it is new."""
        self._note("upserted", [task.task_id, previous is None])

    def deleted(self, task_id: str, _previous: Task | None) -> None:
        """One fewer."""
        self._note("deleted", task_id)


def life_of_observers(
    home: Path, clock: Callable[[], int], calls: Iterable[tuple[str, Any]], kind: str | None = None
) -> list[Any]:
    """Calls on a ledger whose observers are added and removed; for each call its refusal and events, then the log.

    The first is ``open``, with the first observers. The ledger is on SQLite in memory, or on another `kind` of store.
    """
    heard: list[Any] = []
    answers: list[Any] = []
    names: list[str] = []
    ears = _Ears(heard)
    (_, first), *others = calls
    place: dict[str, Any] = {"state_dir": ":memory:"} if kind is None else {"store": store_of(kind, home)}
    opened = Ledger.open(**place, clock=clock, new_id=lambda: names[-1], observers=ears.of(first))
    with contextlib.closing(opened) as ledger, warnings_of("ledger.observers") as failures:
        answers.append([None, list(heard)])
        for name, argument in others:
            heard.clear()
            try:
                _make(ledger, name, argument, names, ears)
                answers.append([None, list(heard)])
            except LedgerError as error:
                answers.append([type(error).__name__, []])
            except _Exit:
                answers.append(["it ended", list(heard)])
    return [*answers, [one.exc_info is not None for one in failures]]


def life_of_a_follower(
    home: Path,
    clock: Callable[[], int],
    *,
    kind: str,
    calls: Iterable[tuple[str, Any]],
    fails: Mapping[str, str],
    lacks: Iterable[str] = (),
) -> list[Any]:
    """What an observer knows after each call, and after a look, on a store that fails at the call of that number.

    For each call its error, the tasks and their progress by notifications, and what was wrong with these.
    """
    store, names, answers, follower = FailingStore(store_of(kind, home), lacks, None), list[str](), [], Mirror()
    opened = Ledger.open(store=store, clock=clock, new_id=lambda: names[-1], observers=[follower])
    with contextlib.closing(opened) as ledger:
        for number, (name, argument) in enumerate(calls):
            store.fails, error = fails.get(str(number)), None
            try:
                _make(ledger, name, argument, names, _Ears([]))
            except LedgerError as failure:
                error = type(failure).__name__
            store.back()
            known = _progress(follower)
            ledger.tasks.list()
            answers.append([error, known, _progress(follower), follower.wrong and str(follower.wrong)])
    return answers


def _progress(follower: Mirror) -> dict[str, str | None]:
    return {task.task_id: task.progress_summary for task in follower.tasks.values()}


def _make(ledger: Ledger, name: str, argument: Any, names: list[str], ears: _Ears) -> None:
    tasks = ledger.tasks
    if name == "observe":
        tasks.observe(*ears.of(argument))
    elif name == "configure":
        given = ears.of(argument)
        # Any iterable is allowed, also one that can be read only once.
        given = iter(given) if isinstance(given, list) else given
        tasks.configure_observers(*([] if argument == "left out" else [given]))
    elif name == "restore":
        tasks.restore()
    elif name == "delete":
        tasks.delete(argument)
    elif name == "batch":
        with ledger.batch():
            for inner, one in argument:
                _make(ledger, inner, one, names, ears)
    elif tasks.get(argument) is None:
        names.append(argument)
        tasks.create(runtime="cli", owner_key="me", task="work")
    else:
        names.append(argument)
        tasks.progress(argument, f"turn {len(names)}")
