"""The allowed results of two calls: those of one after the other, in either order; and the check of any other result.

A refused or failed call may count as not made; a failed one may also count as made before it failed, unless SQLite
returned busy or the store reports ``unchanged``. An acknowledged call counts as made, with the answer that it has in
that order. One exception: a call that changes something and has an answer may also return *nothing* (None, False, zero,
an empty value) if it lost a race, and then has changed nothing: many queues with a compare-and-swap claim do so. And an
acknowledgement without an answer may stand for a refusal where the call only removes things, as when two callers remove
one item: of a claim or a registration the caller would believe that it is its own. A new row may have a larger id than
in the order (`larger_ids`). For calls that commit more than once (`many_commits`) each key may be as in any order.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from tornpage.faults.files import spared
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.file_sizes import differ_in_numbers
from tornpage.scenarios.execution.generic_checks.open_connections import leaves_a_transaction
from tornpage.scenarios.execution.interleave.sessions import (
    PENDING,
    Said,
    Session,
    Setting,
    closed,
    made,
    made_by,
    opened,
)
from tornpage.scenarios.execution.reopen import view_of
from tornpage.scenarios.execution.session_in_use import HangsError
from tornpage.scenarios.execution.snapshots import Files, Holder, is_own, place, require_let_go
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.clock import Clock
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.answers import NotCompared, agreed, in_words, is_alike
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.numbers import is_with_ids, larger_ids
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, View

_Any = TypeVar("_Any")
_SIMPLE: Final = (bool, int, float)
# An answer that is drawn at random from two often is the same in two runs.
_OTHERS: Final = 8


class State(msgspec.Struct, frozen=True):
    """The state from which two calls start: the files, their view, the clock and its step, and the calls before it."""

    files: Files
    view: View
    step: int
    before: tuple[Action, ...] = ()
    clock: Clock = Clock()

    def setting(self, home: Path, configuration: Configuration) -> Setting:
        """How a session is opened at the state."""
        return Setting(home, configuration, self.step, self.clock)


class Run(msgspec.Struct, frozen=True):
    """The result of one call: the answer, the file's view, and the files."""

    said: Said
    view: View
    files: Files


class Outcome(msgspec.Struct, frozen=True):
    """The result of a schedule: each caller's answer, and the file's view."""

    first: Said
    second: Said
    view: View


class Serial:
    """Calls made one after the other from one state, each in a new session; cached."""

    def __init__(self, target: Target, configuration: Configuration, home: Path, state: State) -> None:
        self.state = state
        self.target = target
        self.configuration = configuration
        self.home = home
        self._known: dict[tuple[str, ...], Run] = {}
        self._hangs: dict[tuple[str, ...], HangsError] = {}
        self._after: dict[str, Serial] = {}
        self._confirmed: Serial | None = None
        self._untouched: Files | None = None
        # By the two calls.
        self.orders: dict[tuple[str, str], list[Order]] = {}

    def run(self, *actions: Action) -> Run:
        """The result of the last of these calls, after the others; raises `HangsError`, the second time at once."""
        key = tuple(map(_key, actions))
        if key in self._hangs:
            raise self._hangs[key]
        if key not in self._known:
            files = self.run(*actions[:-1]).files if len(actions) > 1 else self.state.files
            try:
                self._known[key] = self._make(actions[-1], files)
            except HangsError as hang:
                self._hangs[key] = hang
                raise
        return self._known[key]

    def after(self, earlier: Action) -> "Serial":
        """The calls from the state that this call leads to, a step later."""
        key = _key(earlier)
        if key not in self._after:
            run = self.run(earlier)
            before, step = (*self.state.before, earlier), self.state.step + 1
            state = State(run.files, run.view, step, before, self.state.clock)
            self._after[key] = Serial(self.target, self.configuration, self.home, state)
        return self._after[key]

    def confirmed(self) -> "Serial":
        """The same calls repeated; an answer that differs then is not compared."""
        if self._confirmed is None:
            self._confirmed = _Confirmed(self)
        return self._confirmed

    def only_reads(self, action: Action) -> bool:
        """Whether the call, made alone, leaves the same files as a session without any call."""
        return self.run(action).files == self._without_a_call()

    def only_reads_after(self, other: Action, action: Action) -> bool:
        """Whether the call, made after another one, leaves the same files as that one alone.

        A call that is refused before the other one, such as the removal of what that makes, does not.
        """
        return self.run(other, action).files == self.run(other).files

    def plain_files_changed(self, action: Action) -> set[str]:
        """The names of the files, but for the database and its log, that the call, made alone, changes."""
        before, after = self._without_a_call(), self.run(action).files
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        if self.target.files_view is not None:
            return changed
        database = os.path.relpath(self.target.database(self.home), self.home)
        return {name for name in changed if not is_own(name, database)}

    def _without_a_call(self) -> Files:
        if self._untouched is None:
            self._do(self.state.files, lambda _: None)
            self._untouched = left_in(self.home)
        return self._untouched

    def _make(self, action: Action, files: Files) -> Run:
        said = self._do(files, lambda trial: made(trial, action))
        return Run(said, file_view(self.target, self.home), left_in(self.home))

    def _do(self, files: Files, work: Callable[[Trial], _Any]) -> _Any:
        """Do this in a session on these files, which is closed then."""
        trial = self._opened_on(files)
        try:
            done = work(trial)
        finally:
            closed(trial)
        # Files that stay open would be replaced under a connection: whatever the next run sees means nothing.
        require_let_go(self.home)
        return done

    def _opened_on(self, files: Files) -> Trial:
        """A session on a copy of these files; raises `TargetError` if the store can't be opened on it."""
        place(files, self.home)
        try:
            return opened(self.target, self.state.setting(self.home, self.configuration))
        except (TargetError, Violation):
            raise
        except Exception as error:
            what = f"opening the store fails on a copy of its files: {error!r}"
            raise TargetError(f"{self.target.name} fails without any fault at {self.configuration}: {what}") from error

    def made_by(self, caller: Session, action: Action, files: Files | None = None) -> Run:
        """The result of a call by this caller, from these files or the state's."""
        place(self.state.files if files is None else files, self.home)
        said = made_by(caller, action, self.state.setting(self.home, self.configuration))
        return Run(said, file_view(self.target, self.home), left_in(self.home))

    def leaves_open(self, action: Action) -> bool:
        """Whether the call, made alone, leaves a transaction open."""
        trial = self._opened_on(self.state.files)
        try:
            made(trial, action)
            return leaves_a_transaction(self.home)
        finally:
            closed(trial)

    def prepare(self, first: Action, second: Action) -> None:
        """Make these calls in either order, before two sessions are open."""
        orders(self, first, second)


