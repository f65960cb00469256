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
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable
from unittest import mock

import hypothesis
import msgspec
from hypothesis import strategies
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

import faults
from scenarios.checks import Violation
from scenarios.durability import Promise, promise_of
from scenarios.events import Finding, SearchEnded, StepsDone
from scenarios.minimise import minimise, what_suffices
from scenarios.parts import Done, Part
from scenarios.player import Player, play
from scenarios.profiles import Plan
from scenarios.recorder import Kin, Recorder
from scenarios.searching import Search
from scenarios.shared_examples import shared_examples
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


class Fuzz(Search):
    """Tells `stories` stories of up to `steps` steps to one target, over its machines and configurations in turn.

    A part is a batch of stories. `progress` is where it keeps how far it has come; with `goes_on` it begins where that
    file says.
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
        examples: str | None = None,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.stories = self.expected = stories
        self.shrinks = shrinks
        self.progress = progress
        self.goes_on = goes_on
        self.examples = examples
        offered = machines_of(target)
        if unknown := set(machines) - offered.keys():
            raise TargetError(f"{target.name} has no machine {min(unknown)}; it has {', '.join(offered) or 'none'}")
        self.machines = {name: machine for name, machine in offered.items() if not machines or name in machines}
        self.range = Range(target.name, seed, steps, stories_a_batch, tuple(self.machines), self.configurations)
        self._batch = SoFar(self.range)
        self._goes_wrong = False

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """Which machines tell how much, and where a campaign goes on."""
        return {
            "machines": plan.machines,
            "stories": plan.profile.stories,
            "steps": plan.profile.steps,
            "stories_a_batch": plan.profile.stories_a_batch,
            "shrinks": plan.profile.shrinks,
            "progress": plan.progress,
            "goes_on": plan.goes_on,
            "examples": plan.examples,
        }

    def company(self) -> AbstractContextManager[object]:
        """One process for all rivals that need their own."""
        return faults.shared_rival_process() if "vfs" in self.target.depths else contextlib.nullcontext()

    @cached_property
    def so_far(self) -> SoFar:
        """How far it has come, in this run and in those that it goes on from. Raises `TargetError`."""
        if self.shard is not None:
            self.range = msgspec.structs.replace(self.range, shard=str(self.shard))
        if self.goes_on and self.progress is not None:
            return SoFar.read(self.progress, self.range)
        return SoFar(self.range)

    def parts(self) -> Iterator[Part]:
        """Batches; a machine and a configuration have their turn in each."""
        if self.machines:
            for batch in range(math.ceil(self.stories / self.range.stories_a_batch)):
                name, configuration = self._turn(batch)
                yield Part(configuration, batch, batch + 1, name)

    def own_parts(self) -> Iterator[Part]:
        """The batches that have not been told in earlier runs."""
        first = self.so_far.batches
        return (part for part in super().own_parts() if part.first >= first)

    def search(self, part: Part) -> bool:
        """Tell the stories of a batch; a finding is recorded in its shortest form. Raises `TargetError`."""
        self._batch = SoFar(self.range)
        with self.company():
            found = self._tell_batch(part)
        # What a baseline accepts ends its batch, and no more than that.
        self.ends = found is not None and not self.recorder.accepts(found)
        self._batch.batches = 1
        return True

    def more(self) -> SoFar:
        """What the batch came to."""
        return self._batch

    def take(self, part: Part, done: Done) -> None:
        """Add a batch to what there is, and keep that. Raises `TargetError`."""
        if done.more is None:
            # Nobody has told it.
            return
        self._goes_wrong = self._goes_wrong or done.ends
        self.so_far.take(done.more)
        self.so_far.seconds += done.seconds
        self.recorder.tell(StepsDone(_counts(self.so_far)))
        # A batch that is shorter than others is another batch where a longer campaign goes on.
        if done.complete and self._size_of(part) == self.range.stories_a_batch:
            self.so_far.batches = part.first + 1
            if self.progress is not None:
                self.so_far.write(self.progress)

    def judge(self, *, complete: bool) -> None:
        """Tell what it has not reached; one that was ended by a finding need not have."""
        if not self.machines:
            self.vacuous(f"{self.target.name} does not say which actions it offers")
        elif not self._goes_wrong:
            self._require_substance(self.so_far, complete=complete)

    def ended(self, *, complete: bool) -> SearchEnded:
        """How it ended."""
        notes, so_far = tuple(_notes(self.so_far, self.machines)), self.so_far
        return SearchEnded(self.name, self.target.name, _counts(so_far), so_far.seconds, complete, notes)

    # -- a batch -------------------------------------------------------------------------------------------

    def _size_of(self, part: Part) -> int:
        """How many stories a batch has; the last one may have fewer."""
        return min(self.range.stories_a_batch, self.stories - part.first * self.range.stories_a_batch)

    def _tell_batch(self, part: Part) -> Finding | None:
        """Tell the stories of a batch; the finding that one of them ended in, if one did."""
        name, configuration = part.kind, part.configuration
        digest = hashlib.sha256()
        home = self.directory / "fuzz"

        def new_player(taped: bool) -> Player:
            return Player(
                self.target, configuration, home, record=taped, trace=lambda line: digest.update(f"{line}\n".encode())
            )

        telling = Telling(self.target, self.machines[name], configuration, new_player)
        try:
            violation = self._tell(part, telling)
        finally:
            acknowledged = Counter({key: many for (key, kind), many in telling.answers.items() if kind == "done"})
            self._batch.add(name, telling.totals, telling.rules, acknowledged, telling.shapes)
            self._batch.trace = digest.hexdigest()
        if violation is None:
            return None
        self._batch.add(name, Counter(findings=1), Counter(), Counter(), set())
        return self._found(telling.failed[-1], violation)

    def _turn(self, batch: int) -> tuple[str, Configuration]:
        """Whose turn it is: each machine meets each configuration before any pair comes again."""
        names, configurations = list(self.machines), self.configurations
        turn = batch % (len(names) * len(configurations))
        shift = turn // math.lcm(len(names), len(configurations))
        return names[turn % len(names)], configurations[(turn + shift) % len(configurations)]

    def _seed_of(self, batch: int) -> int:
        return self.range.seed * 1_000_003 + batch

    def _tell(self, part: Part, telling: Telling) -> Violation | None:
        machine = type("Teller", (Teller,), {"telling": telling})
        examples = None
        if self.examples is not None:
            # What an example says depends on what can be drawn.
            salt = f"{self.target.name} {part.kind} {part.configuration} {self.range.steps}"
            examples = shared_examples(self.examples, salt)
        hypothesis.seed(self._seed_of(part.first))(machine)
        try:
            with _from_the_seed_alone():
                stories, steps = self._size_of(part), self.range.steps
                settings = settings_of(stories, steps, shrinks=self.shrinks, examples=examples)
                run_state_machine_as_test(machine, settings=settings)
        except Violation as violation:
            return violation
        except Flaky as error:
            # Hypothesis saw it fail once; a story that fails again by itself is a finding all the same.
            again = play(telling.failed[-1], self.target, self.directory / "again")[0] if telling.failed else None
            if again is None:
                reason = f"a story of {self.target.name} did not fail twice alike: {error}"
                self.vacuous(reason)
            return again
        return None

    def _found(self, story: Story, violation: Violation) -> Finding:
        story, shortest = minimise(story, violation, self.target, self.directory / "minimise")
        finding = Finding.of(shortest, story, self.name, what_suffices(story))
        # What is accepted is met by one batch after the other; nobody reads it twice.
        if not self.recorder.accepts(finding):
            self.recorder.found(finding, self.target)
        elif not self.recorder.repeats_one(finding):
            key = self.recorder.key_of(finding)
            self.recorder.found(finding, self.target, Kin(before=(key,), joins=(key,)))
        return finding

    # -- what was reached ----------------------------------------------------------------------------------

    def _require_substance(self, so_far: SoFar, *, complete: bool) -> None:
        missing = []
        if complete:
            needed = ("steps", "fired", "surfaced", "restarts", "crashes")
            missing = [name for name in needed if not so_far.totals.get(name)]
        if missing:
            self.vacuous(f"the machine never reached: {', '.join(missing)}")
        for name, machine in self.machines.items():
            if so_far.steps.get(name, 0) >= ENOUGH_STEPS:
                self._require_all_of(name, machine, so_far)
        self._require_met(so_far)

    def _require_all_of(self, name: str, machine: Machine, so_far: SoFar) -> None:
        """Every rule of a machine was used, and every action was acknowledged once."""
        steps = so_far.steps[name]
        if unused := sorted(self._rules(steps) - so_far.rules.get(name, {}).keys()):
            reason = f"in {steps:,} steps the machine {name} never came to: {', '.join(unused)}"
            self.vacuous(reason)
        unheard = sorted(machine.actions - so_far.acknowledged.get(name, {}).keys())
        if unheard and steps >= STEPS_AN_ACTION * len(machine.actions):
            reason = f"in {steps:,} steps of the machine {name} nothing has acknowledged: {', '.join(unheard)}"
            self.vacuous(reason)

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
            self.vacuous(f"the machine never reached: {', '.join(missing)}")


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
