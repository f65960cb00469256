"""The state machine: a Hypothesis machine that draws one scenario, step by step, for an executor.

One rule makes any call that the target offers in its present state, sometimes after a clock jump. The others arm faults
at either depth, let a rival or a limit affect one call, let another caller make a call in the middle of one, clear,
restart, crash, and stop at a drawn operation. The machine only draws: every action and every check is in the executor,
so a failure is an ordinary scenario, which replays without Hypothesis.

A scenario is *taped* or not. A taped one is recorded, so that the power can fail, or the process die, at each operation
since its last call began, and leave any of the states that such a crash may leave. The recorder doesn't see other users
of the files: rivals, and the calls of a second worker, are in scenarios without a tape.

The strategies draw only possible steps: faults of the catalogue, rivals of the journal mode, power cuts where the
configuration promises something.

Not covered: limits on single allocations, which need SQLite to themselves; the search ``limits`` has them.
"""

import contextlib
import functools
import operator
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, Concatenate, Final, ParamSpec

import hypothesis
from hypothesis import strategies
from hypothesis.database import ExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.strategies import SearchStrategy

from tornpage import faults
from tornpage.scenarios.execution.call_timeout import has_threads_of_the_store
from tornpage.scenarios.execution.crash.recording import Recording
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.crash_oracle import Promise, promise_of
from tornpage.scenarios.model.scenario import (
    Arm,
    Call,
    Callers,
    Clear,
    ClockJump,
    CrashAt,
    Depth,
    Interleave,
    Limit,
    LimitKind,
    Restart,
    Rival,
    Scenario,
    Step,
)
from tornpage.scenarios.model.target import Action, Configuration, Machine, Target, TargetError, View, binding_of

_LARGEST_ORDINAL: Final = 8
_LAST_SWITCH: Final = 12
# There is nothing to lose in a store where nothing was done, and a restart of it shows nothing.
_CALLS_AT_ONCE: Final = 3
_CALLS_A_JUMP: Final = 8
# Where the clock has its turn every other call meets a clock that has jumped.
_CALLS_A_JUMP_IN_TURN: Final = 2
# Of so many calls one is of those that have their turn.
_CALLS_A_FOCUS: Final = 3
_PLANS_A_PAIR: Final = 8
_SCENARIOS_A_TAPE: Final = 3
_DRAWS_AT_MOST: Final = 16
_DAY_MS: Final = 86_400_000
_JUMPS_MS: Final = (1_000, 60_000, 3_600_000, _DAY_MS, 40 * _DAY_MS, 2_000 * _DAY_MS)
_LARGEST_LIMITS: Final[Mapping[LimitKind, tuple[int, ...]]] = {
    "heap": (0, 512, 4_096, 16_384, 65_536),
    "pages": (0, 0, 1, 2),
    "steps": (10, 100, 400, 1_500),
}


# -- possible steps ---------------------------------------------------------------------------------------------


def plans(
    configuration: Configuration, depths: tuple[str, ...], plain: Collection[tuple[str, str]] = ()
) -> SearchStrategy[tuple[str, str]]:
    """Possible faults as (depth, plan), of the kinds that occur in this journal mode.

    `plain` are the operations on plain files, as (kind, role), that the store is known to make.
    """
    roles = ("db", "wal") if configuration.journal_mode == "wal" else ("db", "journal")
    shared = {"shmmap", "shmlock"} if configuration.journal_mode != "wal" else set()
    lines: list[tuple[str, str, str, str]] = []
    for line in faults.possibilities():
        depth = "statement" if line.kind in faults.STATEMENT_KINDS else "vfs"
        if depth not in depths or line.kind in shared or line.kind == "any":
            continue
        if line.kind in faults.FILE_KINDS:
            found = sorted(role for kind, role in plain if kind == line.kind)
            lines += [(depth, f"{line.kind}:{role}", line.timing, effect) for role in found for effect in line.effects]
            continue
        if configuration.journal_mode == "file":
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


