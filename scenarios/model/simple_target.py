"""A target in twenty lines: a store that is created with a path and driven by its own methods.

Subclass `SimpleTarget`, and define how the store is created, which calls to try, its view, and the rows of its tables.
"""

import contextlib
import copy
import inspect
import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.ambient import Ambient
from tornpage.scenarios.model.by_name import called
from tornpage.scenarios.model.judging.answers import as_answer
from tornpage.scenarios.model.older_file import beyond, content_of, put_in_place
from tornpage.scenarios.model.own_calls import OwnCalls
from tornpage.scenarios.model.target import (
    Action,
    Configuration,
    Environment,
    Session,
    SetUpError,
    Target,
    TargetError,
    View,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


_ASYNC: Final = "is async, and nothing awaits it: let `make` return `awaited(store)`, which runs each call to its end"
# The scope in which the store's code runs, by the call that it makes.
_During = Callable[[str], AbstractContextManager[None]]


def _as_it_is(_call: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def _copied(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy of a call's arguments; those that can't be copied as they are."""
    if all(isinstance(one, str | int | float | bytes | None) for one in args.values()):
        return args
    with contextlib.suppress(Exception):
        return copy.deepcopy(args)
    return args


class _SimpleSession:
    """A store in use; each action is a call of a method, or of a part's (`users.add`)."""

    def __init__(self, target: "SimpleTarget", store: Any, during: "_During") -> None:
        self._target = target
        self._store = store
        self._during = during
        self._own_calls = OwnCalls((*target.workload(), target.heartbeat()))

    def call(self, action: Action) -> Any:
        action = self._own_calls.of(action)
        with self._during(str(action)):
            method = operator.attrgetter(action.name)(self._store)
            # A store may change what it is given, such as the id of an object.
            returned = called(method, _copied(action.args))
            if inspect.isgenerator(returned):
                # It runs while its caller iterates; one that is left in the middle is the caller's doing.
                returned = list(returned)
            _require_not_lazy(self._target, action, returned)
            return self._target.answer(action, returned)

    def live_view(self) -> View:
        with self._during("view"):
            view: View = _named(self._target.view(self._store))
        return self._target.as_shown(view)

    def outcome_of(self, error: Exception) -> str | None:  # noqa: ARG002 - the protocol's shape
        return None

    def self_check(self) -> None:
        return

    def close(self) -> None:
        close = getattr(self._store, "close", None)
        if close is None:
            # A store of plain files, which needs to hold none.
            return
        with self._during("close"):
            closed = close()
        if inspect.isawaitable(closed):
            _drop(closed)
            raise SetUpError(self._target.name, "calls-are-not-async", f"close() {_ASYNC}")


def _require_not_lazy(target: "SimpleTarget", action: Action, answer: Any) -> None:
    """Raise `SetUpError` where a call returned a coroutine or an asynchronous generator, which has not run."""
    if inspect.isawaitable(answer) or inspect.isasyncgen(answer):
        _drop(answer)
        raise SetUpError(target.name, "calls-are-not-async", f"{action} {_ASYNC}")


def _named(view: Any) -> Any:
    """A view whose keys are text, as the contract requires.

    Any other key, such as the NULL of a row that half a change has left, is replaced by its `repr`, so that views can
    be sorted, kept and compared: it is a finding, and must not make the harness fail.
    """
    if not isinstance(view, Mapping) or {type(key) for key in view} in ({str}, {int}, set()):
        return view
    return {key if isinstance(key, str) else repr(key): value for key, value in view.items()}


def _drop(lazy: Any) -> None:
    """Close a coroutine or a generator without a warning."""
    if callable(close := getattr(lazy, "close", None)):
        close()


class SimpleTarget(Target):
    """The base of a small target. Set `file`, `calls` and `beat`; write `make`, `view` and `rows`.

    `file` is the database's name inside a directory. `calls` are tried in this order; each starts from the state that
    the earlier ones left. `beat` is a repeatable call that adds exactly one key to the view, apart from keys that begin
    with one of `beat_touches`. `binding` is the module
    whose connections ``environment.connect`` opens: ``sqlite3``, or pysqlite3 and its like. A call that the store
    refuses for its own reasons raises `Refused`; wrap the store in `make` to translate its own exception.

    The return value of a call is checked, too: see `answer`.

    `deterministic` is for a store that reads the clock or draws random values by itself (``datetime.now``,
    ``uuid.uuid4``): while its code runs, they are replaced by ``environment.clock`` and by values that depend on the
    call. It needs the extra ``tornpage[deterministic]``.

    `older_file` is a file of an older version, or SQL that makes one: the store is opened on it, and has to upgrade it.
    `upgraded` is what it shows then.

    Rules of your own go into the optional methods ``check_view(view)`` and ``check_change(before, action, after, *,
    is_done, now_ms)``, which raise `Violation`.
    """

    name = "simple"
    title = "a store of your own"
    configurations: tuple[Configuration, ...] = (Configuration("wal", "FULL"),)
    depths: tuple[str, ...] = ("vfs",)
    unpromised: Mapping[str, str | Mapping[str, str]] = {}
    binding: ModuleType = sqlite3
    # Whether the target promises survives-a-failed-sync; if so, the check runs by default.
    survives_failed_sync = False
    deterministic = False
    older_file: str | Path | None = None
    upgraded: Mapping[str, Any] = {}
    file = "store.sqlite"
    calls: tuple[Action, ...] = ()
    beat: Action

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Any:
        """Open the store; it needs a method ``close``, and one for each action, its own or a part's (`users.add`)."""
        raise NotImplementedError

    def view(self, store: Any) -> View:
        """The store's own view of its state, as a mapping from keys to JSON-like values."""
        raise NotImplementedError

    def rows(self, connection: sqlite3.Connection) -> View:
        """The same mapping, read from the tables by plain SQL."""
        raise NotImplementedError

    def answer(self, action: Action, returned: Any) -> Any:  # noqa: ARG002 - subclasses may look at it
        """The part of the value that a call `returned` to compare with its value without a fault.

        By default all of it if it is data, and nothing if it is a cursor, an object or the like; a list of what a
        generator yields. Return a part if only that is promised, and `NOT_COMPARED` if the value varies from call to
        call. An exception raised here is the call's: of a store that reports a failure by what it returns.
        """
        return as_answer(returned)

    def workload(self) -> tuple[Action, ...]:
        """The calls."""
        return self.calls

    def actions(self, view: View) -> "SearchStrategy[Action]":  # noqa: ARG002 - subclasses may look at it
        """Draw any of the calls; override it if some of them make sense only in some states."""
        if not self.calls:
            raise TargetError(f"{self.name}: `calls` is empty, so there is nothing to draw; give it the calls to try")
        from hypothesis import strategies  # noqa: PLC0415 - takes long to load, and only a fuzz needs it

        return strategies.sampled_from(self.calls)

    def heartbeat(self) -> Action:
        """The beat."""
        return self.beat

    def database(self, directory: Path) -> Path:
        """The database's path."""
        return directory / self.file

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Create the store in a directory."""
        if self.older_file is not None:
            put_in_place(self.database(directory), self._content_of(self.older_file))
        make = partial(self.make, self.database(directory), configuration, environment)
        ambient = Ambient(environment) if self.deterministic else None
        during: _During = ambient.during if ambient is not None else _as_it_is
        store = ambient.opened(make) if ambient is not None else make()
        if store is None:
            raise TypeError(f"{type(self).__name__}.make returned None; it has to return the store")
        if inspect.isawaitable(store):
            _drop(store)
            raise SetUpError(self.name, "calls-are-not-async", f"`make` {_ASYNC}")
        if self.files_view is None and not callable(getattr(store, "close", None)):
            what = f"the store that `make` returns, a {type(store).__name__}, has no method close"
            raise SetUpError(self.name, "every-call-works", f"{what}; nothing else closes its files")
        return _SimpleSession(self, store, during)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows; none before all tables exist, since the next opening creates the rest of them."""
        try:
            view: View = _named(self.rows(connection))
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return {}
        return self.as_shown(view)

    def as_shown(self, view: View) -> View:
        """A view of the store, or of its rows: without what an upgraded file has."""
        return view if self.older_file is None else beyond(view, self.upgraded)

    def _content_of(self, older: str | Path) -> bytes:
        if self.files_view is not None:
            raise TargetError(f"{self.name}: `older_file` is for a store on SQLite, and `files_view` for plain files")
        try:
            return content_of(older)
        except (OSError, TypeError, sqlite3.Error) as error:
            raise TargetError(f"{self.name}: `older_file` is neither a file nor SQL that makes one: {error}") from error
