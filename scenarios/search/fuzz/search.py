"""The search ``fuzz``: Hypothesis draws scenarios, the executor checks every step, and failures are shrunk.

A target offers machines (the reference: tasks, history, outbox, and the whole ledger with two workers); the steps of a
machine are in `scenarios.search.fuzz.state_machine`. Machines and configurations take turns, batch by batch, until each
machine has run in each configuration. A failing scenario is shrunk by Hypothesis and then by `minimise`.

Each batch has its own seed, derived from the run's: the same seed gives the same scenarios, also if a campaign was
stopped after some batch and continues later (`scenarios.search.fuzz.checkpoint`). The trace, a digest of all steps,
answers and states, proves it.

A run that has reached too little is vacuous and lists what it missed: from `ENOUGH_STEPS` on, a machine must have used
every rule, and from `STEPS_AN_ACTION` for each action that it draws, every action must have been acknowledged once.

Not covered: two machines at once, and threads that no schedule controls.
"""

import contextlib
import hashlib
import importlib
import math
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import hypothesis
import msgspec
from hypothesis import strategies
from hypothesis.errors import Flaky, HypothesisWarning
from hypothesis.stateful import run_state_machine_as_test

from tornpage import faults
from tornpage.faults.replaced import replaced
from tornpage.scenarios.execution.executor import OUT_OF_PLACE, Executor, play
from tornpage.scenarios.execution.finding.shrink import Shown, shown, what_suffices
from tornpage.scenarios.execution.interleave.sessions import shared_processes
from tornpage.scenarios.execution.preflight.no_locks import takes_no_locks
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.events import Finding, SearchEnded, StepsDone
from tornpage.scenarios.model.fingerprint import fingerprint
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.unpromised import NO_MEMORY_EITHER, reason_not_promised
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Clear, Conditional, CrashAt, Damage, Scenario
from tornpage.scenarios.model.target import (
    Action,
    Configuration,
    Machine,
    Target,
    TargetError,
    View,
)
from tornpage.scenarios.model.work import Done, Part
from tornpage.scenarios.search.base import Search
from tornpage.scenarios.search.fuzz.checkpoint import Checkpoint, Range
from tornpage.scenarios.search.fuzz.full import NOTE, is_full_anyway, may_be_full
from tornpage.scenarios.search.fuzz.possible import ENOUGH_STOPS, possible_rules, was_stopped
from tornpage.scenarios.search.fuzz.shared_examples import shared_examples
from tornpage.scenarios.search.fuzz.state_machine import (
    MachineRun,
    StoreMachine,
    jumps,
    plans,
    settings_of,
)
from tornpage.scenarios.search.recorder import DedupKeys, Recorder

__all__ = ["ENOUGH_STEPS", "STEPS_AN_ACTION", "Fuzz", "Playable", "jumps", "machines_of", "plans"]

# From so many steps on, an unused rule is a coverage gap, not chance.
ENOUGH_STEPS: Final = 1_500
STEPS_AN_ACTION: Final = 300
# The number of extra scenarios if a condition never had an effect.
_MORE_BATCHES: Final = 10
_THE_ONE: Final = "all"
# So many actions of a machine have their turn in a batch.
_FOCUSED: Final = 4
# Why a scenario may go another way when it is played again.
_THREADS: Final = (
    "its threads work at the same time, so the system decides which of their operations a fault meets; let the target "
    "open the store with one thread"
)
_OUTCOMES: Final = {"done": "acknowledged", "refused": "refused", "raised": "failed"}


@runtime_checkable
class Playable(Protocol):
    """A target that a machine can play: it lists the calls that make sense in a state."""

    def actions(self, view: View) -> strategies.SearchStrategy[Action]:
        """The calls that are useful in the state of `view`."""


def machines_of(target: Target) -> Mapping[str, Machine]:
    """The machines of a target; the default one if it offers none, and none without actions."""
    if offered := target.machines:
        return offered
    return {_THE_ONE: Machine(target.actions)} if isinstance(target, Playable) else {}


