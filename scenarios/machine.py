"""The machine: Hypothesis tells stories of calls, faults at either depth, restarts and crashes; the player checks each.

One rule makes any call that the target offers in its present state, the others arm, clear, restart and crash. The
machine is only a narrator: what happens is in the player, so that a failure is a story like any other, played again
without Hypothesis. A failing story is shrunk by Hypothesis and then by `minimise`, which drops every step and every
fault that isn't needed.

Stories come in batches, each with its own seed derived from the run's: the same seed tells the same stories.
"""

import contextlib
import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable
from unittest import mock

import hypothesis
from hypothesis import strategies
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import faults
from scenarios.checks import Violation
from scenarios.events import Finding, SearchEnded, SearchStarted, StepsDone, Vacuous
from scenarios.minimise import minimise
from scenarios.player import Player
from scenarios.profiles import Plan
from scenarios.recorder import Recorder
from scenarios.story import Arm, Call, Clear, Depth, Restart, Story
from scenarios.target import Action, Configuration, Target, View

_STORIES_A_BATCH: Final = 20
_LARGEST_ORDINAL: Final = 8


@runtime_checkable
class Playable(Protocol):
    """A target that a machine can play: it says which calls make sense in a state."""

    def actions(self, view: View) -> strategies.SearchStrategy[Action]:
        """The calls that are worth making in the state that `view` shows."""


def plans(configuration: Configuration, depths: tuple[str, ...]) -> strategies.SearchStrategy[tuple[str, str]]:
    """Possible faults as (depth, plan), of the kinds that occur in this journal mode."""
    roles = ("db", "wal") if configuration.journal_mode == "wal" else ("db", "journal")
    shared = {"shmmap", "shmlock"} if configuration.journal_mode != "wal" else set()
    lines: list[tuple[str, str, str, str]] = []
    for line in faults.possibilities():
        depth = "statement" if line.kind in faults.STATEMENT_KINDS else "vfs"
        if depth not in depths or line.kind in shared or line.kind == "any":
            continue
        for role in line.roles if depth == "statement" else set(line.roles) & set(roles):
            lines += [(depth, f"{line.kind}:{role}", line.timing, effect) for effect in line.effects]
    usable = sorted({line for line in lines if line[3] != faults.KILL})

    def build(line: tuple[str, str, str, str], ordinal: int, *, sticky: bool) -> tuple[str, str]:
        depth, operation, timing, effect = line
        kind, _, role = operation.partition(":")
        when = faults.When(ordinal, None if sticky else ordinal)
        return depth, str(faults.Fault(kind, effect, role, when, timing))

    return strategies.builds(
        build,
        strategies.sampled_from(usable),
        strategies.integers(1, _LARGEST_ORDINAL),
        sticky=strategies.booleans(),
    )


@contextlib.contextmanager
def _from_the_seed_alone() -> Iterator[None]:
    """Keep Hypothesis from drawing numbers and strings that it finds in the code of whatever modules are loaded.

    The same seed would tell other stories elsewhere, and after each change of a constant anywhere. There is no setting
    for it; a test holds that this still works.
    """
    try:
        providers: Any = importlib.import_module("hypothesis.internal.conjecture.providers")
        none = providers.Constants()
    except (ImportError, AttributeError):  # An older Hypothesis does nothing of the kind.
        yield
        return
    with mock.patch.object(providers, "_get_local_constants", return_value=none):
        # What was drawn from before, and after, is remembered by the bounds of the draw alone.
        providers.CONSTANTS_CACHE.cache.clear()
        try:
            yield
        finally:
            providers.CONSTANTS_CACHE.cache.clear()


