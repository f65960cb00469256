"""The behaviour of a store, learned by playing it without any fault: creation, changing methods, and their rows.

Method. The class is created with a path in an empty directory, in each of the ways that its signature may mean, until
an SQLite file exists, and is `played`. Everything is repeated in a second directory, a month later: a column that
differs then depends on the time of day, or is random.

The result is a proposal, which the contract of view and rows then checks.
"""

import contextlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from tornpage.scenarios.execution.preflight.other_clock import later
from tornpage.scenarios.model import ambient
from tornpage.scenarios.model.awaited import Awaited
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.run.first_steps.arguments import ways_to_make
from tornpage.scenarios.run.first_steps.bounds import lowered_bound
from tornpage.scenarios.run.first_steps.learned import choices_of, is_better
from tornpage.scenarios.run.first_steps.left_out import EndedError, LockedOutError, NotLearned, nothing_added
from tornpage.scenarios.run.first_steps.more_calls import mirrored, overwriting, put_in, second_keys, with_more
from tornpage.scenarios.run.first_steps.of_functions import ways_to_use
from tornpage.scenarios.run.first_steps.played import NO_DATABASE, Played
from tornpage.scenarios.run.first_steps.stable_columns import DiffersError, stable
from tornpage.scenarios.run.first_steps.tables import Table
from tornpage.scenarios.run.first_steps.values import beats_of

_A_MONTH_S: Final = 31 * 86_400
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
    # The attribute that limits what it keeps in memory, to be lowered; "" for none.
    lowered: str = ""
    # How many of the calls, the last ones, take two keys both ways, or make these keys anew.
    both_ways: int = 0
    # What mappings of a new store hold, by attribute: defaults, which are in no table.
    begun: Mapping[str, Any] = {}
    # The binding of the library that it opens its file with.
    library: str = "sqlite3"
    # Whether its file is still open after its `close`.
    stays_open: bool = False
    # The field by which what a call returns says whether it has worked; "" for none.
    reports: str = ""
    # Files beside the database that no view of its tables shows.
    other_files: tuple[str, ...] = ()
    # Those of them that are databases.
    other_databases: tuple[str, ...] = ()
    # The tables and the answers without those calls.
    earlier: tuple[Sequence[Table], Mapping[str, Any]] = ((), {})
    # The calls that changed nothing and returned data.
    reads: frozenset[str] = frozenset()
    # Whether it is made by its class, and not by a function.
    is_class: bool = True
    # Whether it is asynchronous: then `make` awaits its calls.
    is_awaited: bool = False
    # The methods that open it, once it is made; those of an asynchronous one are in `make`.
    openings: tuple[str, ...] = ()


def observe(store: Callable[..., Any] | ModuleType, directory: Path) -> Observed:
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


def _observe(store: Callable[..., Any] | ModuleType, directory: Path, *, deterministic: bool) -> Observed:
    reasons = []
    ways = ways_to_use(store) if isinstance(store, ModuleType) else ways_to_make(store)
    for number, make in enumerate(ways):
        first, second = directory / f"first-{number}", directory / f"second-{number}"
        try:
            discovered, found = _discovered(store, make, first, deterministic=deterministic)
            if re.match(r"entered\((?!lambda)", make) and not any(added > 0 for _, added in found):
                # What it does may be kept at the end of its block only.
                reasons.append(f"{make}: its calls added no row")
                continue
            played = discovered
            numbers = itertools.count(1)

            def fresh(make: str = make, number: int = number, numbers: "itertools.count[int]" = numbers) -> Played:
                there = directory / f"other-{number}-{next(numbers)}"
                return Played(store, make, there, deterministic=deterministic)

            found = put_in(fresh, found, discovered.taken)
            overwrites = overwriting(fresh, discovered.store, found)
            found = with_more(found, overwrites)
            seconds = second_keys(fresh, found, discovered.idle())
            found = with_more(found, seconds)
            both_ways = mirrored(fresh, found, [*discovered.failed(), *discovered.idle()]) if seconds else []
            found = [*found, *both_ways]
            discovered.left_out = {
                name: reason
                for name, reason in discovered.left_out.items()
                if name not in {one.name for one, _ in found}
            }
            is_plain = discovered.store is discovered.own
            lowered = lowered_bound(fresh, [action for action, _ in found]) if is_plain else ""
            while overwrites or seconds or discovered.changing:
                played = fresh().play_like(discovered, [action for action, _ in found])
                if played.changing <= discovered.changing:
                    break
                discovered.changing |= played.changing
            with contextlib.nullcontext() if deterministic else later(lambda: _A_MONTH_S):
                again = Played(store, make, second, deterministic=deterministic)
                again.repeat([action for action, _ in found])
        except LockedOutError:
            raise
        except NotLearned as error:
            reasons.append(f"{make}: {error}")
            continue
        observed = _observed(played, again, found, deterministic=deterministic)
        return msgspec.structs.replace(
            observed,
            overwriting=_actions(overwrites),
            second=_actions(seconds),
            both_ways=len(both_ways),
            lowered=lowered,
            other_files=played.other_files,
            other_databases=played.other_databases,
            reports=discovered.reports,
            earlier=(discovered.most, discovered.answers),
            reads=frozenset(discovered.reads),
            is_class=inspect.isclass(store),
        )
    plain = _PLAIN_FILES if any(NO_DATABASE in one for one in reasons) else ""
    raise NotLearned(
        f"no way to make it leaves an SQLite file there; tried {'; '.join(reasons)}; write a function (or an "
        f"`async def`) that takes a path and returns such a store, and name that: --from MODULE:FUNCTION{plain}"
    )


