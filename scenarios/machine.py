"""The search ``fuzz``: Hypothesis tells stories, the player checks every step, and what fails is told in few steps.

A target offers machines (the reference: tasks, history, outbox, and the whole ledger with two workers); what one may do
is in `scenarios.teller`. Machines and configurations take turns, batch by batch, until each machine has met each
configuration. A failing story is shrunk by Hypothesis and then by `minimise`.

Each batch has its own seed, derived from the run's: the same seed tells the same stories, also where a campaign was
stopped after some batch and goes on later (`scenarios.so_far`). The trace, a digest of all steps, answers and states,
shows it.

A run that has reached too little is vacuous and says what it missed: from `ENOUGH_STEPS` on, a machine has to have used
every rule, and from `STEPS_AN_ACTION` for each action that it draws, to have had an acknowledgement of every one.

Not covered: two machines at once, and threads.
"""

import contextlib
import hashlib
import importlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable
from unittest import mock

import hypothesis
from hypothesis import strategies
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

import faults
from scenarios.checks import Violation
from scenarios.durability import Promise, promise_of
from scenarios.events import Finding, SearchEnded, SearchStarted, StepsDone, Vacuous
from scenarios.minimise import minimise, what_suffices
from scenarios.player import Player, play
from scenarios.profiles import Plan
from scenarios.recorder import Recorder
from scenarios.so_far import Range, SoFar
from scenarios.story import Story
from scenarios.target import Action, Configuration, Machine, Target, TargetError, View
from scenarios.teller import Teller, Telling, jumps, plans, settings_of

__all__ = ["ENOUGH_STEPS", "STEPS_AN_ACTION", "Fuzz", "Playable", "jumps", "machines_of", "plans"]

# From so many steps on it is no matter of chance any more what a machine has never done.
ENOUGH_STEPS: Final = 1_500
STEPS_AN_ACTION: Final = 300
_MANY_STEPS: Final = 20_000
_THE_ONE: Final = "all"


@runtime_checkable
class Playable(Protocol):
    """A target that a machine can play: it says which calls make sense in a state."""

    def actions(self, view: View) -> strategies.SearchStrategy[Action]:
        """The calls that are worth making in the state that `view` shows."""


def machines_of(target: Target) -> Mapping[str, Machine]:
    """The machines that a target offers; the one that it has anyway where it offers none, and none without actions."""
    if offered := getattr(target, "machines", None):
        made: Mapping[str, Machine] = offered
        return made
    return {_THE_ONE: Machine(target.actions)} if isinstance(target, Playable) else {}


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