class _Teller(RuleBasedStateMachine):
    """The rules; subclasses made by `machine_for` say what is played and where."""

    new_player: Callable[[], Player]
    target: Any
    plans: strategies.SearchStrategy[tuple[str, str]]
    totals: Counter[str]
    failed: list[Story]

    def __init__(self) -> None:
        super().__init__()
        self.player: Player = type(self).new_player()
        self.broken = False

    def _do(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Violation:
            self.broken = True
            player = self.player
            if not self.failed:
                self.totals["steps_to_failure"] = self.totals["steps"] + len(player.steps)
            self.failed.append(Story(self.target.name, player.real.oracle.configuration, tuple(player.steps)))
            raise

    @initialize()
    def begin(self) -> None:
        """Open the store, with nothing armed."""
        self._do(lambda: self.player.do(Restart()))

    @rule(data=strategies.data())
    def call(self, data: strategies.DataObject) -> None:
        """Make a call that makes sense now."""
        action = data.draw(self.target.actions(self.player.view))
        self._do(lambda: self.player.do(Call(action)))

    @precondition(lambda self: not self.player.armed)
    @rule(data=strategies.data())
    def arm(self, data: strategies.DataObject) -> None:
        """Arm a fault, then make a call: a fault that nobody meets tells nothing."""
        depth, plan = data.draw(self.plans)
        action = data.draw(self.target.actions(self.player.view))
        armed_depth: Depth = "statement" if depth == "statement" else "vfs"
        self._do(lambda: self.player.do(Arm(plan, armed_depth)))
        self._do(lambda: self.player.do(Call(action)))

    @precondition(lambda self: self.player.armed)
    @rule()
    def clear(self) -> None:
        """Disarm."""
        self._do(lambda: self.player.do(Clear()))

    @rule(crash=strategies.booleans())
    def restart(self, crash: bool) -> None:
        """End the process, one way or the other, and start again."""
        self._do(lambda: self.player.do(Restart(crash)))

    def teardown(self) -> None:
        """Show that the store still works, then let go of it."""
        try:
            with self.player:
                if not self.broken:
                    self._do(self.player.end)
                    self._do(self.player.close)
        finally:
            self.totals.update(self.player.counts)
            self.totals["stories"] += 1


class Fuzz:
    """Tells `stories` stories of up to `steps` steps to one target, over its configurations in turn."""

    name = "fuzz"

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        stories: int = 100,
        steps: int = 20,
        seed: int = 0,
    ) -> None:
        self.target = target
        self.recorder = recorder
        self.directory = directory
        self.configurations = configurations or target.configurations
        self.stories = stories
        self.steps = steps
        self.seed = seed

    @classmethod
    def of(cls, target: Target, recorder: Recorder, directory: Path, plan: Plan) -> "Fuzz":
        """The search that a campaign's plan asks for."""
        return cls(
            target,
            recorder,
            directory,
            configurations=plan.configurations or target.configurations[: plan.profile.configurations],
            stories=plan.profile.stories,
            steps=plan.profile.steps,
            seed=plan.seed,
        )

    def run(self) -> None:
        """Tell the stories; a finding is recorded in its shortest form."""
        started = time.monotonic()
        totals: Counter[str] = Counter()
        self.recorder.tell(SearchStarted(self.name, self.target.name, self.stories))
        complete = False
        try:
            if not isinstance(self.target, Playable):
                self.recorder.tell(Vacuous(self.name, f"{self.target.name} does not say which actions it offers"))
                return
            for batch in count():
                if totals["stories"] >= self.stories or totals["findings"]:
                    break
                if self.recorder.enough():
                    return
                self._batch(batch, totals)
                self.recorder.tell(StepsDone(dict(totals)))
            complete = True
            self._require_substance(totals)
        finally:
            seconds = time.monotonic() - started
            self.recorder.tell(SearchEnded(self.name, self.target.name, dict(totals), seconds, complete))

    def _batch(self, batch: int, totals: Counter[str]) -> None:
        configuration = self.configurations[batch % len(self.configurations)]
        failed: list[Story] = []
        home = self.directory / "fuzz"
        machine = type(
            "Teller",
            (_Teller,),
            {
                "new_player": staticmethod(lambda: Player(self.target, configuration, home)),
                "target": self.target,
                "plans": plans(configuration, self.target.depths),
                "totals": totals,
                "failed": failed,
            },
        )
        hypothesis.seed(self.seed * 1_000_003 + batch)(machine)
        try:
            stories = min(_STORIES_A_BATCH, self.stories - totals["stories"])
            with _from_the_seed_alone():
                run_state_machine_as_test(machine, settings=self._settings(stories))
        except Violation as violation:
            story, shortest = minimise(failed[-1], violation, self.target, self.directory / "minimise")
            totals["findings"] += 1
            self.recorder.found(Finding.of(shortest, story, self.name), self.target)
        except Flaky as error:
            self.recorder.tell(Vacuous(self.name, f"a story of {self.target.name} did not fail twice alike: {error}"))

    def _settings(self, stories: int) -> hypothesis.settings:
        # All of these on purpose: a profile that Hypothesis loads under CI must not change what a seed tells.
        return hypothesis.settings(
            max_examples=stories,
            stateful_step_count=self.steps,
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
            verbosity=hypothesis.Verbosity.quiet,
        )

    def _require_substance(self, totals: Counter[str]) -> None:
        if totals["findings"]:
            return
        missing = [name for name in ("steps", "fired", "surfaced", "restarts", "crashes") if not totals[name]]
        if missing:
            self.recorder.tell(Vacuous(self.name, f"the machine never reached: {', '.join(missing)}"))
