"""Shrinks the scenario of a finding that ends in a crash: fewer steps, and the first crash that shows the finding.

Method. The steps are shrunk as usual; after each shorter scenario all crashes of its last step are tried. The result is
played once more as a scenario: it is a finding only if it fails again.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.executor import Executor, play
from tornpage.scenarios.execution.finding.difference import is_same
from tornpage.scenarios.execution.finding.shrink import Shown, failure_without_faults, minimise, note_of, shown
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.scenario import CrashAt, Scenario
from tornpage.scenarios.model.target import Target


def shortest(
    violation: Violation,
    scenario: Scenario,
    target: Target,
    directory: Path,
    seed: int,
    *,
    is_over: Callable[[], bool] = lambda: False,
) -> Shown:
    """The shortest scenario that shows the violation; the shortest until `is_over` returns True."""
    last = scenario.steps[-1]
    if not isinstance(last, CrashAt):
        return shown(scenario, violation, target, directory, is_over=is_over)
    crashes = _Crashes(target, directory, violation, last.device, seed, is_over)

    def play_and_crash(shorter: Scenario, _: Target, __: Path) -> tuple[Violation | None, Counter[str]]:
        crash = crashes.of(shorter)
        return (crash[1] if crash else None), crashes.counts

    made = msgspec.structs.replace(scenario, steps=scenario.steps[:-1])
    short, _ = minimise(made, violation, target, directory, play_and_crash, is_over=is_over)
    # Without a shorter one, one of its crashes may come before the one that was met.
    crash = crashes.found_in(short) or crashes.of(short)
    if crash is not None:
        short = msgspec.structs.replace(short, steps=(*short.steps, crash[0]))
        again, _ = play(short, target, directory)
        if again is not None and again.code == crash[1].code:
            without = failure_without_faults(short, target, directory)
            return Shown(short, crash[1], note=note_of(without))
    again, _ = play(scenario, target, directory)
    return Shown(scenario, violation, again is not None and again.code == violation.code)


class _Crashes:
    """The crashes of scenarios that show one finding."""

    def __init__(
        self,
        target: Target,
        directory: Path,
        seen: Violation,
        device: faults.Device,
        seed: int,
        is_over: Callable[[], bool],
    ) -> None:
        self._target = target
        self._directory = directory
        self._seen = seen
        self._device = device
        self._seed = seed
        self._is_over = is_over
        # Those of the last play that has shown nothing; empty if it violated a check.
        self.counts: Counter[str] = Counter()
        # The last scenario that showed it, with its crash.
        self._found: tuple[Scenario, tuple[CrashAt, Violation]] | None = None
        # All plays are of one store, and to look for it in each play takes as long as a short play.
        self._libraries: list[str] | None = None

    def found_in(self, scenario: Scenario) -> tuple[CrashAt, Violation] | None:
        """The crash of a scenario, if it was the last one in which the finding was seen."""
        return self._found[1] if self._found is not None and self._found[0] == scenario else None

    def of(self, scenario: Scenario) -> tuple[CrashAt, Violation] | None:
        """The first crash of a scenario's last step that shows the finding.

        None if playing it violates a check, or the time is up.
        """
        self.counts = Counter()
        executor = Executor(self._target, scenario.configuration, self._directory, record=True)
        assert executor.recording is not None  # noqa: S101 - asked for above
        # A store that leaks can't be closed, either; its findings so far count.
        with contextlib.suppress(Violation), executor:
            try:
                for step in scenario.steps:
                    executor.do(step)
                executor.real.hidden_errors.require_none()
            except Violation:
                # Without a step that was dropped, an earlier crash is another one: that is another scenario.
                return None
            recording = executor.recording
            recording.libraries = self._libraries
            recording.require_faithful()
            # From here on files are only read, many of them, and in their own place.
            recording.end()
            executor.real.close()
            for state, violation in recording.wrong_in_last_step(self._device, self._seed, is_over=self._is_over):
                self._libraries = recording.libraries
                if is_same(violation, self._seen):
                    crash = CrashAt.of(state.crash, self._device), violation
                    self._found = scenario, crash
                    return crash
            self.counts = executor.counts
        return None
