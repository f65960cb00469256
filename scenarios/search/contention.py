"""Contention: a rival takes a real lock just before the nth lock operation of each call, and releases it later.

Method. The sweep plays the workload once per configuration, and records where each call starts and how many lock
operations it makes. A point is a rival of some kind (`faults.RIVAL_KINDS`), on another connection of this process or in
another process, that takes its lock at one of these operations. It holds the lock until the call has ended and been
checked, or until the store has waited 50 ms in virtual time. Each point starts from the files before the call, in a
cold session:

- while the rival holds its lock, the call may fail with the store's error for *busy*; disk and memory are checked,
  unless the rival blocks every reader;
- a rival that holds its lock for 50 ms must not make the call fail;
- after the release: disk and memory again, a copy of the files as a crash during it would have left them, and the next
  call has to work.

A point counts as a *contention* only if the store was refused a lock, waited for one or returned busy. A rival that
blocked no call is *unblocked*; one that could not get its own lock there has *missed*. If a kind of rival blocked the
store at none of the sampled points, all its points are tried until one blocks; if none does, a note says so: such a
rival can't block this store.

For a program of its own the rival takes the lock when the call begins, and 50 ms are real; a rival that only commits
does not block it (`execution.program_rival`).

Not covered: two rivals at once, and a rival that changes the view (its change changes nothing visible; the ledger's own
tests cover concurrent writers of one ledger).
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from tornpage import faults
from tornpage.scenarios.execution.injection import Condition
from tornpage.scenarios.execution.preflight.no_locks import NO_LOCKS, takes_no_locks
from tornpage.scenarios.execution.program_rival import AT_THE_CALL, ProgramRival
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.execution.syscall_injection import require_seen
from tornpage.scenarios.execution.trial import Trial
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
# A WAL with only its header needs no recovery.
_WAL_HEADER_BYTES: Final = 32


def _series(rival: Rival) -> Series:
    """The row of the table that counts a rival."""
    stay = "held to the end" if rival.held_ms is None else f"held {rival.held_ms} ms"
    return Series(rival.kind, rival.place, "before", stay)


class Contend(PointSearch):
    """Lets rivals contend with one target over configurations; reports findings to a `Recorder`."""

    name = "contend"

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The number of points of a call; rivals take locks, which are below SQLite."""
        return {"most_points_per_call": plan.profile.rival_points, "depths": ("vfs",)}

    def company(self) -> AbstractContextManager[object]:
        """One process for all rivals that need another process."""
        return faults.shared_rival_process()

    def search(self, part: Part) -> bool:
        """Try every point of the part's calls."""
        if "syscall" in self.target.depths and not part.first:
            require_seen(self.target, part.configuration, self.directory / "seen")
        with self.company():
            return super().search(part)

    def needs(self) -> Iterator[Need]:
        """At least one rival blocked the store, if it takes locks."""
        yield from super().needs()
        if not self._takes_no_locks():
            yield Need("contentions", "no rival ever blocked the store")

    def _takes_no_locks(self) -> bool:
        """Whether no rival can block the store, in any configuration; asked only if none has."""
        return not self.total.counts["contentions"] and all(
            takes_no_locks(self.target, one, self.directory / "no-locks") for one in self.configurations
        )

    def judge(self, *, complete: bool) -> None:
        """Of a store without locks say so, and try no further points."""
        if self._takes_no_locks():
            self.note(f"no rival can block it: {NO_LOCKS}")
            self.total.seen.update(self.seen)
        super().judge(complete=complete)

    def kinds_never_met(self) -> list[str]:
        """Kinds of rivals that held a lock and never blocked the store, though some can."""
        seen = self.total.seen
        if self._takes_no_locks():
            return []
        return [name for name in sorted(faults.RIVAL_KINDS) if seen[_came(name)] and not seen[_blocked(name)]]

    def is_met(self, kind: str) -> bool:
        """Whether such a rival blocked the store."""
        return bool(self.seen[_blocked(kind)])

    def never_met(self, kind: str) -> str:
        """The kind of rival, and its lock."""
        return f"rival {kind!r} ({faults.RIVAL_KINDS[kind].holds}) blocked the store at no point"

    # -- points ----------------------------------------------------------------------------------------------

    def points_of(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        """Every rival at every lock operation of one call; for a program of its own, when the call begins."""
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
            # There is no database yet.
            return
        for kind in faults.RIVAL_KINDS.values():
            if kind.keeps_a_lock and kind.fits(configuration.journal_mode):
                if kind.name == "recoverer" and not _is_crashed(start):
                    continue
                for held_ms in (None, SHORT_MS):
                    rival = Rival(kind.name, AT_THE_CALL, 1, "process", held_ms)
                    yield Point(start, rival, _series(rival))

    def sampled(self, points: list[Any]) -> list[Any]:
        """A sample of one call's points, taken from each kind of rival in turn."""
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
        # The kind that has blocked the store least often so far comes first.
        decks = [by_kind[key] for key in sorted(order, key=lambda key: self.seen[_blocked(key[0])])]
        chosen: list[int] = []
        while len(chosen) < most:
            chosen += [deck.pop() for deck in decks if deck]
        self.leave_out(len(points) - most)
        return [points[index] for index in sorted(chosen[:most])]

    # -- one point -----------------------------------------------------------------------------------------

    def judge_during(self, trial: Trial, point: Point, condition: Condition, answer: Answer) -> None:
        """A call may fail only if a rival blocked it; memory and disk agree also while the rival holds its lock."""
        if answer.kind == "raised" and not condition.fired and not getattr(condition, "was_patient", False):
            message = f"{point.start.action} failed although no rival held a lock: it {answer}"
            raise Violation("still-usable-after-the-fault", message) from answer.error
        trial.look(integrity=False)

    def came_to(self, condition: Any) -> Met:
        """Whether the rival blocked the store."""
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
                    "some calls waited for a rival's lock longer than the time limit of an answer: to see their "
                    'results, shorten the busy timeout, or raise "answers_within_s"'
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
    """The count of rivals of a kind that blocked the store."""
    return f"{kind} was in the way"


def _is_crashed(start: Start) -> bool:
    """Whether the call opens a store that has a WAL to recover."""
    return start.action == OPEN and any(
        name.endswith("-wal") and len(content) > _WAL_HEADER_BYTES for name, content in start.files.items()
    )