class _Logged(Serial):
    """The same calls, each on files whose log has what the one before it wrote, as beside an open session.

    The copy drops that session's locks, which no other one asks for.
    """

    def or_of_files(self, value: Any, actions: Sequence[Action]) -> Any:
        """The answer to the last of these calls, which is not compared if it tells of the files (`file_sizes`)."""
        try:
            other = self.run(*actions).said.value if len(actions) > 1 else value
        except (HangsError, TargetError, Violation):
            return value
        return agreed(value, other) if differ_in_numbers(value, other) else value

    def _make(self, action: Action, files: Files) -> Run:
        said, left = self._do(files, lambda trial: (made(trial, action), left_in(self.home)))
        return Run(said, file_view(self.target, self.home), left)


class _Confirmed(Serial):
    """The runs of `first`, with the answers on which all other runs agree."""

    def __init__(self, first: Serial) -> None:
        super().__init__(first.target, first.configuration, first.home, first.state)
        self._first = first
        # With files of their own: a call may read what the one before it has drawn.
        self._others = [Serial(first.target, first.configuration, first.home, first.state) for _ in range(_OTHERS)]
        self._logged = _Logged(first.target, first.configuration, first.home, first.state)

    def run(self, *actions: Action) -> Run:
        """The first run of these calls, with an answer that is compared only if those of the other runs are alike."""
        key = tuple(map(_key, actions))
        if key not in self._known:
            one = self._first.run(*actions)
            value = self._logged.or_of_files(one.said.value, actions)
            for other in self._others:
                value = agreed(value, other.run(*actions).said.value)
                if isinstance(value, NotCompared):
                    break
            said = msgspec.structs.replace(one.said, value=value)
            self._known[key] = msgspec.structs.replace(one, said=said)
        return self._known[key]

    def confirmed(self) -> Serial:
        """This one."""
        return self


def left_in(home: Path) -> Files:
    """The files of a directory in which no session is open."""
    holder = Holder()
    try:
        return holder.copy(home)
    finally:
        holder.release()


def _key(action: Action) -> str:
    return msgspec.json.encode(action, enc_hook=repr, order="deterministic").decode()


def file_view(target: Target, home: Path) -> View:
    """What a fresh reader of the file sees; SQLite's own check included."""
    if target.files_view is not None:
        try:
            with spared():
                return target.files_view(home)
        except Exception as error:
            # Two callers may leave half a file.
            raise Violation("integrity", f"a fresh reader of the files fails: {error!r}") from error
    try:
        return view_of(target, target.database(home), integrity=True)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_IOERR:
            raise
        # A store may have removed the log that the other caller has open.
        raise Violation("integrity", f"a fresh reader of the file fails: {error!r}") from error


