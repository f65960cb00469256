"""A store that is made in a directory and played: each call's arguments, its effect on the tables, and the answers.

Its public methods are called with plain arguments, in two rounds, since some need the results of others; after each
call the tables are read past the store.

Not covered: methods that need an object, or whose names suggest that they run or wait for something, and delayed
effects.
"""

import contextlib
import copy
import inspect
import itertools
import operator
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tornpage import faults
from tornpage.faults.garbage import collect
from tornpage.faults.reach.bindings import connection_classes, sqlite_errors
from tornpage.faults.vfs.passed_by import is_database
from tornpage.scenarios.execution.call_timeout import limit
from tornpage.scenarios.execution.generic_checks.open_connections import leaves_a_transaction, setting_of_each
from tornpage.scenarios.model import ambient
from tornpage.scenarios.model.awaited import Awaited
from tornpage.scenarios.model.by_name import called
from tornpage.scenarios.model.clock import STEP_MS
from tornpage.scenarios.model.entered import entered
from tornpage.scenarios.model.functions import functions
from tornpage.scenarios.model.judging.answers import reporting
from tornpage.scenarios.model.target import Action, Environment
from tornpage.scenarios.run.first_steps.arguments import (
    arguments,
    needed,
    takes_a_list,
    with_known,
)
from tornpage.scenarios.run.first_steps.bounds import sizes
from tornpage.scenarios.run.first_steps.learned import Better, better_values
from tornpage.scenarios.run.first_steps.left_out import (
    CLOSES,
    NEEDS_AN_OBJECT,
    NO_EFFECT,
    REMOVES_THE_FILE,
    WRITES_HERE,
    EndedError,
    LockedOutError,
    NotLearned,
    ending,
    is_an_ending,
    why_left_alone,
    writes_later,
)
from tornpage.scenarios.run.first_steps.making import made, make_text
from tornpage.scenarios.run.first_steps.more_calls import Effect
from tornpage.scenarios.run.first_steps.own_data import (
    A_CALL_S,
    FAILURES,
    asked,
    connection_in,
    held,
    holds_data,
    is_data,
    properties,
)
from tornpage.scenarios.run.first_steps.stable_columns import with_the_time
from tornpage.scenarios.run.first_steps.sub_stores import parts_of
from tornpage.scenarios.run.first_steps.tables import GIVEN, Table, changed, count, lost_rows, others, read, states_of

# The time of the next call that is kept.
# What Python and tools write there at any time.
_NOT_OF_A_CALL: Final = frozenset({"__pycache__", ".tornpage", ".pytest_cache", ".hypothesis"})
# SQLite's levels of synchronous, by number.
_LEVELS: Final = ("OFF", "NORMAL", "FULL", "EXTRA")
# So many arguments of a call that failed with all of them are tried for two keys.
_MOST_KINDS: Final = 4
# How the reason begins why a method that failed is not called.
_RAISED: Final = "it raised"
_TAKES_AWAY: Final = (
    "remove", "delete", "__delitem__", "drop", "pop", "discard", "forget", "evict", "prune", "purge", "expire", "clear",
    "wipe", "empty", "truncate", "reset", "flush",
)  # fmt: skip
NO_DATABASE: Final = "it was created, and there is no SQLite file in its directory"


