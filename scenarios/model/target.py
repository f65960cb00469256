"""What is put under test: a target, opened in a directory as a session, driven by actions.

A *view* is the whole observable state as a flat mapping from a key (``task/…``) to a JSON-like value; two views
are equal when the states are. A target gives two of them: the session's own answer (memory and all), and a fresh
one, read from the file by somebody who never saw the session.

A target has to be deterministic: the clock is the environment's, names come with the actions. Twenty lines are
enough for a small store; see ``docs/your-own-store.md``.
"""

import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from tornpage.faults.sqlite_library import sqlite3

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
        """Read ``wal/FULL``; raises ValueError naming what is allowed."""
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
    """What a machine may do to a target, by a name such as "tasks".

    `draw` makes a Hypothesis strategy of the calls that are worth making in the state that a view shows; `actions` are
    the names of all that it draws: a long run that has had no acknowledgement of one of them has not tested it.
    `only`, where there is one, makes a strategy of the calls of one name: what was never reached is drawn more often.
    """

    draw: Callable[[View], Any]
    actions: frozenset[str] = frozenset()
    only: Callable[[View, str], Any] | None = None


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The store said no for a reason of its own (no such task, not allowed): nothing was tried."""


class TargetError(RuntimeError):
    """The target fails without any fault, so there is nothing to put under test: what it did, and where."""


class SetUpError(TargetError):
    """A target that breaks a rule of the contract of view, rows and beat; `rule` is its section in docs/contract.md."""

    def __init__(self, name: str, rule: str, what: str) -> None:
        self.rule = rule
        super().__init__(f"{name}: {what} [docs/contract.md#{rule}]")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.rule, str(self))


def _again(kind: type[SetUpError], rule: str, message: str) -> SetUpError:
    """One that comes from another process, with its whole message."""
    made = kind.__new__(kind, message)
    made.rule = rule
    made.args = (message,)
    return made


class NotJudged(TargetError):  # noqa: N818 - no failure of the target's
    """Something that looks wrong, and may be right: what would have to be known for a verdict is not."""


class Environment:
    """What the outside world is to a session: the time and the way to connect.

    `now_ms` is milliseconds since the epoch (UTC); the harness sets it before each step. `connect` has the
    signature of ``sqlite3.connect``.
    """

    def __init__(self, connect: Callable[..., sqlite3.Connection] = sqlite3.connect) -> None:
        self.now_ms = 1_700_000_000_000
        self.connect = connect
        # For a target that is a program of its own: told of the process that is about to open the store, or has just
        # closed it.
        self.before_opening: list[Callable[[Any], None]] = []
        self.after_closing: list[Callable[[Any], None]] = []

    def clock(self) -> int:
        """The present time in milliseconds."""
        return self.now_ms


def environment_of(target: "Target", connect: Callable[..., sqlite3.Connection] | None = None) -> Environment:
    """A new environment for a target; `connect` stands in for that of the binding it uses."""
    return Environment(connect or connect_of(binding_of(target)))


def binding_of(target: "Target") -> ModuleType:
    """The binding of SQLite that a target opens its connections with, as far as it says so."""
    return completed(target).binding


def connect_of(module: ModuleType) -> Callable[..., sqlite3.Connection]:
    """How a binding opens a connection; apsw has its class for that."""
    connect: Callable[..., sqlite3.Connection] = getattr(module, "connect", None) or module.Connection
    return connect


class Session(Protocol):
    """A target that is open."""

    def call(self, action: Action) -> Any:
        """Do it: return when it is acknowledged, raise `Refused` for a no, anything else for a failure.

        What is returned, JSON-like, is the call's answer, and judged like the state; return None where it has none, and
        `NOT_COMPARED` where it is another one each time.
        """

    def live_view(self) -> View:
        """The state as the running process answers it."""

    def outcome_of(self, error: Exception) -> str | None:
        """What a failure says of the change: "unchanged", "unknown", or None where the store says nothing."""

    def self_check(self) -> None:
        """Raise `Violation` for whatever only the target itself can see: indexes, observers, stuck locks."""

    def close(self) -> None:
        """Let go of everything."""


@runtime_checkable
class Target(Protocol):
    """Something to put under test, and the base of it: a subclass gets the defaults of all that is optional.

    A class without this base is a target, too, if it has the members that are required; `completed` gives it the rest.
    """

    # -- required ------------------------------------------------------------------------------------------

    # How the command line and reports call it.
    name: str
    # In a few words, what it is.
    title: str
    # What it can be set up as; the first ones are tried first.
    configurations: tuple[Configuration, ...]
    # At which depths faults reach it: "vfs", and "statement" where it connects through `Environment.connect`.
    depths: tuple[str, ...]
    # Codes of checks that it does not promise to pass, each with the reason, or with reasons by search or condition
    # (`model.unpromised`).
    unpromised: Mapping[str, Any]

    def workload(self) -> tuple[Action, ...]:
        """The calls that a sweep makes fail, in order."""

    def heartbeat(self) -> Action:
        """A small change that must work whenever nothing is wrong; its effect is one more key."""

    def database(self, directory: Path) -> Path:
        """The SQLite file."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Open the store in a directory, which may be empty or hold an earlier state."""

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The state as the file has it, read by plain SQL on a connection that the harness opened."""

    # -- optional, with what stands in its place -----------------------------------------------------------

    # Names of actions of the workload that the store says no to on purpose.
    refuses: Collection[str] = ()
    # What a restarted process calls before anything else.
    recovery: Action | None = None
    # Names of actions that commit more than once: a crash may leave them half-way, at one of their commits.
    many_commits: Collection[str] = ()
    # Names of actions that are made past the store's own connections, as another process would.
    by_others: Collection[str] = ()
    # The packages of the code under test: a finding's line is looked for there. None named: wherever the target's is.
    packages: tuple[str, ...] = ()
    # Whether a sync that failed, and dropped its pages, costs nothing that is acknowledged later.
    survives_failed_sync: bool = False
    # Which callers at once it promises to serve ("processes", "threads", "shared"), () for one only, None where it says
    # nothing: see ``docs/interleave.md``.
    callers: tuple[str, ...] | None = None
    # Names of actions whose answer only one of two callers may have, also where it is a number or a yes.
    hands_out: Collection[str] = ()
    # Names of actions that only one caller makes at a time.
    by_one_caller: Collection[str] = ()
    # The module whose connections ``Environment.connect`` opens.
    binding: ModuleType = sqlite3
    # Reads the state of a store that keeps plain files instead of a database; None: it has a database.
    files_view: Callable[[Path], View] | None = None

    # Calls that are made once each from an empty store, without any fault, and judged: the sweep begins with them.
    scripts: Collection[tuple[Action, ...]] = ()

    @property
    def machines(self) -> Mapping[str, Machine]:
        """What ``fuzz`` may draw, by name; none: one machine that draws from `actions`, where there is that method."""
        return {}

    def simpler_actions(self, action: Action) -> Iterable[Action]:
        """Plainer calls than `action` that the target's own `actions` could draw, to shrink a scenario by."""
        del action
        return ()

    def check_view(self, view: View) -> None:
        """Raise `Violation` for a state that the store's own rules forbid."""
        del view

    def check_change(self, before: View, action: Action, after: View, *, is_done: bool, now_ms: int) -> None:
        """Raise `Violation` for what a call made of a state, where the rules forbid it; `is_done`: acknowledged."""
        del before, action, after, is_done, now_ms

    def check_session(
        self, session: Session, view: View, called: "tuple[View, Action, Any] | None", *, now_ms: int, looks: bool
    ) -> None:
        """Raise `Violation` where what an open session answers is not what the state `view` on disk says.

        `called` is what was called since the last look: the state before it, the action and the oracle's `Answer`; None
        where nothing was. `looks`: nothing is armed, and the session may be asked more.
        """
        del session, view, called, now_ms, looks


_OPTIONAL: Final = (
    "binding",
    "by_one_caller",
    "by_others",
    "callers",
    "check_change",
    "check_session",
    "check_view",
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
    """The same target; where its class has another base, with the defaults of what it lacks."""
    if Target not in type(target).__mro__:
        for name in _OPTIONAL:
            if not hasattr(target, name):
                default = Target.__dict__[name]
                setattr(target, name, default.__get__(target) if hasattr(default, "__get__") else default)
    return target


def has_plain_files_only(target: Target) -> bool:
    """Whether a target says that there is no SQLite beneath it."""
    return all(one.journal_mode == "file" for one in target.configurations)


def is_specified(target: Target) -> bool:
    """Whether a target says itself what must come of each call, so that one that fails without any fault is wrong."""
    return getattr(type(target), "check_session", None) not in (None, Target.check_session)