class Order(msgspec.Struct, frozen=True):
    """A serial order in words: each caller's answer in it (None: its call is not made), and the view after it.

    `reads`, `removes`: whether each call, made alone, only reads, or only removes things.
    """

    words: str
    first: Said | None
    second: Said | None
    view: View
    reads: tuple[bool, bool] = (False, False)
    removes: tuple[bool, bool] = (False, False)


def orders(serial: Serial, first: Action, second: Action) -> list[Order]:
    """All of them: both calls in either order, each alone, and neither."""
    key = _key(first), _key(second)
    if key not in serial.orders:
        one, two = serial.run(first), serial.run(second)
        reads = serial.only_reads(first), serial.only_reads(second)
        removes = _only_removes(serial.state.view, one.view), _only_removes(serial.state.view, two.view)
        found = _orders(serial, one, two, serial.run(first, second), serial.run(second, first))
        serial.orders[key] = [msgspec.structs.replace(order, reads=reads, removes=removes) for order in found]
    return serial.orders[key]


def _only_removes(before: View, after: View) -> bool:
    """Whether things are gone, and no other has changed."""
    return len(after) < len(before) and after.items() <= before.items()


def _orders_by(callers: tuple[Session, Session], serial: Serial, first: Action, second: Action) -> list[Order]:
    """The same, each call made by its own caller: a store may keep the process or the thread that made it."""
    ours, theirs = callers
    one, two = serial.made_by(ours, first), serial.made_by(theirs, second)
    both, turned = serial.made_by(theirs, second, one.files), serial.made_by(ours, first, two.files)
    confirmed = orders(serial, first, second)
    return [
        msgspec.structs.replace(
            known,
            first=_varying(order.first, known.first),
            second=_varying(order.second, known.second),
            view=order.view,
        )
        for order, known in zip(_orders(serial, one, two, both, turned), confirmed, strict=True)
    ]


def _varying(said: Said | None, known: Said | None) -> Said | None:
    """The answer, but the known one where that is not compared."""
    return known if known is not None and isinstance(known.value, NotCompared) else said


def _orders(serial: Serial, one: Run, two: Run, both: Run, turned: Run) -> Iterator[Order]:
    yield Order("A, then B", one.said, both.said, both.view)
    yield Order("B, then A", turned.said, two.said, turned.view)
    yield Order("A alone", one.said, None, one.view)
    yield Order("B alone", None, two.said, two.view)
    yield Order("neither", None, None, serial.state.view)


def require_serial(
    outcome: Outcome, serial: Serial, first: Action, second: Action, callers: tuple[Session, Session]
) -> None:
    """Raise `Violation` if the outcome of these callers, whose sessions are closed, is that of no serial order."""
    if possible := orders_missed(outcome, serial, first, second, callers):
        _accuse(outcome, serial, first, second, possible)


def may_have_it(order: Order, said: Said, possible: list[Order], *, is_first: bool) -> bool:
    """Whether a call with this answer has been made in the order, or may not have been made."""
    there, *usual = [one.first if is_first else one.second for one in (order, *possible)]
    caller = 0 if is_first else 1
    only = order.reads[caller], order.removes[caller]
    return there is not None or _may_get(said, None, usual, only)


def orders_missed(
    outcome: Outcome, serial: Serial, first: Action, second: Action, callers: tuple[Session, Session]
) -> list[Order]:
    """All serial orders, if the outcome is that of none of them; else an empty list."""
    possible = orders(serial, first, second)
    if _is_one_of(possible, outcome):
        return []
    # Before the check fails: repeat the calls, and ignore answers that vary.
    serial = serial.confirmed()
    loose = {first.name, second.name} & set(getattr(serial.target, "many_commits", ()))
    for possible in (orders(serial, first, second), _orders_by(callers, serial, first, second)):
        if _is_one_of(possible, outcome, serial.state.view) or (loose and _is_a_mixture(outcome.view, possible)):
            return []
    return possible


def _is_one_of(possible: list[Order], outcome: Outcome, before: View | None = None) -> bool:
    """Whether the outcome is that of an order; with the state `before` also where new rows have larger ids."""
    return any(_fits(outcome, order, possible, before) for order in possible)