@contextlib.contextmanager
def _without_a_wrong_warning() -> Iterator[None]:
    """Hypothesis looks for what refers to its generator through the garbage collector, which a run has frozen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "It looks like `register_random` was passed", HypothesisWarning)
        yield


@contextlib.contextmanager
def _from_the_seed_alone() -> Iterator[None]:
    """Keep Hypothesis from drawing numbers and strings that it finds in the code of loaded modules.

    The same seed would give other scenarios elsewhere, and after each change of a constant anywhere. There is no
    setting for it; a test checks that this still works.
    """
    try:
        providers: Any = importlib.import_module("hypothesis.internal.conjecture.providers")
        none = providers.Constants()
    except (ImportError, AttributeError):  # An older Hypothesis does not do that.
        yield
        return
    with replaced(providers, _get_local_constants=lambda: none):
        # Hypothesis caches draws by the bounds of the draw alone, both earlier and later ones.
        providers.CONSTANTS_CACHE.cache.clear()
        try:
            yield
        finally:
            providers.CONSTANTS_CACHE.cache.clear()


class Fuzz(Search):
    """Runs `scenarios` scenarios of up to `steps` steps on one target, over its machines and configurations in turn.

    A part is a batch of scenarios. `progress` is the file of its progress; with `goes_on` it continues from that file.
    """

    name = "fuzz"
    is_random = True

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        directory: Path,
        *,
        configurations: tuple[Configuration, ...] | None = None,
        machines: tuple[str, ...] = (),
        scenarios: int = 100,
        steps: int = 20,
        scenarios_a_batch: int = 20,
        seed: int = 0,
        shrinks: bool = True,
        progress: Path | None = None,
        goes_on: bool = False,
        examples: str | None = None,
    ) -> None:
        super().__init__(target, recorder, directory, configurations=configurations, seed=seed)
        self.scenarios = self.expected = scenarios
        self.shrinks = shrinks
        self.progress = progress
        self.goes_on = goes_on
        self.examples = examples
        offered = machines_of(target)
        if unknown := set(machines) - offered.keys():
            raise TargetError(f"{target.name} has no machine {min(unknown)}; it has {', '.join(offered) or 'none'}")
        self.machines = {name: machine for name, machine in offered.items() if not machines or name in machines}
        self.range = Range(target.name, seed, steps, scenarios_a_batch, tuple(self.machines), self.configurations)
        self._batch = Checkpoint(self.range)
        self._goes_wrong = self._is_late = False
        # The conditions that extra batches are to reach.
        self._focus: tuple[str, ...] = ()
        self._plain: dict[Configuration, frozenset[tuple[str, str]]] = {}

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """The machines and their sizes, and where a campaign continues."""
        return {
            "machines": plan.machines,
            "scenarios": plan.profile.scenarios,
            "steps": plan.profile.steps,
            "scenarios_a_batch": plan.profile.scenarios_a_batch,
            "shrinks": plan.profile.shrinks,
            "progress": plan.progress,
            "goes_on": plan.goes_on,
            "examples": plan.examples,
        }

    @contextlib.contextmanager
    def company(self) -> Iterator[None]:
        """One process for all rivals that need another process, and one for all second callers, once there is one."""
        with contextlib.ExitStack() as scope:
            if "vfs" in self.target.depths:
                scope.enter_context(faults.kept_rival_process())
            scope.enter_context(shared_processes())
            yield

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The progress of this run and of those that it continues. Raises `TargetError`."""
        if self.shard is not None:
            self.range = msgspec.structs.replace(self.range, shard=str(self.shard))
        if self.goes_on and self.progress is not None:
            return Checkpoint.read(self.progress, self.range)
        return Checkpoint(self.range)

    def parts(self) -> Iterator[Part]:
        """Batches; a machine and a configuration have their turn in each."""
        if self.machines:
            for batch in range(math.ceil(self.scenarios / self.range.scenarios_a_batch)):
                name, configuration = self._turn(batch)
                yield Part(configuration, batch, batch + 1, name)

    def own_parts(self) -> Iterator[Part]:
        """The batches that earlier runs have not done."""
        first = self.checkpoint.batches
        return (part for part in super().own_parts() if part.first >= first)

    def search(self, part: Part) -> bool:
        """Run the scenarios of a batch; a finding is recorded in its shortest form. Raises `TargetError`."""
        self._batch = Checkpoint(self.range)
        with self.company():
            findings = self._run_batch(part)
        self.ends = any(self._kind_of_minor(one) is None for one in findings)
        self._batch.batches = 1
        return True

    def more(self) -> Checkpoint:
        """The results of the batch."""
        return self._batch

    def take(self, part: Part, done: Done) -> None:
        """Add a batch to the progress, and store it. Raises `TargetError`."""
        if done.more is None:
            # It has not been run.
            return
        self._goes_wrong = self._goes_wrong or done.ends
        self.total.seen.update(done.seen)
        self.checkpoint.take(done.more)
        self.checkpoint.seconds += done.seconds
        self.recorder.tell(StepsDone(_counts(self.checkpoint)))
        # A batch that is shorter than others would differ in a longer campaign that continues this one.
        if done.complete and self._size_of(part) == self.range.scenarios_a_batch:
            self.checkpoint.batches = part.first + 1
            if self.progress is not None:
                self.checkpoint.write(self.progress)

    def judge(self, *, complete: bool) -> None:
        """Report what it has not reached, unless a finding has ended it."""
        if not self.machines:
            self.vacuous(f"{self.target.name} declares no actions")
        elif not complete and self.is_out_of_time and not self.checkpoint.totals.get("steps"):
            self.vacuous("the time was up before anything was tried: give it more (--max-time), or fewer searches")
        elif not self._goes_wrong:
            if complete and self.shard is None:
                self._run_more()
            self._is_late = not complete
            self._require_substance(self.checkpoint, complete=complete)

    def ended(self, *, complete: bool) -> SearchEnded:
        """How it ended."""
        checkpoint = self.checkpoint
        notes = (*self.notes, *_notes(checkpoint, self.machines))
        counts, extent = _counts(checkpoint), self.extent(complete=complete)
        return SearchEnded(self.name, self.target.name, counts, checkpoint.seconds, complete, notes, extent=extent)

    def _run_more(self) -> None:
        """Run extra batches as long as some possible condition never had an effect.

        They are not kept as progress: a longer campaign runs them itself.
        """
        after = math.ceil(self.scenarios / self.range.scenarios_a_batch)
        for batch in range(after, after + _MORE_BATCHES):
            checkpoint = self.checkpoint
            lacking = [one for one in self.machines if self._unheard(one, checkpoint) or self._unused(one, checkpoint)]
            if not (lacking or self._never_met(self.checkpoint)) or self._goes_wrong or self.recorder.enough():
                return
            name, configuration = self._turn(batch)
            name = name if name in lacking or not lacking else lacking[0]
            self._focus = tuple(self._unheard(name, self.checkpoint))
            with faults.install() as shim, shim.deterministic():
                done = self.do(Part(configuration, batch, batch + 1, name))
            if done.error is not None:
                raise done.error
            self._goes_wrong = done.ends
            self.total.seen.update(done.seen)
            self.checkpoint.take(done.more)
            self.checkpoint.seconds += done.seconds

    # -- a batch -------------------------------------------------------------------------------------------

    def _size_of(self, part: Part) -> int:
        """The number of scenarios of a batch; the last one may have fewer."""
        left = self.scenarios - part.first * self.range.scenarios_a_batch
        # Extra batches are complete.
        return min(self.range.scenarios_a_batch, left) if left > 0 else self.range.scenarios_a_batch

    def _run_batch(self, part: Part) -> list[Finding]:
        """Run the scenarios of a batch; return its findings: of each minor kind one, and one that ended it, if any."""
        name, configuration = part.kind, part.configuration
        digest = hashlib.sha256()
        home = self.directory / "fuzz"

        def new_executor(taped: bool) -> Executor:
            return Executor(
                self.target, configuration, home, record=taped, trace=lambda line: digest.update(f"{line}\n".encode())
            )

        machine_run = MachineRun(
            self.target,
            self.machines[name],
            configuration,
            new_executor,
            self._operations_on_plain_files(configuration),
            self.recorder.require_going_on,
            self._kind_to_set_aside,
        )
        machine_run.focus = self._focus or _turn_of(self.machines[name].actions, part.first)
        machine_run.clock = _clock_of(part.first)
        try:
            violation = self._tell(part, machine_run)
        finally:
            acknowledged: Counter[str] = Counter()
            for (key, kind, _), many in machine_run.answers.items():
                acknowledged[key] += many if kind == "done" else 0
            self._batch.cells[name] = {" ".join(cell): many for cell, many in sorted(machine_run.answers.items())}
            self._batch.add(name, machine_run.totals, machine_run.rules, acknowledged, machine_run.shapes)
            self._batch.trace = digest.hexdigest()
        failed = []
        for scenario, one in machine_run.set_aside.values():
            if may_be_full(one) and is_full_anyway(scenario, self.target, self.directory / "full"):
                self.note(NOTE)
            else:
                failed.append((scenario, one))
        if violation is not None:
            failed.append((machine_run.failed[-1], violation))
        findings = [found for one in failed if (found := self._found(*one)) is not None]
        self._batch.add(name, Counter(findings=len(findings)), Counter(), Counter(), set())
        return findings

    def _kind_to_set_aside(self, violation: Violation, scenario: Scenario) -> Hashable:
        """The kind of a violation that ends its scenario and not the batch, or None."""
        if may_be_full(violation):
            return str(scenario)
        return self._kind_of_minor(Finding.of(violation, _by_its_last_condition(scenario), self.name))

    def _kind_of_minor(self, finding: Finding) -> Hashable:
        """The kind of a finding that must not keep fuzz from others, or None.

        That is what a target does not promise, what a baseline accepts, and what most stores have: a rollback without
        memory. Of each kind one is reported for a batch.
        """
        if reason := reason_not_promised(self.target.unpromised, finding):
            return finding.code, reason
        if self.recorder.accepts(finding):
            return fingerprint(finding.code, finding.scenario)
        return NO_MEMORY_EITHER if NO_MEMORY_EITHER in finding.message else None

    def _operations_on_plain_files(self, configuration: Configuration) -> frozenset[tuple[str, str]]:
        """The operations on plain files in the workload, as (kind, role); other faults would never fire."""
        if configuration not in self._plain:
            home = self.directory / "plain"
            place({}, home)
            with (
                # A store that leaks without a fault: the machine finds that, too.
                contextlib.suppress(Violation),
                Trial(self.target, configuration, home, {}) as trial,
                faults.count_operations(home) as counter,
            ):
                for step, action in enumerate((OPEN, *self.target.workload())):
                    trial.at_step(step)
                    trial.call(action, {})
            self._plain[configuration] = frozenset(one for one in counter.counts if one[0] in faults.FILE_KINDS)
        return self._plain[configuration]

    def _turn(self, batch: int) -> tuple[str, Configuration]:
        """The machine and configuration of a batch: each pair has its turn before any is repeated."""
        names, configurations = list(self.machines), self.configurations
        turn = batch % (len(names) * len(configurations))
        shift = turn // math.lcm(len(names), len(configurations))
        return names[turn % len(names)], configurations[(turn + shift) % len(configurations)]

    def _seed_of(self, batch: int) -> int:
        return self.range.seed * 1_000_003 + batch

    def _tell(self, part: Part, machine_run: MachineRun) -> Violation | None:
        machine = type("StoreMachine", (StoreMachine,), {"machine_run": machine_run})
        examples = None
        if self.examples is not None:
            # The meaning of an example depends on what can be drawn.
            salt = f"{self.target.name} {part.kind} {part.configuration} {self.range.steps}"
            examples = shared_examples(self.examples, salt)
        hypothesis.seed(self._seed_of(part.first))(machine)
        try:
            with _from_the_seed_alone(), _without_a_wrong_warning():
                scenarios, steps = self._size_of(part), self.range.steps
                settings = settings_of(scenarios, steps, shrinks=self.shrinks, examples=examples)
                run_state_machine_as_test(machine, settings=settings)
        except Violation as violation:
            return violation
        except Flaky as error:
            if machine_run.ended_by is not None:
                raise machine_run.ended_by from None
            # Hypothesis saw it fail once; a scenario that fails again by itself is a finding all the same.
            again = (
                play(machine_run.failed[-1], self.target, self.directory / "again")[0] if machine_run.failed else None
            )
            if again is None:
                why = _THREADS if machine_run.has_threads else str(error).partition("\n")[0]
                self.vacuous(f"a scenario of {self.target.name} went another way when it was played again: {why}")
            return again
        return None

    def _found(self, scenario: Scenario, violation: Violation) -> Finding | None:
        """Shrink and record a finding; None if the shortest scenario needs no fault, and just fills the store."""
        is_over = self.recorder.shrinking()
        short = shown(scenario, violation, self.target, self.directory / "minimise", is_over=is_over)
        if may_be_full(short.violation) and is_full_anyway(short.scenario, self.target, self.directory / "full"):
            self.note(NOTE)
            if may_be_full(violation):
                return None
            # A full store must not take the place of what the faults have caused.
            again, _ = play(scenario, self.target, self.directory / "again")
            short = Shown(scenario, violation, again is not None and again.code == violation.code)
        note = short.note or what_suffices(short.scenario)
        finding = Finding.of(short.violation, short.scenario, self.name, note, shows_again=short.again)
        # Every batch may meet an accepted finding; it is reported once.
        if not self.recorder.accepts(finding):
            self.recorder.found(finding, self.target)
        elif not self.recorder.repeats_one(finding):
            key = self.recorder.key_of(finding)
            self.recorder.found(finding, self.target, DedupKeys(before=(key,), joins=(key,)))
        return finding

    # -- coverage -------------------------------------------------------------------------------------------

    def _require_substance(self, checkpoint: Checkpoint, *, complete: bool) -> None:
        missing = []
        if complete:
            needed = ("steps", "fired", "surfaced", "restarts", "crashes")
            missing = [name for name in needed if not checkpoint.totals.get(name)]
        if missing:
            self.vacuous(f"the machine never reached: {', '.join(missing)}")
        for name in self.machines:
            if checkpoint.steps.get(name, 0) >= ENOUGH_STEPS:
                self._require_all_of(name, checkpoint)
        self._require_met(checkpoint)

    def _require_all_of(self, name: str, checkpoint: Checkpoint) -> None:
        """Every rule of a machine was used, and every action was acknowledged once."""
        steps = checkpoint.steps[name]
        if unused := self._unused(name, checkpoint):
            reason = f"in {steps:,} steps the machine {name} never used: {', '.join(unused)}"
            self.vacuous(reason)
        if unheard := self._unheard(name, checkpoint):
            reason = f"in {steps:,} steps of the machine {name} nothing has acknowledged: {', '.join(unheard)}"
            self.vacuous(reason)

    def _unheard(self, name: str, checkpoint: Checkpoint) -> list[str]:
        """The actions of a machine of which none was acknowledged, in steps that are enough for each."""
        actions = self.machines[name].actions
        heard = {action for action, many in checkpoint.acknowledged.get(name, {}).items() if many}
        is_enough = checkpoint.steps.get(name, 0) >= STEPS_AN_ACTION * len(actions)
        return sorted(actions - heard) if is_enough else []

    def _unused(self, name: str, checkpoint: Checkpoint) -> list[str]:
        """The rules that a machine has not used, in steps that are enough for each."""
        steps = checkpoint.steps.get(name, 0)
        unused = self._rules(steps) - checkpoint.rules.get(name, {}).keys()
        return sorted(unused) if steps >= ENOUGH_STEPS else []

    def _rules(self, steps: int) -> set[str]:
        rules = possible_rules(self.target, self.configurations, steps)
        is_chance = self._is_late and was_stopped(self.checkpoint) < ENOUGH_STOPS
        return rules - {"cut power"} if is_chance else rules

    def _require_met(self, checkpoint: Checkpoint) -> None:
        """Require that each drawn condition had an effect."""
        if missing := self._never_met(checkpoint):
            self.vacuous(f"the machine never reached: {', '.join(missing)}")

    def _never_met(self, checkpoint: Checkpoint) -> list[str]:
        """The conditions that were possible in so many steps, and never had an effect."""
        met = {"limit": "limits", "contend": "contentions", "cut power": "power_cuts"}
        steps = checkpoint.totals.get("steps", 0)
        needed = {count for rule, count in met.items() if rule in self._rules(steps)} | {"jumps"}
        missing = {count for count in needed if not checkpoint.totals.get(count)} if steps >= ENOUGH_STEPS else set()
        if "contentions" in missing and all(
            takes_no_locks(self.target, one, self.directory / "no-locks") for one in self.configurations
        ):
            missing.remove("contentions")
        return sorted(missing)


