"""What all searches share: whom they search and where, into which parts they are cut, and how they begin and end.

A search says in `sizes` which part of a campaign's plan is its own, in `parts` how it is cut, and does its work in
`search`, one part at a time. It counts by name, stops when the recorder says that it is enough, and records findings
instead of raising them. Nothing that a part does depends on the parts before it, but that a finding is told once.
"""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Self

from tornpage.scenarios.model.events import Extent, SearchEnded, SearchStarted, Vacuous
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.target import Configuration, Target, completed
from tornpage.scenarios.model.work import Do, Done, Need, Part, Shard, unmet
from tornpage.scenarios.search.recorder import Recorder

# A target that leaks would use up the process's descriptors.
MOST_LEAKS: Final = 50
# What a part has to say to people travels with what it has seen.
_NOTE: Final = "note: "
_LEFT_OUT: Final = "left out"


class Search:
    """A search of one target over configurations; tells a `Recorder` what it finds."""

    name: str = ""
    # How many points, processes or scenarios there are to try, where that is known.
    expected: int | None = None
    # Which of its parts are tried here: all of them, or those of a shard, counted from some number on.
    shard: Shard | None = None
    shard_from: int = 0
    # Whether its time is limited: then a few points of each call are tried before more of any.
    is_timed: bool = False
    # Whether what it tries is drawn from what has no end, so that not all of it can be tried.
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
        # Of the part that is being done, and of all of them.
        self.counts: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.total = Done()
        self.ends = False
        self.generator = random.Random(seed)  # noqa: S311 - the same seed gives the same sample

    @classmethod
    def of(cls, target: Target, recorder: Recorder, directory: Path, plan: Plan) -> Self:
        """The search that a campaign's plan asks for."""
        configurations = plan.configurations or target.configurations[: plan.profile.configurations]
        sizes = cls.sizes(plan)
        made = cls(target, recorder, directory, configurations=configurations, seed=plan.seed, **sizes)
        # Searches of few parts would else all fall to the first shard.
        made.shard, made.shard_from = plan.shard, plan.searches.index(cls.name) if cls.name in plan.searches else 0
        made.is_timed = plan.max_time_s is not None
        return made

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The arguments of the constructor that a plan decides, beside those that every search has."""
        raise NotImplementedError

    def parts(self) -> Iterator[Part]:
        """What it is cut into, in order; the same in every process."""
        raise NotImplementedError

    def own_parts(self) -> Iterator[Part]:
        """The parts that are done in this run: those of the shard, where there is one."""
        for number, part in enumerate(self.parts(), start=self.shard_from):
            if self.shard is None or self.shard.owns(number):
                yield part

    def company(self) -> AbstractContextManager[object]:
        """What its parts may share in one process, such as a process of rivals; they can do without."""
        return contextlib.nullcontext()

    def search(self, part: Part) -> bool:
        """Do a part; whether everything was tried."""
        raise NotImplementedError

    def needs(self) -> Iterator[Need]:
        """What all parts together have to meet."""
        yield from ()

    def run(self, do: Do | None = None) -> None:
        """Search to the end, or until the recorder says stop; raises nothing for findings, it records them.

        `do` is who does a part: itself, or somebody elsewhere.
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
        """Do one part, in this process; what it came to, also where something kept it from going on."""
        self.counts, self.seen, self.ends = Counter(), Counter(), False
        self.generator = random.Random(f"{self.seed} {self.name} {part}")  # noqa: S311 - the same seed, the same sample
        done, started = Done(self.counts, self.seen), time.monotonic()
        try:
            done.complete = self.search(part)
        except BaseException as error:  # noqa: BLE001 - raised again where the search is run
            done.error = error
        done.ends, done.more = self.ends, self.more()
        done.seconds = time.monotonic() - started
        return done

    def more(self) -> Any:
        """What a part came to beside its counts."""
        return None

    def take(self, part: Part, done: Done) -> None:  # noqa: ARG002 - some searches keep how far they have come
        """Take in what a part came to."""
        self.total.counts.update(done.counts)
        self.total.seen.update(done.seen)
        self.total.seconds += done.seconds

    def judge(self, *, complete: bool) -> None:
        """Tell of what all parts together should have met, and have not: where all of them are done, and done here."""
        if not complete:
            for reason in self.cut_short():
                self.vacuous(reason)
        if not complete or self.shard is not None:
            return
        for reason in unmet(self.needs(), self.total.counts, self.total.seen):
            self.vacuous(reason)

    def cut_short(self) -> Iterator[str]:
        """What a search that did not come to its end has never begun with; its time was up, or it has found enough."""
        if not self.recorder.is_late:
            return
        if not any(self.total.counts[name] for name in ("tried", "states", "kills", "steps")):
            yield "the time was up before anything was tried: give it more (--max-time), or fewer searches"

    def ended(self, *, complete: bool) -> SearchEnded:
        """How it ended. A shard can't be judged by itself: it says what was needed, and what it has seen of that."""
        notes = tuple(one.removeprefix(_NOTE) for one in sorted(self.total.seen) if one.startswith(_NOTE))
        seen, needs = ({}, ()) if self.shard is None else (dict(self.total.seen), tuple(self.needs()))
        return SearchEnded(
            self.name,
            self.target.name,
            dict(self.total.counts),
            self.total.seconds,
            complete,
            notes,
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
        """Of what there is to try so many are left out: not all of it is tried."""
        self.seen[_LEFT_OUT] += many

    def enough(self) -> bool:
        """Whether to stop: the recorder says so, or the target leaks so much that nothing more can be seen."""
        if self.counts["leaks"] >= MOST_LEAKS:
            self.vacuous("the target leaves so many files open that the search ends here")
            self.ends = True
            return True
        return self.recorder.enough()

    def note(self, line: str) -> None:
        """Say a line to people at the end of the search, once."""
        self.seen[f"{_NOTE}{line}"] += 1

    def vacuous(self, reason: str) -> None:
        """Tell of something that was to be tested and was not."""
        self.recorder.tell(Vacuous(self.name, reason))