def jumps(signs: tuple[int, ...] = (1, -1)) -> SearchStrategy[int]:
    """How far a clock jumps, in milliseconds: by a second up to years, forward or back."""
    return strategies.builds(operator.mul, strategies.sampled_from(_JUMPS_MS), strategies.sampled_from(signs))


def kinds_of_limits(target: Target) -> tuple[LimitKind, ...]:
    """The limits that a target supports: some need connections of ours, one a library with a heap limit."""
    library = faults.shim_for(binding_of(target)).library
    heap: tuple[LimitKind, ...] = ("heap",) if faults.can_limit_heap(library) else ()
    return (*heap, "pages", "steps") if "statement" in target.depths else heap


def limits(kinds: tuple[LimitKind, ...]) -> SearchStrategy[Limit]:
    """A limit of one of these kinds, mostly a tight one."""

    def of(kind: LimitKind) -> SearchStrategy[Limit]:
        at = strategies.sampled_from(_LARGEST_LIMITS[kind]).flatmap(lambda most: strategies.integers(0, most))
        if kind in ("heap", "pages"):
            return at.map(lambda extra: Limit(kind, extra))
        return strategies.builds(lambda one, sticky: Limit(kind, one + 1, sticky), at, strategies.booleans())

    return strategies.sampled_from(kinds).flatmap(of) if kinds else strategies.nothing()


def rivals(configuration: Configuration) -> SearchStrategy[Rival]:
    """A rival that is possible in this journal mode; it holds its lock until it is cleared.

    Short locks, and rivals that recover a WAL, are left to the search ``contend``.
    """
    mode = configuration.journal_mode
    kinds = [kind for kind in faults.RIVAL_KINDS.values() if kind.fits(mode) and kind.name != "recoverer"]
    operations = ("lock", "shmlock") if mode == "wal" else ("lock",)
    return strategies.builds(
        lambda kind, operation, ordinal: Rival(kind.name, operation, ordinal, kind.places[0]),
        strategies.sampled_from(kinds),
        strategies.sampled_from(operations),
        strategies.integers(1, _LARGEST_ORDINAL),
    )


def settings_of(
    scenarios: int, steps: int, *, shrinks: bool, examples: ExampleDatabase | None = None
) -> hypothesis.settings:
    """Hypothesis's settings for a batch of so many scenarios.

    All are set explicitly: a profile that Hypothesis loads under CI must not change a seed's scenarios. There is no
    database by default: examples of an earlier run would run before the seed's scenarios, and a finding has its own
    file.
    """
    return hypothesis.settings(
        max_examples=scenarios,
        stateful_step_count=steps,
        deadline=None,
        database=examples,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(
            *([hypothesis.Phase.reuse] if examples is not None else []),
            hypothesis.Phase.generate,
            *([hypothesis.Phase.shrink] if shrinks else []),
        ),
        verbosity=hypothesis.Verbosity.quiet,
    )


# -- the machine -----------------------------------------------------------------------------------------------


