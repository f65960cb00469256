"""The states that a crash may leave at each position of a tape, given the answers that callers had by then.

The rules are measured (``docs/sqlite-under-faults.md``):

- a *process* crash leaves the acknowledged state, or that plus the one pending call, at every level;
- a *power* cut does too where the configuration promises it (`EXACT`): WAL, TRUNCATE and PERSIST at FULL, all at EXTRA;
- DELETE at FULL may lose the last acknowledged transaction, and no other (`LAST`): SQLite does not sync the directory
  after it unlinks the journal;
- WAL at NORMAL may lose any number of the newest acknowledged transactions, never one from the middle (`PREFIX`), and a
  later crash may bring those back;
- rollback journals at NORMAL, and everything at OFF, promise `NOTHING` for a power cut: the loss is only reported.

A crash may bring back a failed change as long as it is a *maybe-committed write*, unless the store reported
`unchanged`. A failed change that readers see may be gone after a power cut: in a rollback mode COMMIT may fail after
the journal was deleted, and in WAL a store may sync by itself after the commit (a checkpoint, or a file of its own).
"""

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any

import msgspec

from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.judging.numbers import is_among
from tornpage.scenarios.model.judging.oracle import Answer, may_have_stopped_at
from tornpage.scenarios.model.target import Configuration, View


class Promise(Enum):
    """What a configuration promises of acknowledged changes."""

    EXACT = "all of them are there"
    LAST = "all but the last one are there"
    PREFIX = "those that are there come before those that are lost"
    NOTHING = "nothing"

    def may_lose(self, changes: int | None) -> bool:
        """Whether the newest `changes` changes may be lost; None stands for a state that never existed."""
        return changes is not None and (self is Promise.PREFIX or (self is Promise.LAST and changes == 1))


def promise_of(configuration: Configuration, *, power: bool) -> Promise:
    """The promise for a kind of crash."""
    rollback = configuration.journal_mode != "wal"
    if not power:
        return Promise.EXACT
    if configuration.synchronous == "OFF" or (rollback and configuration.synchronous == "NORMAL"):
        return Promise.NOTHING
    if configuration.synchronous == "NORMAL":
        return Promise.PREFIX
    return (
        Promise.LAST if (configuration.journal_mode, configuration.synchronous) == ("delete", "FULL") else Promise.EXACT
    )


class Outcome(msgspec.Struct, frozen=True):
    """An allowed crash: how many acknowledged changes it lost, and whether a failed change came back."""

    lost: int = 0
    reappeared: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """One call on the tape, made in step `step` of a scenario.

    It began before operation `begin`, and returned to its caller before operation `end`. `settled` is the state that a
    reader saw afterwards, `maybe_committed` the states that a crash may bring instead, `before` those that a power cut
    may go back to. `committed` is the number of changes in the history up to then.
    """

    step: int
    call: str
    begin: int
    end: int
    answer: Answer
    stages: tuple[View, ...]
    settled: View
    maybe_committed: tuple[View, ...]
    before: tuple[View, ...]
    committed: int
    # Of plain files: other values that keys of a failed call may have after a power cut, since they were not synced.
    doubtful: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    # How many spans came before it, and whether one up to this has failed: looked up for every state.
    number: int = 0
    has_failed: bool = False