class Played:
    """One store in one directory, while it is played."""

    def __init__(
        self,
        store: Callable[..., Any] | ModuleType,
        make: str,
        directory: Path,
        *,
        deterministic: bool,
        better: Better | None = None,
        ended: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True)
        # Values to try first, and those that the rows have taught.
        self._prefers, self.better = better or {}, dict[tuple[str, str], Any]()
        # The calls that end a store, each with the reason why it isn't made.
        self.ended = ended or {}
        self._environment = Environment(sqlite3.connect)
        self._during = ambient.Ambient(self._environment).during if deterministic else _as_it_is
        self.directory, self.tried = directory, list[str]()
        self.file, self.journal_mode, self.synchronous = "", "delete", "FULL"
        self.most: list[Table] = []
        # The columns, each with its table, that have held the present time.
        self.moving = set[tuple[str, str]]()
        # Each table when it had most rows, and by call the tables that it has changed.
        self.fullest: dict[str, Table] = {}
        self.changes: dict[str, dict[str, bool]] = {}
        self.answers: dict[str, Any] = {}
        # The calls that took rows away which others then put back.
        self.taken: list[Action] = []
        # The calls that changed nothing and returned data, those of them that did so later, when they were asked for
        # an answer, and those that changed no row and wrote the file.
        self.reads, self.changing = set[str](), set[str]()
        self._rewrites: dict[str, Action] = {}
        self.held: dict[str, None] = {}
        self.left_out: dict[str, str] = {}
        # The field by which what a call returns says whether it has worked.
        self.reports = ""
        # The call that was made last, in words.
        self._newest = ""
        names = {
            getattr(store, "__name__", "Store"): store,
            "path": directory / GIVEN,
            "environment": self._environment,
            "functions": functions,
            "entered": entered,
        }
        try:
            with limit(A_CALL_S, "it did not return"), self._during("open"):
                opened = made(make, names, lambda: bool(self.tables()))
        except LockedOutError:
            raise
        except FAILURES as error:
            raise NotLearned(f"{type(error).__name__}: {error}") from error
        self.store, self.own = opened.store, opened.own
        self.make, self.openings = make_text(opened), opened.openings
        self.other_files: tuple[str, ...] = ()
        self.other_databases: tuple[str, ...] = ()
        # The first method that has left a transaction open.
        self._begins = ""
        # The most items that each collection in memory has had between the calls of `effects`.
        self.peaks: dict[str, int] = {}
        # The arguments of calls that have changed something.
        self._known: dict[str, Any] = {}
        # The last of these calls.
        self._last: Action | None = None
        mappings = [name for name, value in held(self.own) if isinstance(value, Mapping)]
        self.defaults = {name: data for name in mappings if (data := asked(self.own, name)) is not None}
        # The tables that had rows before any call, with these; without each that a call has changed.
        self.begun = {table.name: table for table in self.tables() if table.rows}

    def idle(self) -> list[Action]:
        """The calls with arguments that had no effect."""
        return self._first_calls(NO_EFFECT)

    def failed(self) -> list[Action]:
        """The calls with arguments that raised an error with all of them: those of each kind."""
        return self._calls_left_out(_RAISED, _MOST_KINDS)

    def _first_calls(self, why: str) -> list[Action]:
        return self._calls_left_out(why, 1)

    def _calls_left_out(self, why: str, most: int) -> list[Action]:
        without = [name for name, reason in self.left_out.items() if reason.startswith(why)]
        listed = ((name, self._arguments(name, operator.attrgetter(name)(self.store))) for name in without)
        return [Action(name, one) for name, args in listed for one in itertools.islice(args, most) if one]

    def _arguments(self, name: str, method: Any) -> Iterator[dict[str, Any]]:
        # Parameters of one name are likely of one kind.
        own_last = sorted(self._prefers.items(), key=lambda one: one[0][0] == name)
        return arguments(method, {parameter: value for (_, parameter), value in own_last})

    # -- the methods ----------------------------------------------------------------------------------------

    def discover(self) -> list[tuple[Action, int]]:
        """The calls that change the file, in an order in which they work, each with how many rows it added."""
        found = self._discovered(self.methods())
        if not any(added > 0 for _, added in found) and self.store is self.own:
            # A store may leave all that to its parts.
            found += self._discovered([one for name in parts_of(self.own) for one in self.methods(name)])
        # The last call meets at the end what it has met before.
        again = {*self.reads, self._begins} - {found[-1][0].name if found else ""}
        found += self._done_later([action for action, _ in found if action.name in again])
        self._finish()
        return found

    def _discovered(self, methods: list[tuple[str, Any]]) -> list[tuple[Action, int]]:
        found: list[tuple[Action, int]] = []
        taking = [one for one in methods if one[0].rpartition(".")[2].startswith(_TAKES_AWAY)]
        # What takes away comes last: others may need what is there.
        for is_last in (False, True):
            waiting = taking if is_last else [one for one in methods if one not in taking]
            for _ in range(2):
                left = []
                for name, method in waiting:
                    done = self._try(name, method)
                    if done is None:
                        left.append((name, method))
                    elif not is_last and any(added < 0 for _, added in done) and self._put_back(found, done):
                        # By its name it did not seem to take away.
                        taking.append((name, method))
                        self.taken += [action for action, _ in done]
                    else:
                        found += done
                waiting = left
                if is_last and waiting:
                    found += self._add_again(found)
            # What compacts the file, or writes it anew, is worth a sweep.
            rewriting = [self._rewrites[name] for name, _ in waiting if name in self._rewrites]
            found += [(action, 0) for action in rewriting]
            for action in rewriting:
                self.left_out.pop(action.name, None)
        return found

    def _done_later(self, reads: list[Action]) -> list[tuple[Action, int]]:
        """Those of the calls that changed nothing which do after all others, such as one that restores what is gone."""
        found = []
        for action in reads:
            before = self.tables()
            works = self._call(action)
            after = self.tables()
            # A transaction that no method ends is a defect, as above.
            begins = self._begins in ("", action.name) and leaves_a_transaction(self.directory)
            begins = begins and not ending(self.store)
            if works and (begins or after != before):
                self.reads.discard(action.name)
                self._keep(after)
                self._environment.now_ms += STEP_MS
                found.append((action, count(after) - count(before)))
        return found

    def _put_back(self, found: list[tuple[Action, int]], taken: list[tuple[Action, int]]) -> bool:
        """Repeat the calls that added something, and say whether as many rows came back as were taken."""
        before = count(self.tables())
        self._repeat([action for action, added in found if added > 0])
        return count(self.tables()) >= before - sum(added for _, added in taken)

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

    def play_like(self, other: "Played", actions: list[Action]) -> "Played":
        """Make other calls than `other` did, knowing what it has learned."""
        self.tried, self.left_out, self.ended = other.tried, other.left_out, other.ended
        self.changing = {*other.changing}
        self.answers = dict.fromkeys(name for name in other.answers if name not in other.changing)
        self.changes = other.changes
        self.repeat(actions)
        return self

    def effects(self, actions: Sequence[Action]) -> list[Effect | None]:
        """Make the calls and close the store; the effect of each, None for one that failed."""
        found: list[Effect | None] = []
        after = self.tables()
        for action in actions:
            before = after
            works = self._call(action)
            self._environment.now_ms += STEP_MS
            after = self.tables()
            self.peaks = {name: max(size, self.peaks.get(name, 0)) for name, size in sizes(self.own).items()}
            effect = Effect(count(after) - count(before), lost_rows(before, after), before != after)
            found.append(effect if works else None)
        self._finish()
        return found

    def _repeat(self, actions: list[Action]) -> None:
        for action in actions:
            self._call(action)
            self._environment.now_ms += STEP_MS
            self._keep(self.tables())

    def _call(self, action: Action) -> bool:
        self._newest = str(action)
        with contextlib.suppress(*FAILURES), limit(A_CALL_S, "it did not return"), self._during(str(action)):
            called(operator.attrgetter(action.name)(self.store), copy.deepcopy(action.args))
            return True
        return False

    def methods(self, part: str = "") -> list[tuple[str, Any]]:
        """The public methods that can be tried, in the order of the class; those of a part by `part.method`."""
        if part.startswith("_"):
            return []
        own = getattr(self.own, part) if part else self.own
        names = [name for kind in reversed(type(own).__mro__[:-1]) for name in vars(kind)]
        found = []
        for name in dict.fromkeys(names):
            method = getattr(type(own), name, None)
            is_public = not name.startswith("_") or name in ("__setitem__", "__delitem__")
            if not is_public or not inspect.isfunction(method) or name in ("close", *self.openings):
                continue
            whole = f"{part}.{name}" if part else name
            reason = self.ended.get(whole) or why_left_alone(
                name, method, needed(method), awaits=isinstance(self.store, Awaited)
            )
            if reason:
                self.left_out[whole] = reason
            else:
                found.append((whole, getattr(own if part else self.store, name)))
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
        fits = [one for one in reasons if not one.startswith(f"{_RAISED} TypeError")]
        self.left_out[name] = [*fits, *reasons, NEEDS_AN_OBJECT][0]
        return None

    def _tried_with(self, name: str, method: Any, args: dict[str, Any]) -> list[tuple[Action, int]] | str:
        """The calls worth a sweep; or why these arguments lead to none."""
        before = self.tables()
        beside, own = self._beside(), self._own_file()
        with self._not_ended_by(name), _kept_out_of_here(name, args):
            try:
                self._newest = str(Action(name, args))
                with limit(A_CALL_S, f"{name} did not return"), self._during(self._newest):
                    returned = called(method, copy.deepcopy(args))
                    if inspect.isgenerator(returned):
                        returned = list(returned)
            except FAILURES as error:
                # A message of several lines stands in a comment of the target, too.
                return " ".join(f"{_RAISED} {type(error).__name__}: {error}".split())[:100]
            after = self.tables()
        if inspect.isawaitable(returned) or hasattr(returned, "__enter__"):
            self.left_out[name] = f"it returned a {type(returned).__name__}"
            return []
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
        if begins or after != before or self._beside() != beside:
            self._known, self._last = args | self._known, Action(name, args)
            self.reports = self.reports or reporting(returned)
            self.better |= better_values(name, args, before, after)
            self._environment.now_ms += STEP_MS
            return [(Action(name, args), added)]
        if not args and returned is not None:
            self.answers.setdefault(f"{name}()", None)
            self._keep(after)
        # A read has an answer; a call without effect and answer may need other arguments.
        if is_data(returned):
            self.reads.add(name)
            self._environment.now_ms += STEP_MS
            return [(Action(name, args), 0)]
        return self._why_no_effect(Action(name, args), method, wrote=self._own_file() != own)

    def _evaluated(self, expression: str) -> Any:
        """What an expression of `connection_in` says of the store."""
        return eval(expression, {"store": self.store, "os": os, "threading": threading})  # noqa: S307 - our own

    def _beside(self) -> dict[str, tuple[int, int, int]]:
        return states_of(self.directory, others(self.directory, self.file))

    def _own_file(self) -> dict[str, tuple[int, int, int]]:
        return states_of(self.directory, [self.file, f"{self.file}-wal"])

    @contextlib.contextmanager
    def _not_ended_by(self, call: str) -> Iterator[None]:
        """Raise `EndedError` if a call in this scope removes the database, or closes the only connection."""
        # What a store has dropped unclosed is no connection that a call could close.
        collect()
        file = self.file and self.directory / self.file
        was_open = bool(file) and faults.is_open(file)
        yield
        if file and not file.exists():
            raise EndedError(call, REMOVES_THE_FILE)
        if was_open and not faults.is_open(file):
            # It may open another at its next call.
            if self._last is not None:
                self._call(self._last)
            if not faults.is_open(file):
                raise EndedError(call, CLOSES)

    def _wrote_later(self, end: str) -> bool:
        """Whether `end` has written what calls without an effect had left; they get that as their reason."""
        later = [name for name, reason in self.left_out.items() if reason == NO_EFFECT]
        self.left_out |= dict.fromkeys(later, writes_later(end))
        return bool(later)

    def _why_no_effect(self, action: Action, method: Any, *, wrote: bool) -> str:
        if wrote:
            # With other arguments, or later, it may change a row, too.
            self._rewrites.setdefault(action.name, action)
        if self._begins == action.name:
            return f"it leaves a transaction open, which {ending(self.store)} ends: call both in one method"
        listed = takes_a_list(method)
        return f"it takes *{listed}, which a call by name can't fill" if listed else NO_EFFECT

    def _keep(self, tables: list[Table]) -> None:
        """Views are matched with the moment that has the most rows."""
        self.held |= dict.fromkeys(
            name for name in self._data() if holds_data(asked(self.store, name), connection_classes())
        )
        self.begun = {name: table for name, table in self.begun.items() if table in tables}
        ours = [table for table in tables if table.name not in self.begun]
        self.moving |= {(table.name, column) for table in ours for column in with_the_time(table)}
        for table in ours:
            if table.rows and len(table.rows) >= len(self.fullest.get(table.name, table).rows):
                self.fullest[table.name] = table
        if count(ours) >= count(self.most):
            self.most = ours
            for name in self._looks():
                with self._during(name):
                    self.answers[name] = asked(self.store, name)
                if name.endswith("()") and self.tables() != tables:
                    # It is no answer: it has found something to do since.
                    self.answers.pop(name)
                    self.changing.add(name)

    def _data(self) -> list[str]:
        own = [*(name for name, _ in held(self.own)), *properties(self.own)]
        return [*own, *(f"{part}.{name}" for part, one in parts_of(self.own).items() for name, _ in held(one))]

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
        if not self.closes and self.store is self.own:
            closing = (name for name, why in self.ended.items() if why == CLOSES and name.isidentifier())
            self.closes = next((name for name in closing if not needed(getattr(self.own, name))), "")
        close = getattr(self.store, "close", None)
        if close is None and self.connection is not None:
            close = self._evaluated(f"store.{self.connection}.close")
        before = self.tables()
        with contextlib.suppress(*FAILURES), limit(A_CALL_S, "close did not return"):
            if close is not None:
                close()
        if self.file and not count(before) and count(self.tables()):
            self._wrote_later("close")
        self.other_files = others(self.directory, self.file)
        self.other_databases = tuple(name for name in self.other_files if is_database(self.directory / name))
        # What was dropped unclosed, the searches collect as well.
        collect()
        self.stays_open = bool(self.file) and faults.is_open(self.directory / self.file)
        if not self.file:
            if self.other_files:
                names = ", ".join(self.other_files[:3]) + (" …" if len(self.other_files) > 3 else "")
                raise NotLearned(f"{NO_DATABASE}, only {names}")
            raise NotLearned(NO_DATABASE)
        if "/" in self.file:
            raise NotLearned(f"it makes a folder for its file, {self.file}")

    def _level(self) -> str:
        """The level of synchronous of an open connection; else the one that the source names, or SQLite's default."""
        with contextlib.suppress(*sqlite_errors()):
            for level in setting_of_each(self.directory, "synchronous"):
                return _LEVELS[level]
        with contextlib.suppress(OSError, TypeError, KeyError):
            source = inspect.getsource(sys.modules[type(self.own).__module__])
            if found := re.search(r"\bsynchronous\s*=\s*['\"]?(\w+)", source, re.IGNORECASE):
                named = found[1].upper()
                return named if named in _LEVELS else dict(zip("0123", _LEVELS, strict=True)).get(named, "FULL")
        return "FULL"

    def tables(self) -> list[Table]:
        """All tables with their rows; raises `NotLearned` if the calls have left a file that can't be read."""
        try:
            self.file, self.journal_mode, tables = read(self.directory)
        except sqlite3.Error as error:
            last = f"after {self._newest}" if self._newest else "after it was opened"
            raise NotLearned(f"{last} the store's file can't be read, without any fault: {error!r}") from error
        return tables


def _as_it_is(_call: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def _kept_out_of_here(call: str, args: Mapping[str, Any]) -> Iterator[None]:
    """Raise `EndedError` if a call in this scope writes into the working directory, which is not the store's.

    A file that has one of the arguments as its name was made by the call, and is removed.
    """
    here = Path.cwd()
    before = {one.name for one in here.iterdir()}
    yield
    new = sorted({one.name for one in here.iterdir()} - before - _NOT_OF_A_CALL)
    for name in new:
        if name in args.values() and (here / name).is_file():
            (here / name).unlink()
    if new:
        raise EndedError(call, f"{WRITES_HERE} {new[0]!r}")
