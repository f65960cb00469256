"""The behaviour of a store, learned by playing it without any fault: creation, changing methods, and their rows.

Method. The class is created with a path in an empty directory, in each of the ways that its signature may mean, until
an SQLite file exists. Its public methods are called with plain arguments, in two rounds, since some need the results of
others; after each call the tables are read past the store. Everything is repeated in a second directory, a month later:
a column that differs then depends on the time of day, or is random.

Not covered: methods that need an object, or whose names suggest that they run or wait for
something, and delayed effects. The result is a proposal, which the contract of view and rows then checks.
"""

import contextlib
import copy
import inspect
import itertools
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.faults.reach.bindings import connection_classes
from tornpage.scenarios.execution.call_timeout import limit
from tornpage.scenarios.execution.generic_checks.open_connections import (
    connections_on,
    leaves_a_transaction,
)
from tornpage.scenarios.execution.preflight.other_clock import later
from tornpage.scenarios.model import ambient
from tornpage.scenarios.model.target import Action, Environment
from tornpage.scenarios.run.first_steps.arguments import (
    arguments,
    needed,
    takes_a_list,
    ways_to_make,
    with_known,
)
from tornpage.scenarios.run.first_steps.learned import Better, better_values, choices_of, is_better
from tornpage.scenarios.run.first_steps.left_out import (
    NEEDS_AN_OBJECT,
    NO_EFFECT,
    NotLearned,
    ending,
    is_an_ending,
    nothing_added,
    why_left_alone,
    writes_later,
)
from tornpage.scenarios.run.first_steps.making import made, make_text
from tornpage.scenarios.run.first_steps.more_calls import Effect, mirrored, overwriting, second_keys, with_more
from tornpage.scenarios.run.first_steps.own_data import (
    A_CALL_S,
    FAILURES,
    asked,
    connection_in,
    held,
    is_data,
    properties,
)
from tornpage.scenarios.run.first_steps.stable_columns import DiffersError, stable
from tornpage.scenarios.run.first_steps.tables import GIVEN, Table, changed, count, lost_rows, others, read, states_of
from tornpage.scenarios.run.first_steps.values import beats_of

# The time of the next call that is kept.
_STEP_MS: Final = 60_000
# SQLite's levels of synchronous, by number.
_LEVELS: Final = ("OFF", "NORMAL", "FULL", "EXTRA")
# How the reason begins why a method that failed is not called.
RAISED: Final = "it raised"
_A_MONTH_S: Final = 31 * 86_400
_TAKES_AWAY: Final = (
    "remove", "delete", "__delitem__", "drop", "pop", "discard", "forget", "evict", "prune", "purge", "expire", "clear",
    "wipe", "empty", "truncate", "reset", "flush",
)  # fmt: skip
_NO_DATABASE: Final = "it was created, and there is no SQLite file in its directory"
_PLAIN_FILES: Final = "; for a store of plain files write the target: docs/your-own-store.md#a-store-of-plain-files"


class Beat(msgspec.Struct, frozen=True):
    """A call that adds rows: the tables that it changes, those to which it adds exactly one row first."""

    action: Action
    tables: tuple[str, ...]
    one_row: int


class Observed(msgspec.Struct, frozen=True):
    """All data needed to write a target; `make` is an expression of Store, path and environment."""

    make: str
    file: str
    journal_mode: str
    # SQLite's level, as the store sets it.
    synchronous: str
    calls: tuple[Action, ...]
    beats: tuple[Beat, ...]
    tables: tuple[Table, ...]
    # Attributes and methods that return data, with their values once there were rows.
    answers: Mapping[str, Any]
    # Attributes that held a non-empty collection at any time.
    held: tuple[str, ...]
    connection: str | None
    closes: str
    # Public methods that the target does not call, with the reason.
    left_out: Mapping[str, str]
    # Whether it takes the time or random values by itself, which are replaced.
    deterministic: bool
    # Those of the calls that replace data that another call has written.
    overwriting: tuple[Action, ...] = ()
    # Those of the calls that repeat another one for a second key.
    second: tuple[Action, ...] = ()
    # How many of the calls, the last ones, take two keys both ways, or make these keys anew.
    both_ways: int = 0
    # What mappings of a new store hold, by attribute: defaults, which are in no table.
    begun: Mapping[str, Any] = {}
    # The binding of the library that it opens its file with.
    library: str = "sqlite3"
    # Whether its file is still open after its `close`.
    stays_open: bool = False
    # Files beside the database that no view of its tables shows.
    other_files: tuple[str, ...] = ()
    # The tables and the answers without those calls.
    earlier: tuple[Sequence[Table], Mapping[str, Any]] = ((), {})
    # Whether it is made by its class, and not by a function.
    is_class: bool = True
    # Whether it is asynchronous: then `make` awaits its calls.
    is_awaited: bool = False
    # The methods that open it, once it is made; those of an asynchronous one are in `make`.
    openings: tuple[str, ...] = ()


