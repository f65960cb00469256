"""The thing under test: a target, opened in a directory as a session, driven by actions.

A *view* is the whole observable state as a flat mapping from a key (``task/…``) to a JSON-like value; two views are
equal when the states are. A target gives two of them: the session's own view, including its memory, and a fresh one,
which an independent reader takes from the file.

A target has to be deterministic: the clock is the environment's, names come with the actions. Twenty lines are enough
for a small store; see ``docs/your-own-store.md``.
"""

import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.clock import EPOCH_MS, STEP_MS

View = Mapping[str, Any]

# "file" is for a store without SQLite, which keeps plain files.
JOURNAL_MODES = ("wal", "delete", "truncate", "persist", "file")
SYNCHRONOUS_LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")


class Configuration(msgspec.Struct, frozen=True, order=True):
    """How SQLite is set up: `journal_mode` in lower case, `synchronous` in upper case."""

    journal_mode: str = "wal"
    synchronous: str = "FULL"

    def __str__(self) -> str:
        return f"{self.journal_mode}/{self.synchronous}"

    @classmethod
    def parse(cls, text: str) -> "Configuration":
        """Parse ``wal/FULL``; raises ValueError that names what is allowed."""
        journal_mode, _, synchronous = text.partition("/")
        found = cls(journal_mode.lower(), synchronous.upper() or "FULL")
        if found.journal_mode not in JOURNAL_MODES or found.synchronous not in SYNCHRONOUS_LEVELS:
            raise ValueError(
                f"unknown configuration {text!r}; write JOURNAL_MODE/SYNCHRONOUS with one of "
                f"{', '.join(JOURNAL_MODES)} and one of {', '.join(SYNCHRONOUS_LEVELS)}, such as wal/FULL"
            )
        return found


class Action(msgspec.Struct, frozen=True):
    """One call on a target: its name and its arguments, as data."""

    name: str
    args: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={reprlib.repr(value)}' for key, value in self.args.items())})"


class Machine(msgspec.Struct, frozen=True):
    """The actions that a fuzz may make on a target, under a name such as "tasks".

    `draw` returns a Hypothesis strategy of the calls that are useful in the state of a view. `actions` names every call
    that `draw` can return: a long run in which one of them was never acknowledged has not tested it. `only`, if given,
    returns a strategy of the calls of one name, to draw more often what was never reached.
    """

    draw: Callable[[View], Any]
    actions: frozenset[str] = frozenset()
    only: Callable[[View, str], Any] | None = None


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The store refused the call for a reason of its own (no such task, not allowed): nothing was tried."""


class TargetError(RuntimeError):
    """The target fails without any fault, so it can't be tested: what it did, and where."""


class LoopInUseError(TargetError):
    """A call of an asynchronous store whose event loop runs in another thread."""


class SetUpError(TargetError):
    """A target that breaks a rule of the contract of view, rows and beat; `rule` is its section in docs/contract.md."""

    def __init__(self, name: str, rule: str, what: str) -> None:
        self.rule = rule
        super().__init__(f"{name}: {what} [docs/contract.md#{rule}]")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.rule, str(self))


def _again(kind: type[SetUpError], rule: str, message: str) -> SetUpError:
    """Rebuild an error from another process, with its whole message."""
    made = kind.__new__(kind, message)
    made.rule = rule
    made.args = (message,)
    return made


class NotJudged(TargetError):  # noqa: N818 - no failure of the target's
    """A suspicious state that may be correct: there is too little information for a verdict."""


class Environment:
    """The outside world of a session: the time and the way to connect.

    `now_ms` is milliseconds since the epoch (UTC); the harness sets it before each step. `connect` has the signature of
    ``sqlite3.connect``.
    """

    def __init__(self, connect: Callable[..., sqlite3.Connection] = sqlite3.connect) -> None:
        self.now_ms = EPOCH_MS
        self.connect = connect
        # How often the last session of a deterministic target has made a call (the caller, the call) at a time.
        self.made: Counter[tuple[str, str, int]] = Counter()
        # For a target that is a program of its own: called with the process that is about to open the store, or has
        # just closed it.
        self.before_opening: list[Callable[[Any], None]] = []
        self.after_closing: list[Callable[[Any], None]] = []

    def clock(self) -> int:
        """The present time in milliseconds."""
        return self.now_ms


def environment_of(target: "Target", connect: Callable[..., sqlite3.Connection] | None = None) -> Environment:
    """A new environment for a target; `connect` replaces the one of its binding."""
    return Environment(connect or connect_of(binding_of(target)))


def binding_of(target: "Target") -> ModuleType:
    """The SQLite binding that a target declares for its connections, sqlite3 by default."""
    return completed(target).binding


def connect_of(module: ModuleType) -> Callable[..., sqlite3.Connection]:
    """How a binding opens a connection; apsw has its class for that."""
    connect: Callable[..., sqlite3.Connection] = getattr(module, "connect", None) or module.Connection
    return connect


class Session(Protocol):
    """A target that is open."""

    def call(self, action: Action) -> Any:
        """Make the call: return when it is acknowledged, raise `Refused` for a refusal, anything else for a failure.

        The return value, JSON-like, is the call's answer, and is checked like the state. Return None if the call has no
        answer, and `NOT_COMPARED` if its answer varies from call to call.
        """

    def live_view(self) -> View:
        """The state as the running process answers it."""

    def outcome_of(self, error: Exception) -> str | None:
        """The store's statement on the change after a failure: "unchanged", "unknown", or None for no statement."""

    def self_check(self) -> None:
        """Raise `Violation` for faults that only the target can detect: indexes, observers, stuck locks."""

    def close(self) -> None:
        """Release every resource."""


