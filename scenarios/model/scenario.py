"""A scenario: the steps that lead to a finding, as data that a person can read and a file can carry.

Sweeps, machines and replay files all use scenarios; `scenarios.execution.executor` plays them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from tornpage import faults
from tornpage.scenarios.model.target import Action, Configuration

Depth = Literal["vfs", "statement"]
_OF_DEVICE: Final = tuple(one.name for one in dataclasses.fields(faults.Device))
LimitKind = Literal["allocation", "heap", "pages", "steps", "awaits"]
LIMIT_EFFECTS: Final[Mapping[LimitKind, str]] = {
    "allocation": "NOMEM",
    "heap": "NOMEM",
    "pages": "FULL",
    "steps": "INTERRUPT",
    "awaits": "CANCELLED",
}
"""What a call meets at each kind of limit."""
# The kinds of two callers of one store, in the order in which they are tried.
Callers = Literal["processes", "threads", "shared"]
CALLERS: Final[tuple[Callers, ...]] = ("processes", "threads", "shared")


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Make one call.

    `at` is the step of the clock at which the call is made, by default its place in the scenario. With `ends`, every
    fault and condition ends when the call has returned, before the checks read anything.
    """

    action: Action
    at: int | msgspec.UnsetType = msgspec.UNSET
    ends: bool | msgspec.UnsetType = msgspec.UNSET

    def __str__(self) -> str:
        return f"{self.action}{_how(self)}"


class Arm(msgspec.Struct, frozen=True, tag="arm"):
    """Arm a fault plan, in its text form; it replaces the plan armed at that depth."""

    plan: str
    depth: Depth = "vfs"

    @property
    def slot(self) -> str:
        """A condition replaces the one in force in the same slot."""
        return self.depth

    def __str__(self) -> str:
        return f"arm {self.plan}" + (" at the statement depth" if self.depth == "statement" else "")


class Clear(msgspec.Struct, frozen=True, tag="clear"):
    """Disarm everything."""

    def __str__(self) -> str:
        return "clear"


class Restart(msgspec.Struct, frozen=True, tag="restart"):
    """End the process and start again: cleanly, or by a crash that leaves what reached the system.

    `at` and `ends` as in `Call`; faults and conditions end when the store has been closed, or, if it was not open or
    crashes, when it has been opened.
    """

    crash: bool = False
    at: int | msgspec.UnsetType = msgspec.UNSET
    ends: bool | msgspec.UnsetType = msgspec.UNSET

    def __str__(self) -> str:
        return ("crash and restart" if self.crash else "restart") + _how(self)


def _how(step: "Call | Restart | CrashAt") -> str:
    """The time of a step, and what it ends, where they are not the defaults."""
    when = "" if step.at is msgspec.UNSET else f", at minute {step.at}"
    return when + (", which ends what is armed" if step.ends is True else "")


class Soak(msgspec.Struct, frozen=True, tag="soak"):
    """Repeat the small change until the write-ahead log restarts, or is seen not to."""

    def __str__(self) -> str:
        return "the small change again and again, until the log restarts"


class OtherWriter(msgspec.Struct, frozen=True, tag="other-writer"):
    """Let another connection begin to write, with no call at work; `is_last`: also where a transaction is open."""

    is_last: bool = False

    def __str__(self) -> str:
        return "another connection begins to write"


class UsualUmask(msgspec.Struct, frozen=True, tag="usual-umask"):
    """Open a new store where the umask lets others read new files, and make the small change."""

    def __str__(self) -> str:
        return "a new store, where the umask is 022, and the small change"


class WithTheLogWrittenBack(msgspec.Struct, frozen=True, tag="written-back"):
    """Make the small change and a call on two copies of the files, on one with the log written back between them."""

    action: Action

    def __str__(self) -> str:
        return (
            f"the small change and {self.action} on two copies of the files, on one with the log written back between"
        )