def observe(store: Callable[..., Any], directory: Path) -> Observed:
    """Play `store` below `directory`; raises `NotLearned`.

    Where another run has other data, it is played once more with the time and random values replaced.
    """
    try:
        observed = _observe(store, directory / "as-it-is", deterministic=False)
    except DiffersError:
        if not ambient.is_available():
            raise
        return _observe(store, directory / "replaced", deterministic=True)
    if any(table.left_out for table in observed.tables) and ambient.is_available():
        with contextlib.suppress(NotLearned):
            return _observe(store, directory / "replaced", deterministic=True)
    return observed


def _observe(store: Callable[..., Any], directory: Path, *, deterministic: bool) -> Observed:
    reasons = []
    for number, make in enumerate(ways_to_make(store)):
        first, second = directory / f"first-{number}", directory / f"second-{number}"
        try:
            discovered, found = _discovered(store, make, first, deterministic=deterministic)
            played = discovered
            numbers = itertools.count(1)

            def fresh(make: str = make, number: int = number, numbers: "itertools.count[int]" = numbers) -> _Played:
                there = directory / f"other-{number}-{next(numbers)}"
                return _Played(store, make, there, deterministic=deterministic)

            overwrites = overwriting(fresh, discovered.store, found)
            found = with_more(found, overwrites)
            seconds = second_keys(fresh, found, discovered.idle())
            found = with_more(found, seconds)
            both_ways = mirrored(fresh, found, discovered.failed()) if seconds else []
            found = [*found, *both_ways]
            discovered.left_out = {
                name: reason
                for name, reason in discovered.left_out.items()
                if name not in {one.name for one, _ in found}
            }
            if overwrites or seconds:
                played = fresh().play_like(discovered, [action for action, _ in found])
            with contextlib.nullcontext() if deterministic else later(lambda: _A_MONTH_S):
                again = _Played(store, make, second, deterministic=deterministic)
                again.repeat([action for action, _ in found])
        except NotLearned as error:
            reasons.append(f"{make}: {error}")
            continue
        observed = _observed(played, again, found, deterministic=deterministic)
        return msgspec.structs.replace(
            observed,
            overwriting=_actions(overwrites),
            second=_actions(seconds),
            both_ways=len(both_ways),
            other_files=played.other_files,
            earlier=(discovered.most, discovered.answers),
            is_class=inspect.isclass(store),
        )
    plain = _PLAIN_FILES if any(one.endswith(_NO_DATABASE) for one in reasons) else ""
    raise NotLearned(
        f"no way to make it leaves an SQLite file there; tried {'; '.join(reasons)}; write a function (or an "
        f"`async def`) that takes a path and returns such a store, and name that: --from MODULE:FUNCTION{plain}"
    )


def _discovered(
    store: Callable[..., Any], make: str, directory: Path, *, deterministic: bool
) -> "tuple[_Played, list[tuple[Action, int]]]":
    """A store that was played, and the calls that were found; with better values where the rows say so."""
    first = _Played(store, make, directory, deterministic=deterministic)
    found = first.discover()
    for number, choice in enumerate(choices_of(first.better)):
        with contextlib.suppress(NotLearned):
            there = directory.with_name(f"{directory.name}-better-{number}")
            other = _Played(store, make, there, deterministic=deterministic, better=choice)
            others = other.discover()
            if is_better(choice, {one.name for one, _ in found}, {one.name for one, _ in others}):
                return other, others
    return first, found


