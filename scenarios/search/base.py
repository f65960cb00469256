"""The base of all searches: the target and directory, the division into parts, and how they begin and end.

A search defines its share of a campaign's plan in `sizes` and its division in `parts`, and runs one part at a time in
`search`. It counts by name, stops when the recorder's limits are reached, and records findings instead of raising them.
A part does not depend on the parts before it, except that a repeated finding is not reported again.
"""

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self

from tornpage.faults import FaultError
from tornpage.scenarios.execution.code_under_test import raised_in
from tornpage.scenarios.model.events import Extent, SearchEnded, SearchStarted, Vacuous
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.target import Configuration, Target, TargetError, completed
from tornpage.scenarios.model.work import Do, Done, Need, Part, Shard, unmet
from tornpage.scenarios.search.recorder import Recorder

# A target that leaks would use up the process's descriptors.
MOST_LEAKS: Final = 50
# The notes of a part are carried along with its `seen` counts.
_NOTE: Final = "note: "
_LEFT_OUT: Final = "left out"


class Search:
    """A search of one target over configurations; reports findings to a `Recorder`."""

    name: str = ""
    # The number of points, processes or scenarios to try, if known.
    expected: int | None = None
    # The parts that this run tries: all of them, or those of a shard, counted from some number on.
    shard: Shard | None = None
    shard_from: int = 0
    # Whether its time is limited: then a few points of each call are tried before more of any.
    is_timed: bool = False
    # Whether it samples an infinite space, which can't be tried completely.
    is_random: bool = False

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        seed: int = 0,
    ) -> None:
        self.target = completed(target)
        self.recorder = recorder
        self.directory = directory
        self.configurations = configurations or target.configurations
        self.seed = seed
        # Counts of the current part, and of all parts.
        self.counts: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.total = Done()
        self.ends = False
        self.generator = random.Random(seed)  # noqa: S311 - the same seed gives the same sample

    @classmethod
    def of(cls, target: Target, recorder: Recorder, directory: Path, plan: Plan) -> Self:
        """The search that a campaign's plan specifies."""
        configurations = plan.configurations or target.configurations[: plan.profile.configurations]
        sizes = cls.sizes(plan)
        made = cls(target, recorder, directory, configurations=configurations, seed=plan.seed, **sizes)
        # Otherwise all searches with few parts would fall to the first shard.
        made.shard, made.shard_from = plan.shard, plan.searches.index(cls.name) if cls.name in plan.searches else 0
        made.is_timed = plan.max_time_s is not None
        return made

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The constructor arguments that a plan decides, apart from those that every search has."""
        raise NotImplementedError

    def parts(self) -> Iterator[Part]:
        """The parts, in order; the same in every process."""
        raise NotImplementedError

    def own_parts(self) -> Iterator[Part]:
        """The parts of this run: those of the shard, if any."""
        for number, part in enumerate(self.parts(), start=self.shard_from):
            if self.shard is None or self.shard.owns(number):
                yield part

    def company(self) -> AbstractContextManager[object]:
        """Shared resources of the parts in one process, such as a process of rivals; optional."""
        return contextlib.nullcontext()

    def search(self, part: Part) -> bool:
        """Run a part; return whether everything was tried."""
        raise NotImplementedError

    def needs(self) -> Iterator[Need]:
        """The counts that all parts together have to reach."""
        yield from ()

    def run(self, do: Do | None = None) -> None:
        """Search to the end, or until the recorder's limits; findings are recorded, not raised.

        `do` runs a part: in this process by default, or elsewhere.
        """
        complete = False
        self.total = Done()
        parts = self.own_parts()
        self.recorder.tell(SearchStarted(self.name, self.target.name, self.expected))
        try:
            with self.company() if do is None else contextlib.nullcontext():
                complete = self._run(parts, do or self.do)
            self.judge(complete=complete)
        finally:
            self.recorder.tell(self.ended(complete=complete))

    def _run(self, parts: Iterator[Part], do: Do) -> bool:
        complete = True
        for part in parts:
            if self.recorder.enough():
                return False
            self.recorder.begin_part()
            done = do(part)
            self.take(part, done)
            complete = complete and done.complete
            if done.error is not None:
                raise done.error
            if done.ends:
                break
        return complete

    def do(self, part: Part) -> Done:
        """Run one part in this process; return its result, including an error that stopped it."""
        self.counts, self.seen, self.ends = Counter(), Counter(), False
        self.generator = random.Random(f"{self.seed} {self.name} {part}")  # noqa: S311 - the same seed, the same sample
        done, started = Done(self.counts, self.seen), monotonic()
        try:
            done.complete = self.search(part)
        except BaseException as error:  # noqa: BLE001 - raised again where the search is run
            done.error = self._of_the_store(error) or error
        done.ends, done.more = self.ends, self.more()
        done.seconds = monotonic() - started
        return done

    def _of_the_store(self, error: BaseException) -> TargetError | None:
        """What to say of an error that stopped the search, if it is one of the code under test, where no fault is."""
        if not isinstance(error, Exception) or isinstance(error, TargetError | Violation | FaultError):
            return None
        if not (place := raised_in(error, self.target)):
            return None
        said = f"{self.target.name} failed by itself, where it had succeeded before: {error!r} at {place}"
        return TargetError(f"{said}; a store is judged only if it opens, and does the same, each time")

    def more(self) -> Any:
        """The result of a part apart from its counts."""
        return None

    def take(self, part: Part, done: Done) -> None:  # noqa: ARG002 - some searches keep how far they have come
        """Add the result of a part."""
        self.total.counts.update(done.counts)
        self.total.seen.update(done.seen)
        self.total.seconds += done.seconds

    def judge(self, *, complete: bool) -> None:
        """Report needs that all parts together have not met, if all of them ran, and ran here."""
        if not complete:
            for reason in self.cut_short():
                self.vacuous(reason)
        if not complete or self.shard is not None:
            return
        for reason in unmet(self.needs(), self.total.counts, self.total.seen):
            self.vacuous(reason)

    def cut_short(self) -> Iterator[str]:
        """What a search that was cut short has not begun, because of the time limit or the number of findings."""
        if not self.is_out_of_time:
            return
        if not any(self.total.counts[name] for name in ("tried", "states", "kills", "steps")):
            yield "the time was up before anything was tried: give it more (--max-time), or fewer searches"

    @property
    def is_out_of_time(self) -> bool:
        """Whether it was the time limit that cut it short; where workers keep that, each search has its share of it."""
        is_kept_elsewhere = self.is_timed and self.recorder.deadline is None
        return not self.recorder.enough() if is_kept_elsewhere else self.recorder.is_late

    def ended(self, *, complete: bool) -> SearchEnded:
        """How the search ended. One shard can't be judged alone: it returns its needs and counts."""
        seen, needs = ({}, ()) if self.shard is None else (dict(self.total.seen), tuple(self.needs()))
        return SearchEnded(
            self.name,
            self.target.name,
            dict(self.total.counts),
            self.total.seconds,
            complete,
            self.notes,
            needs=needs,
            seen=seen,
            extent=self.extent(complete=complete),
        )

    def extent(self, *, complete: bool) -> Extent:
        """Whether all that there is was tried."""
        if self.is_random:
            return "random"
        return "exhaustive" if complete and not self.total.seen[_LEFT_OUT] else "sampled"

    def left_out(self, many: int) -> None:
        """Record that so many points are not tried."""
        self.seen[_LEFT_OUT] += many

    def enough(self) -> bool:
        """Whether to stop: the recorder's limits, or a target that leaks so much that no check works any more."""
        if self.counts["leaks"] >= MOST_LEAKS:
            self.vacuous("the target leaves so many files open that the search ends here")
            self.ends = True
            return True
        return self.recorder.enough()

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes that the parts have added."""
        return tuple(one.removeprefix(_NOTE) for one in sorted(self.total.seen) if one.startswith(_NOTE))

    def note(self, line: str) -> None:
        """Add a line to the notes at the end of the search, once."""
        self.seen[f"{_NOTE}{line}"] += 1

    def vacuous(self, reason: str) -> None:
        """Report something that was not tested."""
        self.recorder.tell(Vacuous(self.name, reason))