@runtime_checkable
class Target(Protocol):
    """The base class of a target; it has defaults for all optional members.

    A class without this base is a target, too, if it has the required members; `completed` adds the rest.
    """

    # -- required ------------------------------------------------------------------------------------------

    # How the command line and reports call it.
    name: str
    # A short description.
    title: str
    # The configurations that it supports; the first ones are tried first.
    configurations: tuple[Configuration, ...]
    # The depths at which faults reach it: "vfs", and "statement" if it connects through `Environment.connect`.
    depths: tuple[str, ...]
    # Codes of checks that it does not promise to pass, each with the reason, or with reasons by search or condition
    # (`model.judging.unpromised`).
    unpromised: Mapping[str, Any]

    def workload(self) -> tuple[Action, ...]:
        """The calls that a sweep makes fail, in order."""

    def heartbeat(self) -> Action:
        """A small change that must work whenever no fault is armed; it adds one key."""

    def database(self, directory: Path) -> Path:
        """The SQLite file."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the store in a directory, which may be empty or hold an earlier state."""

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The state as the file has it, read by plain SQL on a connection that the harness opened."""

    # -- optional, with defaults ------------------------------------------------------------------------------

    # Names of actions of the workload that the store refuses on purpose.
    refuses: Collection[str] = ()
    # The call that a restarted process makes first.
    recovery: Action | None = None
    # Names of actions that commit more than once: a crash may leave them half-way, at one of their commits.
    many_commits: Collection[str] = ()
    # Names of actions that do not use the store's own connections, as another process would.
    by_others: Collection[str] = ()
    # Whether these may write rows that break constraints of the schema, which SQLite's own check then leaves out.
    breaks_constraints: bool = False
    # The packages of the code under test, where a finding's source line is looked for. Empty: the target's own package.
    packages: tuple[str, ...] = ()
    # Whether a sync that failed, and dropped its pages, costs nothing that is acknowledged later.
    survives_failed_sync: bool = False
    # Kinds of concurrent callers that it promises to serve ("processes", "threads", "shared"); () for one caller only,
    # None for no statement: see ``docs/interleave.md``.
    callers: tuple[str, ...] | None = None
    # Names of actions whose answer only one of two callers may get, even if it is a number or a boolean.
    hands_out: Collection[str] = ()
    # Beginnings of keys that the heartbeat may add or change beside its one key, such as those of a table of totals.
    beat_touches: Collection[str] = ()
    # Names of actions that only one caller makes at a time.
    by_one_caller: Collection[str] = ()
    # How far the clock moves from one step to the next, in milliseconds.
    clock_step_ms: int = STEP_MS
    # The module whose connections ``Environment.connect`` opens.
    binding: ModuleType = sqlite3
    # Reads the state of a store that uses plain files instead of a database; None: it has a database.
    files_view: Callable[[Path], View] | None = None

    # Calls that are each made once from an empty store without any fault, and checked; the sweep begins with them.
    scripts: Collection[tuple[Action, ...]] = ()

    @property
    def machines(self) -> Mapping[str, Machine]:
        """The machines that ``fuzz`` draws from, by name; empty: one machine that draws from `actions`, if defined."""
        return {}

    def simpler_actions(self, action: Action) -> Iterable[Action]:
        """Simpler calls than `action` that the target's own `actions` could draw, to shrink a scenario."""
        del action
        return ()

    def check_view(self, view: View) -> None:
        """Raise `Violation` for a state that the store's own rules forbid."""
        del view

    def check_change(self, before: View, action: Action, after: View, *, is_done: bool, now_ms: int) -> None:
        """Raise `Violation` if the store's rules forbid this change of state by a call; `is_done`: acknowledged."""
        del before, action, after, is_done, now_ms

    def check_session(
        self, session: Session, view: View, called: "tuple[View, Action, Any] | None", *, now_ms: int, looks: bool
    ) -> None:
        """Raise `Violation` if an open session's answers differ from the state `view` on disk.

        `called` is the last call since the previous check: the state before it, the action and the oracle's `Answer`;
        None for no call. `looks`: no fault is armed, and the session may be read further.
        """
        del session, view, called, now_ms, looks


_OPTIONAL: Final = (
    "beat_touches",
    "binding",
    "breaks_constraints",
    "by_one_caller",
    "by_others",
    "callers",
    "check_change",
    "check_session",
    "check_view",
    "clock_step_ms",
    "files_view",
    "hands_out",
    "machines",
    "many_commits",
    "packages",
    "recovery",
    "refuses",
    "scripts",
    "simpler_actions",
    "survives_failed_sync",
)


def completed(target: Target) -> Target:
    """The same target; a class without the base `Target` gets the defaults of the members it lacks."""
    if Target not in type(target).__mro__:
        for name in _OPTIONAL:
            if not hasattr(target, name):
                default = Target.__dict__[name]
                setattr(target, name, default.__get__(target) if hasattr(default, "__get__") else default)
    return target


def has_plain_files_only(target: Target) -> bool:
    """Whether a target declares that it uses no SQLite."""
    return all(one.journal_mode == "file" for one in target.configurations)


def is_specified(target: Target) -> bool:
    """Whether a target specifies the outcome of each call, so that a call that fails without a fault is wrong."""
    return getattr(type(target), "check_session", None) not in (None, Target.check_session)