class Fuzz:
    """Tells `stories` stories of up to `steps` steps to one target, over its machines and configurations in turn.

    `progress` is where it keeps how far it has come; with `goes_on` it begins where that file says.
    """

    name = "fuzz"

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        machines: tuple[str, ...] = (),
        stories: int = 100,
        steps: int = 20,
        stories_a_batch: int = 20,
        seed: int = 0,
        shrinks: bool = True,
        progress: Path | None = None,
        goes_on: bool = False,
    ) -> None:
        self.target = target
        self.recorder = recorder
        self.directory = directory
        self.configurations = configurations or target.configurations
        self.stories = stories
        self.shrinks = shrinks
        self.progress = progress
        self.goes_on = goes_on
        offered = machines_of(target)
        if unknown := set(machines) - offered.keys():
            raise TargetError(f"{target.name} has no machine {min(unknown)}; it has {', '.join(offered) or 'none'}")
        self.machines = {name: machine for name, machine in offered.items() if not machines or name in machines}
        self.range = Range(target.name, seed, steps, stories_a_batch, tuple(self.machines), self.configurations)

    @classmethod
    def of(cls, target: Target, recorder: Recorder, directory: Path, plan: Plan) -> "Fuzz":
        """The search that a campaign's plan asks for."""
        return cls(
            target,
            recorder,
            directory,
            configurations=plan.configurations or target.configurations[: plan.profile.configurations],
            machines=plan.machines,
            stories=plan.profile.stories,
            steps=plan.profile.steps,
            stories_a_batch=plan.profile.stories_a_batch,
            seed=plan.seed,
            shrinks=plan.profile.shrinks,
            progress=plan.progress,
            goes_on=plan.goes_on,
        )

    def run(self) -> None:
        """Tell the stories; a finding is recorded in its shortest form. Raises `TargetError`."""
        so_far = SoFar(self.range)
        if self.goes_on and self.progress is not None:
            so_far = SoFar.read(self.progress, self.range)
        started = time.monotonic() - so_far.seconds
        self.recorder.tell(SearchStarted(self.name, self.target.name, self.stories))
        complete = found = False
        try:
            if not self.machines:
                self.recorder.tell(Vacuous(self.name, f"{self.target.name} does not say which actions it offers"))
                return
            with self._company():
                complete, found = self._tell_stories(so_far, started)
            if not found:
                self._require_substance(so_far, complete=complete)
        finally:
            seconds = time.monotonic() - started
            notes = tuple(_notes(so_far, self.machines))
            counts = _counts(so_far)
            self.recorder.tell(SearchEnded(self.name, self.target.name, counts, seconds, complete, notes))

    @contextlib.contextmanager
    def _company(self) -> Iterator[None]:
        """One process for all rivals that need their own."""
        with faults.shared_rival_process() if "vfs" in self.target.depths else contextlib.nullcontext():
            yield

    def _tell_stories(self, so_far: SoFar, started: float) -> tuple[bool, bool]:
        """Batch after batch; whether all of them were told, and whether one was found wanting."""
        a_batch, accepted = self.range.stories_a_batch, False
        for batch in range(so_far.batches, math.ceil(self.stories / a_batch)):
            if self.recorder.enough():
                return False, accepted
            stories = min(a_batch, self.stories - batch * a_batch)
            found = self._batch(batch, stories, so_far)
            so_far.seconds = time.monotonic() - started
            self.recorder.tell(StepsDone(_counts(so_far)))
            # A batch that is shorter than others is another batch where a longer campaign goes on.
            if stories == a_batch:
                so_far.batches = batch + 1
                if self.progress is not None:
                    so_far.write(self.progress)
            if found is not None and not self.recorder.accepts(found):
                return True, True
            # What a baseline accepts ends its batch, and no more than that.
            accepted = accepted or found is not None
        return True, accepted

    def _batch(self, batch: int, stories: int, so_far: SoFar) -> Finding | None:
        """Tell the stories of a batch; the finding that one of them ended in, if one did."""
        name, configuration = self._turn(batch)
        digest = hashlib.sha256()
        home = self.directory / "fuzz"

        def new_player(taped: bool) -> Player:
            return Player(
                self.target, configuration, home, record=taped, trace=lambda line: digest.update(f"{line}\n".encode())
            )

        telling = Telling(self.target, self.machines[name], configuration, new_player)
        try:
            violation = self._tell(batch, stories, telling)
        finally:
            acknowledged = Counter({key: many for (key, kind), many in telling.answers.items() if kind == "done"})
            so_far.add(name, telling.totals, telling.rules, acknowledged, telling.shapes)
            so_far.took(digest.hexdigest())
        if violation is None:
            return None
        so_far.add(name, Counter(findings=1), Counter(), Counter(), set())
        return self._found(telling.failed[-1], violation)

    def _turn(self, batch: int) -> tuple[str, Configuration]:
        """Whose turn it is: each machine meets each configuration before any pair comes again."""
        names, configurations = list(self.machines), self.configurations
        turn = batch % (len(names) * len(configurations))
        shift = turn // math.lcm(len(names), len(configurations))
        return names[turn % len(names)], configurations[(turn + shift) % len(configurations)]

    def _seed_of(self, batch: int) -> int:
        return self.range.seed * 1_000_003 + batch

    def _tell(self, batch: int, stories: int, telling: Telling) -> Violation | None:
        machine = type("Teller", (Teller,), {"telling": telling})
        hypothesis.seed(self._seed_of(batch))(machine)
        try:
            with _from_the_seed_alone():
                run_state_machine_as_test(
                    machine, settings=settings_of(stories, self.range.steps, shrinks=self.shrinks)
                )
        except Violation as violation:
            return violation
        except Flaky as error:
            # Hypothesis saw it fail once; a story that fails again by itself is a finding all the same.
            again = play(telling.failed[-1], self.target, self.directory / "again")[0] if telling.failed else None
            if again is None:
                reason = f"a story of {self.target.name} did not fail twice alike: {error}"
                self.recorder.tell(Vacuous(self.name, reason))
            return again
        return None

    def _found(self, story: Story, violation: Violation) -> Finding:
        story, shortest = minimise(story, violation, self.target, self.directory / "minimise")
        finding = Finding.of(shortest, story, self.name, what_suffices(story))
        # What is accepted is met by one batch after the other; nobody reads it twice.
        if not (self.recorder.accepts(finding) and self.recorder.repeats_one(finding)):
            self.recorder.found(finding, self.target)
        return finding

    # -- what was reached ----------------------------------------------------------------------------------

    def _require_substance(self, so_far: SoFar, *, complete: bool) -> None:
        missing = []
        if complete:
            needed = ("steps", "fired", "surfaced", "restarts", "crashes")
            missing = [name for name in needed if not so_far.totals.get(name)]
        if missing:
            self.recorder.tell(Vacuous(self.name, f"the machine never reached: {', '.join(missing)}"))
        for name, machine in self.machines.items():
            if so_far.steps.get(name, 0) >= ENOUGH_STEPS:
                self._require_all_of(name, machine, so_far)
        self._require_met(so_far)

    def _require_all_of(self, name: str, machine: Machine, so_far: SoFar) -> None:
        """Every rule of a machine was used, and every action was acknowledged once."""
        steps = so_far.steps[name]
        if unused := sorted(self._rules(steps) - so_far.rules.get(name, {}).keys()):
            reason = f"in {steps:,} steps the machine {name} never came to: {', '.join(unused)}"
            self.recorder.tell(Vacuous(self.name, reason))
        unheard = sorted(machine.actions - so_far.acknowledged.get(name, {}).keys())
        if unheard and steps >= STEPS_AN_ACTION * len(machine.actions):
            reason = f"in {steps:,} steps of the machine {name} nothing has acknowledged: {', '.join(unheard)}"
            self.recorder.tell(Vacuous(self.name, reason))

    def _rules(self, steps: int) -> set[str]:
        """The rules that a machine can have used in so many steps."""
        rules = {"call", "arm", "clear", "restart", "crash", "limit"}
        if "vfs" in self.target.depths:
            rules |= {"contend", "die"}
            promising = [one for one in self.configurations if promise_of(one, power=True) is not Promise.NOTHING]
            # A machine meets one configuration after the other.
            if promising and (len(promising) == len(self.configurations) or steps > _MANY_STEPS):
                rules.add("cut power")
        return rules

    def _require_met(self, so_far: SoFar) -> None:
        """What was put in the way was in the way."""
        met = {"limit": "limits", "contend": "contentions", "cut power": "power_cuts"}
        steps = so_far.totals.get("steps", 0)
        needed = {count for rule, count in met.items() if rule in self._rules(steps)} | {"jumps"}
        if steps >= ENOUGH_STEPS and (missing := sorted(count for count in needed if not so_far.totals.get(count))):
            self.recorder.tell(Vacuous(self.name, f"the machine never reached: {', '.join(missing)}"))


def _counts(so_far: SoFar) -> dict[str, int]:
    """The totals, with how many different actions were acknowledged and states reached."""
    actions = {action for acknowledged in so_far.acknowledged.values() for action in acknowledged}
    return {**so_far.totals, "actions": len(actions), "shapes": len(so_far.shapes)}


def _notes(so_far: SoFar, machines: Mapping[str, Machine]) -> Iterator[str]:
    for name in machines if len(machines) > 1 else ():
        rules = ", ".join(f"{many:,} {rule}" for rule, many in sorted(so_far.rules.get(name, {}).items()))
        acknowledged = len(so_far.acknowledged.get(name, {}))
        yield f"{name}: {so_far.steps.get(name, 0):,} steps, {acknowledged} actions acknowledged; {rules}"
    yield f"trace sha256 {so_far.trace or 'of nothing'}"