class MachineRun:
    """The state that the scenarios of one batch share: target, possible faults, and results.

    `new_executor` makes an executor, recording or not; `plain` are the operations on plain files that it makes. `rules`
    counts how often each rule was used, `answers` the answers by action, kind and circumstance, `shapes` collects the
    kinds of states. `minor` names the kind of a violation that ends its scenario and not the batch, or returns None.
    """

    def __init__(
        self,
        target: Any,
        machine: Machine,
        configuration: Configuration,
        new_executor: Callable[[bool], Executor],
        plain: Collection[tuple[str, str]] = (),
        before_step: Callable[[], None] = lambda: None,
        minor: Callable[[Violation, Scenario], Hashable] = lambda *_: None,
    ) -> None:
        self.target = target
        self.machine = machine
        self.configuration = configuration
        self.new_executor = new_executor
        self.before_step = before_step
        self.minor = minor
        # Whether threads of the store were alive after a step.
        self.has_threads = False
        self.plans = plans(configuration, target.depths, plain)
        self.reaches_files = "vfs" in target.depths
        self.has_locks = self.reaches_files and configuration.journal_mode != "file"
        self.limits = limits(kinds_of_limits(target))
        self.has_limits = configuration.journal_mode != "file" and not self.limits.is_empty
        self.rivals = rivals(configuration)
        self.cuts_power = promise_of(configuration, power=True) is not Promise.NOTHING
        self.by_others = frozenset(target.by_others)
        self.by_one_caller = frozenset(target.by_one_caller)
        self.callers: tuple[Callers, ...] = target.callers or ()
        self.totals: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str, str]] = Counter()
        # The names of actions that are drawn more often.
        self.focus: tuple[str, ...] = ()
        # Which way the clock jumps, and often, where that has its turn; 0: now and then, either way.
        self.clock = 0
        self.shapes: set[str] = set()
        self.failed: list[Scenario] = []
        # The first scenario of each kind of violation that ends no batch, by the kind.
        self.set_aside: dict[Hashable, tuple[Scenario, Violation]] = {}
        # What ends the search. Each further scenario ends at once, since a shorter way to it would say no more.
        self.ended_by: TargetError | None = None


class _ScenarioEndedError(Exception):
    """A minor violation has ended the scenario; no further step is made."""


_Drawn = ParamSpec("_Drawn")


def _unless_ended(
    step: "Callable[Concatenate[StoreMachine, _Drawn], None]",
) -> "Callable[Concatenate[StoreMachine, _Drawn], None]":
    """A rule that does nothing once a minor violation has ended the scenario: Hypothesis goes on to its last step."""

    @functools.wraps(step)
    def unless_ended(machine: "StoreMachine", /, *args: _Drawn.args, **kwargs: _Drawn.kwargs) -> None:
        if not machine.broken:
            with contextlib.suppress(_ScenarioEndedError):
                step(machine, *args, **kwargs)

    return unless_ended