def _by_its_last_condition(scenario: Scenario) -> Scenario:
    """The scenario without the conditions that were over before the last one began: every check held after them."""
    steps = scenario.steps
    conditions = [index for index, step in enumerate(steps) if isinstance(step, Conditional | CrashAt | Damage)]
    ends = [index for index, step in enumerate(steps) if isinstance(step, Clear) and index < max(conditions, default=0)]
    kept = [
        step
        for index, step in enumerate(steps)
        if index > max(ends, default=-1) or not isinstance(step, Conditional | CrashAt | Damage)
    ]
    return msgspec.structs.replace(scenario, steps=tuple(kept))


def _turn_of(actions: frozenset[str], batch: int) -> tuple[str, ...]:
    """The actions that have their turn in a batch: all have one in time, even those that a seed rarely draws."""
    names = sorted(actions)
    first = batch * _FOCUSED % max(len(names), 1)
    return tuple((names + names)[first : first + min(_FOCUSED, len(names))])


def _clock_of(batch: int) -> int:
    """Which way the clock jumps often in a batch: back, on, or (0) neither; each machine and configuration has each."""
    turns = (0, -1, 1)
    return turns[(batch + batch // len(turns)) % len(turns)]


def _reached(name: str, machine: Machine, cells: Mapping[str, int]) -> Iterator[str]:
    """The coverage of (action x outcome x circumstance) by a machine, and the actions that never had an outcome."""
    if not machine.actions or not cells:
        return
    reached = {tuple(cell.split(" ")[:2]) for cell in cells}
    never = []
    for outcome, word in _OUTCOMES.items():
        if missing := sorted(one for one in machine.actions if (one, outcome) not in reached):
            never.append(f"never {word}: {', '.join(missing)}")
    said = "; ".join(never) or "each action had each outcome"
    yield f"{name}: {len(cells)} of (action x outcome x circumstance) reached; {said}"


def _counts(checkpoint: Checkpoint) -> dict[str, int]:
    """The totals, with how many different actions were acknowledged and states reached."""
    actions = {action for acknowledged in checkpoint.acknowledged.values() for action in acknowledged}
    return {**checkpoint.totals, "actions": len(actions), "shapes": len(checkpoint.shapes)}


def _notes(checkpoint: Checkpoint, machines: Mapping[str, Machine]) -> Iterator[str]:
    for name in machines if len(machines) > 1 else ():
        rules = ", ".join(f"{many:,} {rule}" for rule, many in sorted(checkpoint.rules.get(name, {}).items()))
        acknowledged = len(checkpoint.acknowledged.get(name, {}))
        yield f"{name}: {checkpoint.steps.get(name, 0):,} steps, {acknowledged} actions acknowledged; {rules}"
    for name, machine in machines.items():
        yield from _reached(name, machine, checkpoint.cells.get(name, {}))
    if many := checkpoint.totals.get("left_waiting"):
        yield f"left out where they wait for another caller: {many} calls"
    if many := checkpoint.totals.get(OUT_OF_PLACE):
        reached = (cell.split(" ") for cells in checkpoint.cells.values() for cell in cells)
        names = sorted({name for name, outcome, *_ in reached if outcome == OUT_OF_PLACE})
        yield f"left out where they fail by a mistake, also without any fault: {many} calls of {', '.join(names)}"
    yield f"trace sha256 {checkpoint.trace or 'of nothing'}"