def _observed(played: "_Played", again: "_Played", found: list[tuple[Action, int]], *, deterministic: bool) -> Observed:
    tables = tuple(stable(one, there) for one, there in _with_rows(played, again))
    if not tables:
        raise nothing_added(played.tried, played.left_out, [action.name for action, _ in found])
    # One that adds rows to several tables may add one to each: then a view of one of them suits it.
    growing = sorted(((added, action) for action, added in found if added > 0), key=lambda one: one[0])
    beats = tuple(one for _, action in growing for one in _beats(action, played.changes.get(action.name, {})))
    return Observed(
        played.make, played.file, played.journal_mode, played.synchronous,
        tuple(action for action, _ in found), beats, tables,
        played.answers, tuple(played.held), played.connection, played.closes, played.left_out,
        deterministic, begun=played.defaults, library=played.library, stays_open=played.stays_open,
        is_awaited=played.store is not played.own, openings=played.openings,
    )  # fmt: skip


def _actions(calls: Mapping[int, list[tuple[Action, int]]]) -> tuple[Action, ...]:
    return tuple(action for found in calls.values() for action, _ in found)


def _with_rows(played: "_Played", again: "_Played") -> Iterator[tuple[Table, Table]]:
    """Each table that had rows, as it was when there were most rows, or else when it had most; in both runs."""
    for name, most in played.fullest.items():
        if name in again.fullest:
            one, there = ({table.name: table for table in run.most}.get(name) for run in (played, again))
            yield (one, there) if one is not None and there is not None and one.rows else (most, again.fullest[name])


def _beats(action: Action, changes: Mapping[str, bool]) -> list[Beat]:
    names = tuple(sorted(changes, key=lambda name: not changes[name]))
    return [Beat(one, names, sum(changes.values())) for one in beats_of(action)]