class StoreMachine(RuleBasedStateMachine):
    """The rules; a subclass has `machine_run`."""

    machine_run: MachineRun

    def __init__(self) -> None:
        super().__init__()
        self.broken = self.taped = False
        self._executor: Executor | None = None
        self._same_randomness = contextlib.ExitStack()

    @property
    def executor(self) -> Executor:
        """The scenario's executor; set from the first step on."""
        if self._executor is None:
            raise TargetError("the executor is set by the first step of a scenario")
        return self._executor

    def _do(self, *steps: Step) -> None:
        machine_run, executor = self.machine_run, self.executor
        try:
            for step in steps:
                machine_run.before_step()
                executor.do(step)
                machine_run.shapes.add(shape_of(executor.view))
                machine_run.has_threads |= has_threads_of_the_store()
        except Violation as violation:
            self._fail(violation)
            raise _ScenarioEndedError from None
        except TargetError as error:
            machine_run.ended_by = error
            raise

    def _fail(self, violation: Violation) -> None:
        """End the scenario with this violation, which is raised unless it is a minor one."""
        machine_run, executor = self.machine_run, self.executor
        self.broken = True
        scenario = Scenario(machine_run.target.name, machine_run.configuration, tuple(executor.steps))
        kind = machine_run.minor(violation, scenario)
        if kind is not None:
            machine_run.set_aside.setdefault(kind, (scenario, violation))
            return
        if not machine_run.failed:
            machine_run.totals["steps_to_failure"] = machine_run.totals["steps"] + len(executor.steps)
        machine_run.failed.append(scenario)
        raise violation

    def _call(self, data: strategies.DataObject, *, alone: bool) -> Call:
        """A call that makes sense now; if the store is `alone`, none by other users."""
        return Call(self._action(data, self.machine_run.by_others if alone else frozenset()))

    def _action(self, data: strategies.DataObject, left_out: frozenset[str]) -> Action:
        machine_run, view = self.machine_run, self.executor.view
        drawing, only = machine_run.machine.draw(view), machine_run.machine.only
        focus = [name for name in machine_run.focus if name not in left_out]
        if focus and only is not None and data.draw(strategies.integers(1, _CALLS_A_FOCUS)) == _CALLS_A_FOCUS:
            drawing = only(view, data.draw(strategies.sampled_from(focus)))
        for _ in range(_DRAWS_AT_MOST):
            action: Action = data.draw(drawing)
            if action.name not in left_out:
                return action
        return self.machine_run.target.heartbeat()  # type: ignore[no-any-return]

    @initialize(kind=strategies.integers(1, _SCENARIOS_A_TAPE))
    @_unless_ended
    def begin(self, kind: int) -> None:
        """Open the store, with nothing armed."""
        if self.machine_run.ended_by is not None:
            raise self.machine_run.ended_by
        self.taped = self.machine_run.reaches_files and kind == _SCENARIOS_A_TAPE
        # SQLite's own random generator is seeded as well, so the same scenario repeats exactly.
        self._same_randomness.enter_context(faults.shims().deterministic())
        self._executor = self.machine_run.new_executor(self.taped)
        self._do(Restart())

    # Rules are drawn alike, each one as often as any other; so the one that does most of the work has several names.
    # Not in a taped scenario: there the calls are worth as much as the crashes that follow them.
    @rule(data=strategies.data(), calls=strategies.integers(1, _CALLS_AT_ONCE))
    @_unless_ended
    def call(self, data: strategies.DataObject, calls: int) -> None:
        """Make some calls that make sense now; sometimes the clock has been set just before one."""
        self._calls(data, calls)

    @precondition(lambda self: not self.taped)
    @rule(data=strategies.data(), calls=strategies.integers(1, _CALLS_AT_ONCE))
    @_unless_ended
    def call_again(self, data: strategies.DataObject, calls: int) -> None:
        """The same."""
        self._calls(data, calls)

    @precondition(lambda self: not self.taped)
    @rule(data=strategies.data(), calls=strategies.integers(1, _CALLS_AT_ONCE))
    @_unless_ended
    def call_more(self, data: strategies.DataObject, calls: int) -> None:
        """The same."""
        self._calls(data, calls)

    def _calls(self, data: strategies.DataObject, calls: int) -> None:
        self.machine_run.rules["call"] += 1
        for _ in range(calls):
            self._jump(data)
            self._do(self._call(data, alone=self.taped))

    def _jump(self, data: strategies.DataObject) -> None:
        """Set the clock, sometimes. Not a rule of its own: it would be chosen as often as a fault."""
        clock = self.machine_run.clock
        often = _CALLS_A_JUMP_IN_TURN if clock else _CALLS_A_JUMP
        if data.draw(strategies.integers(1, often)) == often:
            self._do(ClockJump(data.draw(jumps((clock,) if clock else (1, -1)))))

    @precondition(lambda self: not self.executor.armed)
    @rule(data=strategies.data())
    @_unless_ended
    def arm(self, data: strategies.DataObject) -> None:
        """Arm a fault or two, then make a call: a fault that no operation meets tests nothing."""
        self.machine_run.rules["arm"] += 1
        depth, plan = data.draw(self.machine_run.plans)
        if data.draw(strategies.integers(1, _PLANS_A_PAIR)) == _PLANS_A_PAIR:
            other_depth, other = data.draw(self.machine_run.plans)
            plan = f"{plan};{other}" if other_depth == depth else plan
        armed_depth: Depth = "statement" if depth == "statement" else "vfs"
        self._do(Arm(plan, armed_depth), self._call(data, alone=self.taped))

    @precondition(lambda self: self.executor.armed)
    @rule()
    @_unless_ended
    def clear(self) -> None:
        """Disarm."""
        self.machine_run.rules["clear"] += 1
        self._do(Clear())

    @rule(crash=strategies.booleans())
    @_unless_ended
    def restart(self, crash: bool) -> None:
        """End the process, one way or the other, and start again."""
        self.machine_run.rules["crash" if crash else "restart"] += 1
        self._do(Restart(crash))

    @precondition(lambda self: not self.taped and not self.executor.armed and self.machine_run.has_locks)
    @rule(data=strategies.data())
    @_unless_ended
    def contend(self, data: strategies.DataObject) -> None:
        """Let a rival contend with one call."""
        self.machine_run.rules["contend"] += 1
        self._do(data.draw(self.machine_run.rivals), self._call(data, alone=True), Clear())

    @precondition(lambda self: not self.taped and not self.executor.armed and self.machine_run.callers)
    @rule(data=strategies.data(), switch=strategies.integers(1, _LAST_SWITCH))
    @_unless_ended
    def meet(self, data: strategies.DataObject, switch: int) -> None:
        """Let another caller make a call while the first one is stopped at one of its switch points."""
        machine_run = self.machine_run
        machine_run.rules["meet"] += 1
        left_out = machine_run.by_others | machine_run.by_one_caller
        first, second = (self._action(data, left_out) for _ in range(2))
        callers = data.draw(strategies.sampled_from(machine_run.callers))
        self._do(Interleave(first, second, switch, callers=callers))

    @precondition(lambda self: not self.executor.armed and self.machine_run.has_limits)
    @rule(data=strategies.data())
    @_unless_ended
    def limit(self, data: strategies.DataObject) -> None:
        """Apply a limit to one call."""
        self.machine_run.rules["limit"] += 1
        self._do(data.draw(self.machine_run.limits), self._call(data, alone=True), Clear())

    @precondition(lambda self: self.taped)
    @rule(data=strategies.data())
    @_unless_ended
    def stop(self, data: strategies.DataObject) -> None:
        """Cut the power, or let the process die, at an operation since the last call began, and start again."""
        recording = self.executor.recording
        if recording is None or not _is_faithful(recording):
            self.machine_run.totals["off_tape"] += 1
            return
        power = self.machine_run.cuts_power and data.draw(strategies.booleans())
        self.machine_run.rules["cut power" if power else "die"] += 1
        begin, end = recording.history.spans[-1].begin, len(recording.tape)
        position = data.draw(strategies.integers(begin, end))
        device = faults.Device()
        crash = faults.Crash(position, power=False)
        if power:
            states = recording.states(device)
            crash = data.draw(strategies.sampled_from(list(states.crashes(position))))
        self._do(CrashAt.of(crash, device))

    def teardown(self) -> None:
        """Check that the store still works, then release it."""
        executor, machine_run = self._executor, self.machine_run
        with self._same_randomness:
            if executor is None:
                return
            try:
                self._end(executor)
            finally:
                machine_run.totals.update(executor.counts)
                machine_run.answers.update(executor.answers)
                machine_run.totals["scenarios"] += 1

    def _end(self, executor: Executor) -> None:
        failed = len(self.machine_run.failed)
        try:
            with executor:
                if self.broken:
                    return
                try:
                    executor.end()
                    executor.close()
                except Violation as violation:
                    self._fail(violation)
        except Violation:
            # What stays open after a scenario that has failed, also in a minor way, is no second failure.
            if not self.broken or len(self.machine_run.failed) > failed:
                raise


def _is_faithful(recording: Recording) -> bool:
    """Whether the tape has every change of the files."""
    try:
        recording.require_faithful()
    except TargetError:
        return False
    return True


def shape_of(view: View) -> str:
    """A state without names and times: how many items of each kind in each status, or "many"."""
    many = 3
    kinds = Counter(
        f"{key.partition('/')[0]}:{row.get('status', '') if isinstance(row, Mapping) else ''}"
        for key, row in view.items()
    )
    return " ".join(f"{kind}x{min(number, many)}" for kind, number in sorted(kinds.items()))