@dataclass
class History:
    """The states of one store on one tape, oldest first."""

    configuration: Configuration
    start: View
    # What an earlier power cut has lost, and a crash may bring back: see `Oracle.lost`.
    lost: tuple[View, ...] = ()
    spans: list[Span] = field(default_factory=list)
    _changes: list[tuple[View, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changes.append((self.start, True))
        self.spans.append(Span(0, "the start", 0, 0, Answer("done"), (), self.start, (), (), 1))

    def called(
        self,
        step: int,
        call: str,
        begin: int,
        end: int,
        answer: Answer,
        stages: Sequence[View],
        after: View,
        settled: View,
        maybe_committed: Sequence[View] = (),
        *,
        beside: bool = False,
    ) -> None:
        """Record a call between two positions that would lead over `stages` to `after`, and left `settled`.

        `beside`: it has changed files other than the database's.
        """
        last = self.spans[-1]
        on_the_way = [*stages, after] if answer.kind == "done" else [settled]
        for view in on_the_way:
            if view != self._changes[-1][0]:
                self._changes.append((view, answer.kind == "done"))
        changed = settled != last.settled
        before = last.before
        if changed:
            before = (last.settled,) if answer.kind == "raised" else ()
        in_doubt = self._doubtful(last, after, settled, answer, beside=beside)
        told_stages = (*stages, after) if answer.kind in {"raised", "done"} else ()
        self.spans.append(
            Span(
                step,
                call,
                begin,
                end,
                answer,
                told_stages,
                settled,
                tuple(maybe_committed),
                before,
                len(self._changes),
                in_doubt,
                len(self.spans),
                last.has_failed or answer.kind == "raised",
            )
        )

    @property
    def states(self) -> tuple[View, ...]:
        """All states that the store has been in, oldest first."""
        return tuple(view for view, _ in self._changes)

    def may_return(self, position: int) -> tuple[View, ...]:
        """States that a power cut there may have taken away, and that a later crash may bring back, in WAL mode.

        The cut takes one frame and leaves later ones; a call that writes the same frame again joins those to the log.
        Where every COMMIT is synced, only what was not acknowledged yet can be lost so.
        """
        if promise_of(self.configuration, power=True) is Promise.PREFIX:
            return self.states
        if self.configuration.journal_mode != "wal":
            return ()
        rest, pending = self.at(position)
        return (*rest.maybe_committed, *(pending.stages if pending else ()))

    def judge(self, position: int, view: View, *, power: bool, doubts: bool = True) -> Outcome:
        """Whether a crash after `position` operations may show `view`; raises `Violation` where it may not.

        Without `doubts` it has lost nothing that a failed call did to a file other than the database's.
        """
        rest, pending = self.at(position)
        pending_too = (rest.settled, *pending.stages) if pending else (rest.settled,)
        if power and doubts and rest.doubtful:
            # The pending call may have set such a key, too.
            if any(self._is_among(_settled_doubts(view, rest, one), rest, (one,)) for one in pending_too[1:]):
                return Outcome()
            view = _settled_doubts(view, rest, rest.settled)
        if (
            self._is_among(view, rest, pending_too)
            or may_have_stopped_at(view, pending_too)
            or (power and view in rest.before)
        ):
            return Outcome()
        if self._is_among(view, rest, (*rest.maybe_committed, *self.lost)):
            return Outcome(reappeared=True)
        promise, lost = promise_of(self.configuration, power=power), self._lost(view, rest)
        if promise is Promise.NOTHING or promise.may_lose(lost) or self._lost_within(view, rest, promise):
            return Outcome(lost or 0)
        if promise is Promise.PREFIX and any(
            self._is_among(view, span, span.maybe_committed) for span in self._until(rest)
        ):
            return Outcome(reappeared=True)
        raise self._violation(view, rest, pending, power=power)

    def _is_among(self, view: View, rest: Span, possible: Sequence[View]) -> bool:
        """Whether a view is one of the states possible after a call, apart from used-up numbers."""
        return view in possible or is_among(view, rest.settled, possible, numbers_used=rest.has_failed)

    def _doubtful(
        self, last: Span, after: View, settled: View, answer: Answer, *, beside: bool
    ) -> dict[str, tuple[Any, ...]]:
        """Values that a power cut may restore after later calls: plain files are synced one by one.

        A failed call may have changed a file and not synced it: the earlier value may come back. Or it may have undone
        its change, as by removing the new file after the sync of the directory has failed, and that is not synced
        either: the new value may come back, unless the store reported `unchanged`.
        """
        kept = {key: values for key, values in last.doubtful.items() if _same_at(key, last.settled, settled)}
        if answer.kind != "raised" or not (beside or self.configuration.journal_mode == "file"):
            return kept
        others = (last.settled,) if answer.certainty == "unchanged" else (last.settled, after)
        for other in others:
            for key in {*other, *settled}:
                if not _same_at(key, other, settled):
                    kept[key] = (*kept.get(key, last.doubtful.get(key, ())), other.get(key, ABSENT))
        return kept

    def _lost_within(self, view: View, rest: Span, promise: Promise) -> bool:
        """Whether a crash may lose some commits of a failed call that commits more than once."""
        if promise not in (Promise.PREFIX, Promise.LAST):
            return False
        for previous, span in reversed(list(pairwise(self._until(rest)))):
            half_way = (previous.settled, *span.stages, span.settled)
            if span.answer.kind == "raised" and len(span.stages) > 1 and may_have_stopped_at(view, half_way):
                return True
            if promise is Promise.LAST and span.settled != previous.settled:
                break
        return False

    def step_at(self, position: int) -> int:
        """The step of the scenario in progress at `position`, or else the last one before it."""
        rest, pending = self.at(position)
        return (pending or rest).step

    def is_closing_at(self, position: int) -> bool:
        """Whether the store was being closed at `position`, or closing was the last call before it."""
        rest, pending = self.at(position)
        return (pending or rest).call == "close"

    def at(self, position: int) -> tuple[Span, Span | None]:
        """The last call that had returned by then, and the pending call, if any."""
        # Called for every state, so it searches by bisection.
        after = bisect.bisect_right(self.spans, position, key=lambda span: span.end)
        pending = self.spans[after] if after < len(self.spans) else None
        return self.spans[after - 1], pending if pending is not None and pending.begin < position else None

    def _until(self, rest: Span) -> list[Span]:
        return self.spans[: rest.number + 1]

    def _lost(self, view: View, rest: Span) -> int | None:
        """How many acknowledged changes came after the newest one that left `view`; None where no change left it."""
        lost = 0
        for earlier, acknowledged in reversed(self._changes[: rest.committed]):
            if earlier == view:
                return lost
            lost += acknowledged
        return None

    def _nearest(self, view: View, rest: Span, pending: Span | None, promise: Promise) -> View:
        """The allowed state that differs least from `view`: what a crash may lose is not a part of what is wrong.

        Of equally near ones it is one with the same keys: a wrong value says more than a key that should be missing.
        """
        allowed = [rest.settled, *(pending.stages if pending else ()), *rest.maybe_committed]
        lost = 0
        for earlier, acknowledged in reversed(self._changes[: rest.committed]):
            if promise.may_lose(lost):
                allowed.append(earlier)
            lost += acknowledged
        return min(allowed, key=lambda one: (len(differences(one, view)), len(one.keys() ^ view.keys())))

    def _violation(self, view: View, rest: Span, pending: Span | None, *, power: bool) -> Violation:
        expected = self._nearest(view, rest, pending, promise_of(self.configuration, power=power))
        failed = [
            span.stages
            for previous, span in pairwise(self._until(rest))
            # Nothing can have come back without a change, or of one that readers saw at once.
            if span.answer.kind == "raised" and view not in (previous.settled, span.settled)
        ]
        earlier_keys = {key for earlier, _ in self._changes[: rest.committed] for key in earlier}
        older = earlier_keys - expected.keys()
        lost = self._lost(view, rest)
        if any(view in stages for stages in failed):
            code = "failed-write-changed-nothing"
        elif view.keys() & older:
            code = "no-resurrection"
        elif pending is not None and lost is None and not _is_lost_before(view, rest, pending, earlier_keys):
            code = "all-or-nothing"
        else:
            code = "acknowledged-is-durable"
        kind = "power cut" if power else "crash of the process"
        reported = f"after {rest.call} {rest.answer}" + (f", while {pending.call} was pending" if pending else "")
        many = f" ({lost} acknowledged changes are lost)" if lost else ""
        detail = describe(differences(expected, view), "the expected state", "the reopened file")
        return Violation(code, f"a {kind} {reported}{many}: {detail}", {"expected": expected, "reopened": view})


def _is_lost_before(view: View, rest: Span, pending: Span, earlier: Collection[str]) -> bool:
    """Whether a view differs in a key that the pending call leaves alone; `earlier` are keys that may be gone since."""
    return any(
        not _same_at(key, view, rest.settled) and all(_same_at(key, stage, rest.settled) for stage in pending.stages)
        for key in (*rest.settled, *earlier)
    )


def _same_at(key: str, one: View, other: View) -> bool:
    return bool(one.get(key, ABSENT) == other.get(key, ABSENT))


def _settled_doubts(view: View, rest: Span, state: View) -> View:
    """The view, in which each key that has one of its doubtful values gets that of a state."""
    back = {key for key, values in rest.doubtful.items() if view.get(key, ABSENT) in values}
    seen = {key: state[key] for key in back if key in state}
    return {**{key: value for key, value in view.items() if key not in back}, **seen}