class Limit(msgspec.Struct, frozen=True, tag="limit"):
    """Apply a limit to the target.

    `at` is, by kind: "allocation", which allocation of SQLite fails; "heap", how many more bytes SQLite may take;
    "pages", how many more pages the database may have; "steps", which step of the virtual machine is interrupted. With
    `sticky` every allocation, or every statement, from there on.
    """

    kind: LimitKind
    at: Annotated[int, msgspec.Meta(ge=0)]
    sticky: bool = False

    @property
    def slot(self) -> str:
        """One limit at a time."""
        return "limit"

    def __str__(self) -> str:
        on = " and all after it" if self.sticky else ""
        return {
            "allocation": f"allocation {self.at}{on} fails with no memory",
            "heap": f"SQLite may take {self.at:,} more bytes",
            "pages": f"the database may grow by {self.at} pages",
            "steps": f"step {self.at} of SQLite's virtual machine{on} is interrupted",
            "awaits": f"the call is cancelled at its await {self.at}",
        }[self.kind]


class ClockJump(msgspec.Struct, frozen=True, tag="clock"):
    """Set the clock forward or back; it runs on from there."""

    by_ms: int

    def __str__(self) -> str:
        return f"the clock jumps {'back' if self.by_ms < 0 else 'forward'} by {abs(self.by_ms):,} ms"


class ClockPace(msgspec.Struct, frozen=True, tag="pace"):
    """Let the clock move by another length from one step to the next, from here on."""

    step_ms: Annotated[int, msgspec.Meta(ge=0)]

    def __str__(self) -> str:
        return f"from here on the clock moves by {self.step_ms:,} ms with each step"


class Rival(msgspec.Struct, frozen=True, tag="rival"):
    """Make a rival take a lock just before the nth lock operation; `kind` is one of `faults.RIVAL_KINDS`.

    `operation` is "lock" or "shmlock", `place` "connection" or "process". For a target that is a program of its own,
    `operation` is "call": the rival takes the lock when the call begins. It releases the lock when the store has waited
    `held_ms` (virtual time; real time for a program), or else when it is cleared.
    """

    kind: str
    operation: str
    ordinal: int
    place: str = "connection"
    held_ms: int | None = None

    @property
    def slot(self) -> str:
        """There is one rival at a time."""
        return "rival"

    def __str__(self) -> str:
        where = "process" if self.place == "process" else "connection"
        until = "" if self.held_ms is None else f", for {self.held_ms} ms"
        begin = "the beginning of the call" if self.operation == "call" else f"{self.operation}@{self.ordinal}"
        return f"{self.kind} in another {where} from {begin} on{until}"


class Syscall(msgspec.Struct, frozen=True, tag="syscall"):
    """Let a system call of the program fail, or kill it there: the text form of a `faults.strace.SyscallFault`."""

    fault: str

    @property
    def slot(self) -> str:
        """One at a time: a process can have one strace only."""
        return "syscall"

    def __str__(self) -> str:
        return f"arm {self.fault} in the system calls"


Conditional = Arm | Limit | Rival | Syscall


class CrashAt(msgspec.Struct, frozen=True, tag="crash_at"):
    """Stop at one operation, build a disk state that such a crash may leave, and start again from it.

    `after` counts the operations since the last crash, or since the beginning. `at` and `ends` are as in `Restart`; the
    other fields are those of `faults.Crash` and `faults.Device`.
    """

    after: int
    lost: tuple[int, ...] = ()
    torn: tuple[int, int] | None = None
    power: bool = True
    sector_bytes: int = 512
    powersafe_overwrite: bool = True
    atomic_write_bytes: int = 0
    at: int | msgspec.UnsetType = msgspec.UNSET
    ends: bool | msgspec.UnsetType = msgspec.UNSET
    holes: tuple[tuple[int, int, int], ...] = ()
    page_bytes: int = 4096
    sized_first: bool = True
    failed_sync: Literal["keeps", "drops"] = "keeps"

    @classmethod
    def of(cls, crash: faults.Crash, device: faults.Device) -> "CrashAt":
        """The step that repeats a crash on a device."""
        return cls(
            after=crash.position,
            lost=crash.lost,
            torn=crash.torn,
            power=crash.power,
            holes=crash.holes,
            **{name: getattr(device, name) for name in _OF_DEVICE},
        )

    @property
    def crash(self) -> faults.Crash:
        """The crash."""
        return faults.Crash(self.after, self.lost, self.torn, self.power, self.holes)

    @property
    def device(self) -> faults.Device:
        """The device that it happens on."""
        return faults.Device(**{name: getattr(self, name) for name in _OF_DEVICE})

    def __str__(self) -> str:
        return f"{self.crash}; start again{_how(self)}"