def _fits(outcome: Outcome, order: Order, possible: list[Order], before: View | None) -> bool:
    if outcome.view != order.view:
        ids = {} if before is None else larger_ids(before, order.view, outcome.view)
        if not ids:
            return False
        first, second = _with(ids, order.first, outcome.first), _with(ids, order.second, outcome.second)
        order = msgspec.structs.replace(order, first=first, second=second)
    return all(
        said == PENDING or _may_get(said, wanted, usual, only)
        for said, wanted, usual, *only in (
            (outcome.first, order.first, [one.first for one in possible], order.reads[0], order.removes[0]),
            (outcome.second, order.second, [one.second for one in possible], order.reads[1], order.removes[1]),
        )
    )


def _with(ids: dict[int, int], wanted: Said | None, said: Said) -> Said | None:
    """The answer of an order; with the new ids in it, if the caller got that."""
    if wanted is None or not is_with_ids(ids, wanted.value, said.value):
        return wanted
    return msgspec.structs.replace(wanted, value=said.value)


def _may_get(said: Said, wanted: Said | None, usual: list[Said | None], only: Sequence[bool]) -> bool:
    """Whether a caller may get this answer if the order gives `wanted`, or does not include its call.

    `only`: whether the call only reads, and whether it only removes.
    """
    only_reads, only_removes = only
    if said.is_mistake and not any(one is not None and one.kind == "raised" for one in usual):
        return False
    if wanted is None:
        return said.kind != "done" or (not only_reads and _says_that_nothing_was_done(said, usual))
    if said.kind == "raised":
        return not (said.busy or said.certainty == "unchanged") or wanted.kind != "done"
    if said.kind == "done" and (wanted.kind == "refused" or wanted.says_no):
        # Both removed it, and only one should have got a yes: if the file is right, nothing is lost by that.
        return only_removes and said.value is None
    if said.kind != wanted.kind:
        return False
    return said.kind == "refused" or is_alike(said.value, wanted.value)


def _says_that_nothing_was_done(said: Said, usual: list[Said | None]) -> bool:
    """Whether an answer is empty that is not empty in any order."""
    answers = [one.value for one in usual if one is not None and one.kind == "done"]
    return not said.value and bool(answers) and all(answers)


def _is_a_mixture(view: View, possible: list[Order]) -> bool:
    keys = view.keys() | {key for order in possible for key in order.view}
    return all(any(view.get(key, ABSENT) == order.view.get(key, ABSENT) for order in possible) for key in keys)


def _accuse(outcome: Outcome, serial: Serial, first: Action, second: Action, possible: list[Order]) -> None:
    one = _in_short(outcome.first, [order.first for order in possible])
    two = _in_short(outcome.second, [order.second for order in possible])
    answers = f"A: {first} got {one}; B: {second} got {two}"
    allowed = "; ".join(dict.fromkeys(
        f"{order.words} is {_in_short(order.first, [outcome.first])} and {_in_short(order.second, [outcome.second])}"
        for order in possible[:2]
    ))  # fmt: skip
    views = {"A then B": possible[0].view, "B then A": possible[1].view}
    sides = {"before": serial.state.view, "disk": outcome.view} | views
    if _is_handed_out_twice(outcome, serial, first, second, possible):
        value = in_words(outcome.first.value)
        raise Violation("handed-out-twice", f"both callers got {value}: {answers}; but {allowed}", sides)
    closest = min((differences(order.view, outcome.view) for order in possible[:2]), key=len)
    rows = f"; {describe(closest, 'the nearest order', 'the file')}" if closest else ""
    usual = {(_in_short(order.first, []), _in_short(order.second, [])) for order in possible[:2]}
    but = ", as in either order" if rows and usual == {(one, two)} else f"; but {allowed}"
    raise Violation("not-serializable", f"{answers}{but}{rows}", sides)


def _in_short(said: Said | None, others: Sequence[Said | None]) -> str:
    """An answer in words; None is one where others are not."""
    if said is not None and said.kind == "done" and said.value is None and any(one and one.value for one in others):
        return "None"
    return "not made" if said is None else str(said)


def _is_handed_out_twice(
    outcome: Outcome, serial: Serial, first: Action, second: Action, possible: list[Order]
) -> bool:
    """Whether both got the same result, which in each order only one of them gets.

    Numbers and booleans count only if the target lists the call in `hands_out`.
    """
    one, two = outcome.first, outcome.second
    if one.kind != "done" or two.kind != "done" or not one.value or not is_alike(one.value, two.value):
        return False
    declared = {first.name, second.name} <= set(getattr(serial.target, "hands_out", ()))
    if isinstance(one.value, (*_SIMPLE, NotCompared)) and not declared:
        return False
    return all(
        order.first is not None and order.second is not None and not is_alike(order.first.value, order.second.value)
        for order in possible[:2]
    )
