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
rival that was in nobody's way is *unblocked*; one that could not get its own lock there has *missed*. A kind of rival
that was in nobody's way in the whole run makes the run vacuous.

Not covered: two rivals at once, and a rival that changes what the store shows (its change changes nothing; what two
writers of one ledger make of each other's changes is tested with the ledger).
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.injection import contention
from tornpage.scenarios.execution.snapshots import held_open, place, siblings
from tornpage.scenarios.execution.trial import OPEN, Trial
from tornpage.scenarios.model.checks import Violation
from tornpage.scenarios.model.events import PointTried, Series
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Rival
from tornpage.scenarios.model.target import Configuration, Target
from tornpage.scenarios.model.work import Need, Part
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.search.sweep import Start, Sweep, needed_calls, parts_of_calls

SHORT_MS: Final = 50
_OPERATIONS: Final = ("lock", "shmlock")
# A WAL that holds nothing but its header needs no recovery.
_WAL_HEADER_BYTES: Final = 32


class Point(msgspec.Struct, frozen=True):
    """One rival at one lock operation of one call."""

    start: Start
    rival: Rival

    @property
    def series(self) -> Series:
        """The row of the table that counts it."""
        stay = "held to the end" if self.rival.held_ms is None else f"held {self.rival.held_ms} ms"
        return Series(self.rival.kind, self.rival.place, "before", stay)


class Contend(Search):
    """Lets rivals contend with one target over configurations; tells a `Recorder` what it finds."""

    name = "contend"

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        most_points_per_call: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.most_points_per_call = most_points_per_call
        self._sweep = Sweep(target, recorder, directory, configurations=self.configurations, depths=("vfs",))
        self._sweep.name = self.name
        self._homes = siblings(directory / "point")
        self._home = next(self._homes)

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many points of a call."""
        return {"most_points_per_call": plan.profile.rival_points}

    def parts(self) -> Iterator[Part]:
        """A few calls in each configuration."""
        for configuration in self.configurations:
            yield from parts_of_calls(self.target, configuration)

    def company(self) -> AbstractContextManager[object]:
        """One process for all rivals that need their own."""
        return faults.shared_rival_process()

    def search(self, part: Part) -> bool:
        """Try every point of the part's calls."""
        configuration = part.configuration
        self._sweep.seen = self.seen
        with self.company():
            for start in self._sweep.starts(configuration, part):
                for point in self._sampled(list(self.points_of(configuration, start))):
                    if self.enough():
                        return False
                    self.try_point(configuration, point)
        return True

    def needs(self) -> Iterator[Need]:
        """Every kind of rival that came was in somebody's way."""
        yield from needed_calls(self.target)
        yield Need("contentions", "no rival was ever in the way")
        for name, kind in sorted(faults.RIVAL_KINDS.items()):
            reason = f"no {name} was in anybody's way, at {{}} points: {kind.holds}"
            yield Need(_blocked(name), reason, given=(_came(name), "contentions"))

    # -- what to try ---------------------------------------------------------------------------------------

    def points_of(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        """Every rival at every lock operation of one call."""
        for kind in faults.RIVAL_KINDS.values():
            if not kind.fits(configuration.journal_mode) or (kind.name == "recoverer" and not _is_crashed(start)):
                continue
            for where in kind.places:
                for operation in _OPERATIONS:
                    last = start.counts.get((operation, "db"), 0)
                    if kind.name == "recoverer" and operation == "shmlock":
                        # Whoever comes later finds the WAL's index rebuilt, and reads.
                        last = min(last, 1)
                    for ordinal in range(1, last + 1):
                        for held_ms in (None, SHORT_MS) if kind.keeps_a_lock else (None,):
                            yield Point(start, Rival(kind.name, operation, ordinal, where, held_ms))

    def _sampled(self, points: list[Point]) -> list[Point]:
        """As many as are wanted of one call, of each kind of rival in its turn."""
        self.counts["points"] += len(points)
        most = self.most_points_per_call
        if most is None or len(points) <= most:
            return points
        by_kind: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for index, point in enumerate(points):
            by_kind[point.rival.kind, point.rival.place].append(index)
        for deck in by_kind.values():
            self.generator.shuffle(deck)
        order = list(by_kind)
        self.generator.shuffle(order)
        # What has been in the way least often until now comes first.
        decks = [by_kind[key] for key in sorted(order, key=lambda key: self.seen[_blocked(key[0])])]
        chosen: list[int] = []
        while len(chosen) < most:
            chosen += [deck.pop() for deck in decks if deck]
        return [points[index] for index in sorted(chosen[:most])]

    # -- one point -----------------------------------------------------------------------------------------

    def try_point(self, configuration: Configuration, point: Point) -> None:
        """Try one point in a cold session and tell the recorder; a finding is recorded, not raised."""
        counts, kind = self.counts, point.rival.kind
        counts["tried"] += 1
        contended = surfaced = True
        is_finding = False
        try:
            rival = self._play(configuration, point)
        except Violation as violation:
            is_finding = True
            counts["findings"] += 1
            if held_open(self._home):
                # A leftover would spoil every later look, so nobody goes there any more.
                self._home = next(self._homes)
                counts["leaks"] += 1
            self._sweep.found(violation, self._sweep.scenario(configuration, point.start, point.rival))
        else:
            contended, surfaced = rival.contended, bool(rival.surfaced)
            counts["missed"] += not rival.was_held
            counts["unblocked"] += rival.was_held and not contended
            counts["waited"] += contended and not surfaced and rival.waited_ms > 0
        self.seen[_came(kind)] += 1
        self.seen[_blocked(kind)] += contended
        counts["contentions"] += contended
        counts["surfaced"] += surfaced
        where = point.start.located(configuration, str(point.rival))
        self.recorder.tell(PointTried(point.series, contended, surfaced, where, is_finding))

    def _play(self, configuration: Configuration, point: Point) -> faults.Rival:
        start = point.start
        place(start.files, self._home)
        with Trial(self.target, configuration, self._home, start.before) as trial:
            trial.at_step(start.step)
            if start.action != OPEN:
                trial.open()
            with contention(trial, point.rival) as contended:
                answer = trial.call(start.action, start.after, start.stages)
                trial.heard_under(start.action, answer, contended, point.rival, refused=start.is_refused)
                if answer.error is not None and answer.kind == "raised" and not contended.fired:
                    message = f"nobody was in the way, and {start.action} {answer}"
                    raise Violation("still-usable-after-the-fault", message) from answer.error
                files = trial.crash_copy()
                trial.look(integrity=False)
            trial.look(integrity=False)
            # SQLite checks the files themselves in the copy, and what the session makes of them at the end.
            trial.look_after_crash(files, self._sweep.reopened_at(configuration))
            self._sweep.judge_answer(trial, start, answer)
            trial.heartbeat()
            trial.require_open_errors()
        return contended.rival


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