class Damage(msgspec.Struct, frozen=True, tag="damage"):
    """End the process, and make the disk return something else than was written; the damage is undone afterwards.

    `way` is "unreadable" (reads of the database fail from read `at` on), "bad-page" (every read of the page at byte
    `at` of one of SQLite's files fails), "flipped" (the bit `at` of the file) or "old" (the page at byte `at` is as it
    was before the last call).
    """

    way: Literal["unreadable", "bad-page", "flipped", "old"]
    file: str
    at: Annotated[int, msgspec.Meta(ge=0)]

    def __str__(self) -> str:
        return {
            "unreadable": f"{self.file} can't be read from read {self.at} of its opening on",
            "bad-page": f"the page at byte {self.at} of {self.file} can't be read",
            "flipped": f"bit {self.at % 8} of byte {self.at // 8} of {self.file} is flipped",
            "old": f"the page at byte {self.at} of {self.file} is as it was before the last call",
        }[self.way]


class Interleave(msgspec.Struct, frozen=True, tag="interleave"):
    """Let two callers, A and B, make a call each, and switch between them.

    A runs up to its switch point `switch` (0: to its end; negative: to the return of that call), B up to its own `back`
    (0: to its end), then A continues, then B. `callers` is "processes", "threads" or "shared"; the last is one session
    that both call. `earlier` is a call that A has made before, when B was open already. `killed`: the process of B is
    killed at its point `back`. A call ``open()`` is the opening of the caller's store. `fresh`: there are no files yet.
    """

    first: Action
    second: Action
    switch: int = 0
    back: Annotated[int, msgspec.Meta(ge=0)] = 0
    callers: Callers = "processes"
    earlier: Action | None = None
    killed: bool = False
    fresh: bool = False

    @property
    def actions(self) -> tuple[Action, ...]:
        """All its calls."""
        return (self.first, self.second) if self.earlier is None else (self.earlier, self.first, self.second)

    @property
    def how(self) -> str:
        """What is done to its callers."""
        if self.killed:
            return "killed"
        return "twice" if self.back else "once" if self.switch else "never"

    @property
    def names(self) -> str:
        """The names of both calls, sorted."""
        return " and ".join(sorted((self.first.name, self.second.name)))

    def __str__(self) -> str:
        where = {"processes": "two processes", "threads": "two threads", "shared": "two callers of one store"}
        hops = [] if self.earlier is None else [f"[A] {self.earlier}"]
        hops += [f"[A] {self.first} {_up_to(self.switch)}", f"[B] {self.second} {_up_to(self.back)}"]
        hops += ["[B] is killed"] if self.killed else []
        hops += ["[A] continues"] if self.switch else []
        hops += ["[B] continues"] if self.back and not self.killed else []
        place = "in an empty directory: " if self.fresh else ""
        return f"{place}{', '.join(hops)} ({where[self.callers]})"


def _up_to(point: int) -> str:
    if point < 0:
        return f"up to the return of switch point {-point}"
    return f"up to switch point {point}" if point else "to its end"


# Checks without a fault, of a store that does nothing else.
IdleCheck = Soak | OtherWriter | UsualUmask | WithTheLogWrittenBack
Step = (
    Call
    | Arm
    | Clear
    | Restart
    | CrashAt
    | Damage
    | Limit
    | ClockJump
    | ClockPace
    | Rival
    | Syscall
    | Interleave
    | IdleCheck
)


def plainly(step: Step) -> str:
    """A step in words, without its time, its switch points or the operation after which it comes."""
    if isinstance(step, Interleave):
        return step.names
    if isinstance(step, CrashAt):
        return "the start after a crash"
    return str(step.action) if isinstance(step, Call) else str(step).partition(", at minute")[0].partition(", which")[0]


class Scenario(msgspec.Struct, frozen=True):
    """A test case: the target by name, its configuration, and the steps."""

    target: str
    configuration: Configuration
    steps: tuple[Step, ...]

    @property
    def faults(self) -> int:
        """How many fault plans the scenario arms."""
        return sum(isinstance(step, Arm) for step in self.steps)

    def __str__(self) -> str:
        lines = [f"{self.target} at {self.configuration}"]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, start=1)]
        if not self.steps:
            lines.append("  (no step: opening the store, and the beat with which every scenario ends, show it)")
        return "\n".join(lines)