def _discovered(
    store: Callable[..., Any] | ModuleType, make: str, directory: Path, *, deterministic: bool
) -> tuple[Played, list[tuple[Action, int]]]:
    """A store that was played, and the calls that were found; with better values where the rows say so."""
    first, found = _without_endings(store, make, directory, deterministic=deterministic)
    for number, choice in enumerate(choices_of(first.better)):
        with contextlib.suppress(NotLearned):
            there = directory.with_name(f"{directory.name}-better-{number}")
            other = Played(store, make, there, deterministic=deterministic, better=choice, ended=first.ended)
            others = other.discover()
            if is_better(choice, {one.name for one, _ in found}, {one.name for one, _ in others}):
                return other, others
    return first, found


def _without_endings(
    store: Callable[..., Any] | ModuleType, make: str, directory: Path, *, deterministic: bool
) -> tuple[Played, list[tuple[Action, int]]]:
    """The same with the first values, anew without each call that turns out to end the store."""
    ended = dict[str, str]()
    while True:
        there = directory.with_name(f"{directory.name}-without-{len(ended)}") if ended else directory
        first = Played(store, make, there, deterministic=deterministic, ended=ended)
        try:
            return first, first.discover()
        except EndedError as error:
            ended |= {error.call: error.reason}


def _observed(played: Played, again: Played, found: list[tuple[Action, int]], *, deterministic: bool) -> Observed:
    tables = tuple(stable(one, there, played.moving) for one, there in _with_rows(played, again))
    growing = sorted(((added, action) for action, added in found if added > 0), key=lambda one: one[0])
    if not tables or not growing:
        names = [action.name for action, _ in found]
        raise nothing_added(played.tried, played.left_out, names, played.reads, played.other_databases)
    # One that adds rows to several tables may add one to each: then a view of one of them suits it.
    beats = tuple(one for _, action in growing for one in _beats(action, played.changes.get(action.name, {})))
    return Observed(
        played.make, played.file, played.journal_mode, played.synchronous,
        tuple(action for action, _ in found), beats, tables,
        played.answers, tuple(played.held), played.connection, played.closes, played.left_out,
        deterministic, begun=played.defaults, library=played.library, stays_open=played.stays_open,
        is_awaited=isinstance(played.store, Awaited), openings=played.openings,
    )  # fmt: skip


def _actions(calls: Mapping[int, list[tuple[Action, int]]]) -> tuple[Action, ...]:
    return tuple(action for found in calls.values() for action, _ in found)


def _with_rows(played: Played, again: Played) -> Iterator[tuple[Table, Table]]:
    """Each table that had rows, as it was when there were most rows, or else when it had most; in both runs."""
    for name, most in played.fullest.items():
        if name in again.fullest:
            one, there = ({table.name: table for table in run.most}.get(name) for run in (played, again))
            yield (one, there) if one is not None and there is not None and one.rows else (most, again.fullest[name])


def _beats(action: Action, changes: Mapping[str, bool]) -> list[Beat]:
    names = tuple(sorted(changes, key=lambda name: not changes[name]))
    return [Beat(one, names, sum(changes.values())) for one in beats_of(action)]
