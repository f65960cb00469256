"""Contention: a rival takes a real lock just before the nth lock operation of each call, and lets go of it later.

Method. The sweep plays the workload once per configuration and says where each call starts and how many lock
operations it makes. A point is a rival of some kind (`faults.RIVAL_KINDS`), on another connection of this process or in
a process of its own, that comes at one of these operations; it stays until the call has ended and been looked at, or
until the store has waited 50 ms in virtual time. Each point starts from the files before the call, in a cold session:

- while the rival is there: the call may fail, with the store's word for *busy*; disk and memory are looked at, unless
  the rival is one that keeps every reader out;
- a rival that stays 50 ms must not make the call fail;
- when it has gone: disk and memory again, a copy of the files as a crash would have left them in the middle of it, and
  the next call has to work.

A point counts as a *contention* only where the store was refused a lock, waited for one or was told that it is busy. A
rival that was in nobody's way is *unblocked*; one that could not get its own lock there has *missed*. Of a kind of
rival that blocked the store at none of the points that were tried all points are tried until one does; where none of
them does, that is told as a note: such a rival can't be in this store's way.

Beside a program of its own the rival is there when the call begins, and 50 ms are real; a rival that only commits is in
nobody's way there (`execution.program_rival`).

Not covered: two rivals at once, and a rival that changes what the store shows (its change changes nothing; what two
writers of one ledger make of each other's changes is tested with the ledger).
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from tornpage import faults
from tornpage.scenarios.execution.injection import Condition
from tornpage.scenarios.execution.program_rival import AT_THE_CALL, ProgramRival
from tornpage.scenarios.execution.trial import OPEN, Trial
from tornpage.scenarios.model.events import Series
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.oracle import Answer
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Rival
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.model.work import Need, Part
from tornpage.scenarios.search.points import Met, Point, PointSearch
from tornpage.scenarios.search.workload import Start

SHORT_MS: Final = 50
_OPERATIONS: Final = ("lock", "shmlock")
# A WAL that holds nothing but its header needs no recovery.
_WAL_HEADER_BYTES: Final = 32


def _series(rival: Rival) -> Series:
    """The row of the table that counts a rival."""
    stay = "held to the end" if rival.held_ms is None else f"held {rival.held_ms} ms"
    return Series(rival.kind, rival.place, "before", stay)


class Contend(PointSearch):
    """Lets rivals contend with one target over configurations; tells a `Recorder` what it finds."""

    name = "contend"

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many points of a call; rivals take locks, which are beneath SQLite."""
        return {"most_points_per_call": plan.profile.rival_points, "depths": ("vfs",)}

    def company(self) -> AbstractContextManager[object]:
        """One process for all rivals that need their own."""
        return faults.shared_rival_process()

    def search(self, part: Part) -> bool:
        """Try every point of the part's calls."""
        with self.company():
            return super().search(part)

    def needs(self) -> Iterator[Need]:
        """Some rival was in the way."""
        yield from super().needs()
        yield Need("contentions", "no rival was ever in the way")

    def kinds_never_met(self) -> list[str]:
        """Kinds of rivals that came and never blocked the store."""
        seen = self.total.seen
        return [name for name in sorted(faults.RIVAL_KINDS) if seen[_came(name)] and not seen[_blocked(name)]]

    def is_met(self, kind: str) -> bool:
        """Whether such a rival was in the way."""
        return bool(self.seen[_blocked(kind)])

    def never_met(self, kind: str) -> str:
        """Which rival it is, and what it holds."""
        return f"rival {kind!r} ({faults.RIVAL_KINDS[kind].holds}) blocked the store nowhere"

    # -- what to try ---------------------------------------------------------------------------------------

    def points_of(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        """Every rival at every lock operation of one call; beside a program of its own, when the call begins."""
        if "syscall" in self.target.depths:
            yield from self._beside_a_program(configuration, start)
            return
        for kind in faults.RIVAL_KINDS.values():
            if not kind.fits(configuration.journal_mode) or (kind.name == "recoverer" and not _is_crashed(start)):
                continue
            for where in kind.places:
                for operation in _OPERATIONS:
                    last = start.counts.get((operation, "db"), 0)
                    if kind.name == "recoverer" and operation == "shmlock":
                        # A later reader finds the WAL's index rebuilt, and reads.
                        last = min(last, 1)
                    for ordinal in range(1, last + 1):
                        for held_ms in (None, SHORT_MS) if kind.keeps_a_lock else (None,):
                            rival = Rival(kind.name, operation, ordinal, where, held_ms)
                            yield Point(start, rival, _series(rival))

    def _beside_a_program(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        if not start.files:
            # No database is there yet.
            return
        for kind in faults.RIVAL_KINDS.values():
            if kind.keeps_a_lock and kind.fits(configuration.journal_mode):
                if kind.name == "recoverer" and not _is_crashed(start):
                    continue
                for held_ms in (None, SHORT_MS):
                    rival = Rival(kind.name, AT_THE_CALL, 1, "process", held_ms)
                    yield Point(start, rival, _series(rival))

    def sampled(self, points: list[Any]) -> list[Any]:
        """As many as are wanted of one call, of each kind of rival in its turn."""
        self.count_points(points)
        most = self.at_most
        if most is None or len(points) <= most:
            return points
        by_kind: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for index, point in enumerate(points):
            by_kind[point.series.kind, point.series.role].append(index)
        for deck in by_kind.values():
            self.generator.shuffle(deck)
        order = list(by_kind)
        self.generator.shuffle(order)
        # What has been in the way least often until now comes first.
        decks = [by_kind[key] for key in sorted(order, key=lambda key: self.seen[_blocked(key[0])])]
        chosen: list[int] = []
        while len(chosen) < most:
            chosen += [deck.pop() for deck in decks if deck]
        self.leave_out(len(points) - most)
        return [points[index] for index in sorted(chosen[:most])]

    # -- one point -----------------------------------------------------------------------------------------

    def judge_during(self, trial: Trial, point: Point, condition: Condition, answer: Answer) -> None:
        """A call may fail only where a rival was in the way; and memory and disk agree also while it is there."""
        if answer.kind == "raised" and not condition.fired and not getattr(condition, "was_patient", False):
            message = f"{point.start.action} failed although no rival held a lock: it {answer}"
            raise Violation("still-usable-after-the-fault", message) from answer.error
        trial.look(integrity=False)

    def came_to(self, condition: Any) -> Met:
        """Whether the rival was in the way."""
        return super().came_to(condition)._replace(fired=condition.rival.contended, condition=condition.rival)

    def took(self, configuration: Configuration, point: Point, met: Met) -> bool:
        """Count a point as a contention, or why it is none."""
        del configuration
        counts, kind = self.counts, point.series.kind
        counts["tried"] += 1
        if not met.is_finding:
            rival = met.condition
            counts["missed"] += not rival.was_held
            counts["unblocked"] += rival.was_held and not met.fired
            counts["waited"] += met.fired and not met.surfaced and rival.waited_ms > 0
            if isinstance(rival, ProgramRival) and rival.was_patient:
                self.note(
                    "some calls waited for a rival's lock longer than the program may take for an answer: to see what "
                    'they come to, shorten its busy timeout, or give it more with "answers_within_s"'
                )
        self.seen[_came(kind)] += 1
        self.seen[_blocked(kind)] += met.fired
        counts["contentions"] += met.fired
        counts["surfaced"] += met.surfaced
        return True


def _came(kind: str) -> str:
    """The count of rivals of a kind that came."""
    return f"{kind} came"


def _blocked(kind: str) -> str:
    """The count of rivals of a kind that were in the way."""
    return f"{kind} was in the way"


def _is_crashed(start: Start) -> bool:
    """Whether the call opens a store that has a WAL to recover."""
    return start.action == OPEN and any(
        name.endswith("-wal") and len(content) > _WAL_HEADER_BYTES for name, content in start.files.items()
    )
