"""What all searches share: whom they search and where, and how they begin and end.

A search says in `sizes` which part of a campaign's plan is its own, and does its work in `search`. It counts by name,
stops when the recorder says that it is enough, and records findings instead of raising them.
"""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, Self

from scenarios.events import SearchEnded, SearchStarted, Vacuous
from scenarios.profiles import Plan
from scenarios.recorder import Recorder
from scenarios.target import Configuration, Target

# A target that leaks would use up the process's descriptors.
MOST_LEAKS: Final = 50


class Search:
    """A search of one target over configurations; tells a `Recorder` what it finds."""

    name: str = ""
    # How many points, processes or stories there are to try, where that is known.
    expected: int | None = None

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        seed: int = 0,
    ) -> None:
        self.target = target
        self.recorder = recorder
        self.directory = directory
        self.configurations = configurations or target.configurations
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.generator = random.Random(seed)  # noqa: S311 - the same seed gives the same sample

    @classmethod
    def of(cls, target: Target, recorder: Recorder, directory: Path, plan: Plan) -> Self:
        """The search that a campaign's plan asks for."""
        configurations = plan.configurations or target.configurations[: plan.profile.configurations]
        sizes = cls.sizes(plan)
        return cls(target, recorder, directory, configurations=configurations, seed=plan.seed, **sizes)

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The arguments of the constructor that a plan decides, beside those that every search has."""
        raise NotImplementedError

    def run(self) -> None:
        """Search to the end, or until the recorder says stop; raises nothing for findings, it records them."""
        started = time.monotonic()
        complete = False
        self.recorder.tell(SearchStarted(self.name, self.target.name, self.expected))
        try:
            complete = self.search()
        finally:
            seconds = time.monotonic() - started
            self.recorder.tell(SearchEnded(self.name, self.target.name, dict(self.counts), seconds, complete))

    def search(self) -> bool:
        """Do it; whether everything was tried."""
        raise NotImplementedError

    def enough(self) -> bool:
        """Whether to stop: the recorder says so, or the target leaks so much that nothing more can be seen."""
        if self.counts["leaks"] >= MOST_LEAKS:
            self.vacuous("the target leaves so many files open that the search ends here")
            return True
        return self.recorder.enough()

    def vacuous(self, reason: str) -> None:
        """Tell of something that was to be tested and was not."""
        self.recorder.tell(Vacuous(self.name, reason))
