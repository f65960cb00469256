"""The search ``syscalls``: a program's system calls fail, one after the other, and SIGKILL kills it in each of them.

Method. A sweep from outside: each call starts from its copy in a newly opened session, and strace is attached to the
process for that one call. A run without a fault counts the system calls on the database, the write-ahead log and the
rollback journal; then each of them fails, with every error that it can return, once and sticky, and in each the process
is killed. Opening and closing are tried like calls. SQLite maps an errno to its own error, or to none: the oracle
judges the state, and a fault without any error is counted as absorbed.

Before that, a rehearsal: the same calls, made in two directories, must lead to the same state, and must not touch each
other's files.

Not covered: faults in locks and shared memory, an error after the work was done, short writes, two faults in one call,
and power loss (``crash``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from tornpage.faults.plan import KILL, When
from tornpage.faults.strace import LARGEST_ORDINAL, SyscallFault, SyscallsUnavailableError, SystemCall, possible_effects
from tornpage.scenarios.execution.session_in_use import OPEN
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.execution.syscall_injection import SyscallInjection, intrude, unseen
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.events import Finding, Series
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Scenario, Syscall
from tornpage.scenarios.model.target import Action, Configuration, TargetError, View
from tornpage.scenarios.model.work import Need, Part
from tornpage.scenarios.search.points import Met, Point, PointSearch
from tornpage.scenarios.search.recorder import DedupKeys
from tornpage.scenarios.search.workload import Start
from tornpage.scenarios.targets.process import HungError, ProcessTarget
from tornpage.scenarios.targets.process.rehearsal import rehearse

_MOST_HANGS: Final = 10


def counts_of(calls: Iterable[SystemCall]) -> dict[tuple[str, str], int]:
    """How many calls of each kind, on each file's role, can be hit: strace counts those of each thread by themselves.

    A program that forks a process for each request makes more of them, and none of its processes reaches the sum.
    """
    counts: dict[tuple[str, str], int] = {}
    for (_, call, role), count in Counter((one.thread, one.call, one.role) for one in calls).items():
        counts[call, role] = max(counts.get((call, role), 0), count)
    return counts


class Syscalls(PointSearch):
    """Fails the system calls of a program, at up to `most_points_per_call` points of each call."""

    name = "syscalls"
    looks_when_idle = True

    @classmethod
    def sizes(cls, plan: Plan) -> dict[str, Any]:
        """How many points of a call."""
        return {
            "most_points_per_call": plan.profile.points_per_call,
            "every_operation": plan.profile.every_operation,
        }

    def search(self, part: Part) -> bool:
        """Rehearse, then try every point of the part's calls."""
        if not isinstance(self.target, ProcessTarget):
            raise TargetError(
                f"{self.target.name} runs in this process; system calls are failed in a program of its own: "
                "--target 'command:PROGRAM ARGUMENT ...', see docs/any-language.md"
            )
        if not part.first:
            rehearse(self.target, part.configuration, self.directory / "rehearsal")
        return super().search(part)

    def needs(self) -> Iterator[Need]:
        """A system call that failed, or killed."""
        yield Need("system calls hit", "no system call failed")

    # -- points ----------------------------------------------------------------------------------------------

    def starts(self, configuration: Configuration, part: Part | None = None) -> Iterator[Start]:
        """The calls, each with the system calls that it makes; raises `TargetError` if there are none."""
        starts = list(super().starts(configuration, part))
        # Opening makes some in any store; later calls may need none.
        if part is not None and not part.first and not any(start.counts for start in starts):
            raise unseen(self.target)
        yield from starts

    def points_of(self, configuration: Configuration, start: Start) -> Iterator[Point]:
        """Every error of every system call of one call, once and sticky, and a kill in each."""
        del configuration
        for (call, role), count in sorted(start.counts.items()):
            if count > LARGEST_ORDINAL:
                self.vacuous(f"{start.action} makes {count:,} calls of {call}; strace counts to {LARGEST_ORDINAL:,}")
            for effect, sticky in possible_effects(call, role):
                series = Series(call, role, "before", effect)
                for ordinal in range(1, min(count, LARGEST_ORDINAL) + 1):
                    when = When(ordinal, None if sticky else ordinal)
                    fault = Syscall(str(SyscallFault(call, role, when, effect)))
                    # A call in which the process dies has not failed.
                    yield Point(start, fault, series, None if effect == KILL else ((call, role), ordinal))

    def _start(
        self,
        configuration: Configuration,
        step: int,
        action: Action,
        files: Files,
        before: View,
        after: View,
        stages: tuple[View, ...] = (),
    ) -> Start:
        """Count the system calls of the call, in a session that was just opened."""
        home = self.directory / "count"
        place(files, home)
        with Trial(self.target, configuration, home, before) as trial:
            trial.at_step(step)
            if action != OPEN:
                trial.open()
            with intrude(trial, None) as watched:
                answer = trial.call(action, after)
            if isinstance(answer.error, SyscallsUnavailableError):
                raise answer.error
            if answer.kind == "raised":
                raise TargetError(f"{self.target.name}: {action} fails without any fault: it {answer}")
        return Start(step, action, str(action), files, before, after, counts_of(watched.calls), stages, answer.value)

    # -- one point -----------------------------------------------------------------------------------------

    def took(self, configuration: Configuration, point: Point, met: Met) -> bool:
        """Count a point; a kill is not an error, and a point that hit no call or too many is vacuous."""
        if not met.is_finding:
            self._require_hit(configuration, point, met.condition)
        self.counts["tried"] += 1
        self.counts["surfaced"] += met.surfaced
        self.counts["kills" if point.series.effect == KILL else "fired"] += met.fired
        self.seen["system calls hit"] += met.fired
        return True

    def found(self, violation: Violation, scenario: Scenario, search: str = "") -> None:
        """Record a finding; one that hangs is kept as it is."""
        if not isinstance(violation.__cause__, HungError):
            super().found(violation, scenario, search)
            return
        # Shrinking would wait for the time limit again and again.
        self.counts["hangs"] += 1
        finding = Finding.of(violation, scenario, self.name)
        if not self.recorder.repeats_one(finding):
            key = self.recorder.key_of(finding)
            self.recorder.found(finding, self.target, DedupKeys(before=(key,), joins=(key,)))

    def enough(self) -> bool:
        """Whether to stop; also if the program hangs again and again, since each hang takes the whole time limit."""
        if self.counts["hangs"] >= _MOST_HANGS:
            self.vacuous(f"the program has hung {_MOST_HANGS} times, and the search ends here")
            self.ends = True
            return True
        return super().enough()

    def _require_hit(self, configuration: Configuration, point: Point, met: SyscallInjection) -> None:
        where = f"{point.condition} in {point.start.action} at {configuration}"
        if not met.fired:
            self.vacuous(f"{where} never fired")
        elif met.fired > 1 and met.fault is not None and not met.fault.when.sticky:
            self.vacuous(f"{where} hit {met.fired} calls: several threads do the I/O, and each counts separately")