class _Played:
    """One store in one directory, while it is played."""

    def __init__(
        self,
        store: Callable[..., Any],
        make: str,
        directory: Path,
        *,
        deterministic: bool,
        better: Better | None = None,
    ) -> None:
        directory.mkdir(parents=True)
        # Values to try first, and those that the rows have taught.
        self._prefers, self.better = better or {}, dict[tuple[str, str], Any]()
        self._environment = Environment(sqlite3.connect)
        self._during = ambient.Ambient(self._environment).during if deterministic else _as_it_is
        self.directory, self.tried = directory, list[str]()
        self.file, self.journal_mode, self.synchronous = "", "delete", "FULL"
        self.most: list[Table] = []
        # Each table when it had most rows, and by call the tables that it has changed.
        self.fullest: dict[str, Table] = {}
        self.changes: dict[str, dict[str, bool]] = {}
        self.answers: dict[str, Any] = {}
        self.held: dict[str, None] = {}
        self.left_out: dict[str, str] = {}
        names = {
            getattr(store, "__name__", "Store"): store,
            "path": directory / GIVEN,
            "environment": self._environment,
        }
        try:
            with limit(A_CALL_S, "it did not return"), self._during("open"):
                opened = made(make, names, lambda: bool(self.tables()))
        except FAILURES as error:
            raise NotLearned(f"{type(error).__name__}: {error}") from error
        self.store, self.own = opened.store, opened.own
        self.make, self.openings = make_text(opened), opened.openings
        self.other_files: tuple[str, ...] = ()
        # The first method that has left a transaction open.
        self._begins = ""
        # The arguments of calls that have changed something.
        self._known: dict[str, Any] = {}
        mappings = [name for name, value in held(self.own) if isinstance(value, Mapping)]
        self.defaults = {name: data for name in mappings if (data := asked(self.own, name)) is not None}
        self.begun = {table.name for table in self.tables() if table.rows}

    def idle(self) -> list[Action]:
        """The calls with arguments that had no effect."""
        return self._first_calls(NO_EFFECT)

    def failed(self) -> list[Action]:
        """The calls with arguments that raised an error with all of them."""
        return self._first_calls(RAISED)

    def _first_calls(self, why: str) -> list[Action]:
        without = [name for name, reason in self.left_out.items() if reason.startswith(why)]
        args = ((name, next(self._arguments(name, getattr(self.store, name)), {})) for name in without)
        return [Action(name, one) for name, one in args if one]

    def _arguments(self, name: str, method: Any) -> Iterator[dict[str, Any]]:
        # Parameters of one name are likely of one kind.
        own_last = sorted(self._prefers.items(), key=lambda one: one[0][0] == name)
        return arguments(method, {parameter: value for (_, parameter), value in own_last})

    # -- the methods ----------------------------------------------------------------------------------------

    def discover(self) -> list[tuple[Action, int]]:
        """The calls that change the file, in an order in which they work, each with how many rows it added."""
        found: list[tuple[Action, int]] = []
        methods = self.methods()
        # What takes away comes last: others may need what is there.
        for is_last in (False, True):
            waiting = [one for one in methods if one[0].startswith(_TAKES_AWAY) is is_last]
            for _ in range(2):
                left = []
                for name, method in waiting:
                    done = self._try(name, method)
                    if done is None:
                        left.append((name, method))
                    else:
                        found += done
                waiting = left
                if is_last and waiting:
                    found += self._add_again(found)
        self._finish()
        return found

    def _add_again(self, found: list[tuple[Action, int]]) -> list[tuple[Action, int]]:
        """Repeat the calls that added something: what takes it away may have done so already."""
        before = self.tables()
        adding = [action for action, added in found if added > 0]
        self._repeat(adding)
        return [(action, 0) for action in adding] if self.tables() != before else []

    def repeat(self, actions: list[Action]) -> None:
        """Repeat the same calls, and close the store."""
        self._repeat(actions)
        self._finish()

    def play_like(self, other: "_Played", actions: list[Action]) -> "_Played":
        """Make other calls than `other` did, knowing what it has learned."""
        self.tried, self.left_out = other.tried, other.left_out
        self.answers, self.changes = dict.fromkeys(other.answers), other.changes
        self.repeat(actions)
        return self

    def effects(self, actions: Sequence[Action]) -> list[Effect | None]:
        """Make the calls and close the store; the effect of each, None for one that failed."""
        found: list[Effect | None] = []
        after = self.tables()
        for action in actions:
            before = after
            works = self._call(action)
            self._environment.now_ms += _STEP_MS
            after = self.tables()
            effect = Effect(count(after) - count(before), lost_rows(before, after), before != after)
            found.append(effect if works else None)
        self._finish()
        return found

    def _repeat(self, actions: list[Action]) -> None:
        for action in actions:
            self._call(action)
            self._environment.now_ms += _STEP_MS
            self._keep(self.tables())

    def _call(self, action: Action) -> bool:
        with contextlib.suppress(*FAILURES), limit(A_CALL_S, "it did not return"), self._during(str(action)):
            getattr(self.store, action.name)(**copy.deepcopy(action.args))
            return True
        return False

    def methods(self) -> list[tuple[str, Any]]:
        """The public methods that can be tried, in the order of the class."""
        names = [name for kind in reversed(type(self.own).__mro__[:-1]) for name in vars(kind)]
        found = []
        for name in dict.fromkeys(names):
            method = getattr(type(self.own), name, None)
            is_public = not name.startswith("_") or name in ("__setitem__", "__delitem__")
            if not is_public or not inspect.isfunction(method) or name in ("close", *self.openings):
                continue
            if reason := why_left_alone(name, method, needed(method), awaits=self.store is not self.own):
                self.left_out[name] = reason
            else:
                found.append((name, getattr(self.store, name)))
        return found

    def _try(self, name: str, method: Any) -> list[tuple[Action, int]] | None:
        """Try arguments until some work; return the calls worth a sweep, or None if it may work later."""
        if name not in self.tried:
            self.tried.append(name)
        reasons = []
        for args in with_known(self._arguments(name, method), self._known):
            found = self._tried_with(name, method, args)
            if not isinstance(found, str):
                return found
            reasons.append(found)
        # The first arguments are the likeliest, but for those of a wrong type.
        fits = [one for one in reasons if not one.startswith(f"{RAISED} TypeError")]
        self.left_out[name] = [*fits, *reasons, NEEDS_AN_OBJECT][0]
        return None

    def _tried_with(self, name: str, method: Any, args: dict[str, Any]) -> list[tuple[Action, int]] | str:
        """The calls worth a sweep; or why these arguments lead to none."""
        before = self.tables()
        beside = states_of(self.directory, self.file)
        try:
            with limit(A_CALL_S, f"{name} did not return"), self._during(str(Action(name, args))):
                returned = method(**copy.deepcopy(args))
        except FAILURES as error:
            return f"{RAISED} {type(error).__name__}: {error}"[:100]
        if inspect.isawaitable(returned) or inspect.isgenerator(returned) or hasattr(returned, "__enter__"):
            self.left_out[name] = f"it returned a {type(returned).__name__}"
            return []
        after = self.tables()
        self._keep(after)
        self.left_out.pop(name, None)
        if not self._begins and leaves_a_transaction(self.directory):
            self._begins = name
        added = count(after) - count(before)
        if added > 0:
            self.changes.setdefault(name, changed(before, after))
        if added > 0 and is_an_ending(name, needed(method)) and self._wrote_later(name):
            return []
        # A transaction that no other method ends is a defect, for the search to find.
        begins = self._begins == name and not ending(self.store)
        if begins or after != before or states_of(self.directory, self.file) != beside:
            self._known = args | self._known
            self.better |= better_values(name, args, before, after)
            self._environment.now_ms += _STEP_MS
            return [(Action(name, args), added)]
        if not args and returned is not None:
            self.answers.setdefault(f"{name}()", None)
        # A read has an answer; a call without effect and answer may need other arguments.
        if is_data(returned):
            self._environment.now_ms += _STEP_MS
            return [(Action(name, args), 0)]
        return self._why_no_effect(name, method)

    def _wrote_later(self, end: str) -> bool:
        """Whether `end` has written what calls without an effect had left; they get that as their reason."""
        later = [name for name, reason in self.left_out.items() if reason == NO_EFFECT]
        self.left_out |= dict.fromkeys(later, writes_later(end))
        return bool(later)

    def _why_no_effect(self, name: str, method: Any) -> str:
        if self._begins == name:
            return f"it leaves a transaction open, which {ending(self.store)} ends: call both in one method"
        listed = takes_a_list(method)
        return f"it takes *{listed}, which a call by name can't fill" if listed else NO_EFFECT

    def _keep(self, tables: list[Table]) -> None:
        """Views are matched with the moment that has the most rows."""
        self.held |= dict.fromkeys(name for name in self._data() if asked(self.store, name))
        ours = [table for table in tables if table.name not in self.begun]
        for table in ours:
            if table.rows and len(table.rows) >= len(self.fullest.get(table.name, table).rows):
                self.fullest[table.name] = table
        if count(ours) >= count(self.most):
            self.most = ours
            self.answers |= {name: asked(self.store, name) for name in self._looks()}

    def _data(self) -> list[str]:
        return [*(name for name, _ in held(self.own)), *properties(self.own)]

    def _looks(self) -> list[str]:
        attributes = self._data()
        mapping = ["items()"] if callable(getattr(self.store, "items", None)) else []
        return [*attributes, *mapping, *(name for name in self.answers if name.endswith("()"))]

    def _finish(self) -> None:
        self.connection = connection_in(self.own, connection_classes())
        opener = faults.shims().opener_of(self.directory / self.file)
        self.library = opener.library.bindings[0].name if opener is not None else "sqlite3"
        self.synchronous = self._level()
        self.closes = "close" if callable(getattr(self.store, "close", None)) else ""
        if not self.closes and callable(getattr(self.store, "__exit__", None)):
            self.closes = "__exit__"
        close = getattr(self.store, "close", None)
        if close is None and self.connection is not None:
            close = eval(f"store.{self.connection}.close", {"store": self.store})  # noqa: S307 - as `connection_in` says
        before = self.tables()
        with contextlib.suppress(*FAILURES), limit(A_CALL_S, "close did not return"):
            if close is not None:
                close()
        if self.file and not count(before) and count(self.tables()):
            self._wrote_later("close")
        self.other_files = others(self.directory, self.file)
        self.stays_open = bool(self.file) and faults.is_open(self.directory / self.file)
        if not self.file:
            raise NotLearned(_NO_DATABASE)
        if "/" in self.file:
            raise NotLearned(f"it makes a folder for its file, {self.file}")

    def _level(self) -> str:
        """The level of synchronous of an open connection; else the one that the source names, or SQLite's default."""
        for connection in connections_on(self.directory):
            with contextlib.suppress(sqlite3.Error):
                return _LEVELS[connection.execute("PRAGMA synchronous").fetchone()[0]]
        with contextlib.suppress(OSError, TypeError, KeyError):
            source = inspect.getsource(sys.modules[type(self.own).__module__])
            if found := re.search(r"\bsynchronous\s*=\s*['\"]?(\w+)", source, re.IGNORECASE):
                named = found[1].upper()
                return named if named in _LEVELS else dict(zip("0123", _LEVELS, strict=True)).get(named, "FULL")
        return "FULL"

    def tables(self) -> list[Table]:
        """All tables with their rows."""
        self.file, self.journal_mode, tables = read(self.directory)
        return tables


def _as_it_is(_call: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()
