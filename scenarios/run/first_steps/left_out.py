"""Public methods that a first target does not call, each with the reason."""

import inspect
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tornpage.scenarios.model.target import TargetError

NEEDS_AN_OBJECT: Final = "it needs an object"
NO_EFFECT: Final = "it changed no row that another connection sees, and returned nothing to compare"
REMOVES_THE_FILE: Final = "it removes the database"
CLOSES: Final = "it closes the store's connection"
WRITES_HERE: Final = "it writes into the working directory:"
LEFT_ALONE: Final = "by its name it waits, communicates or handles connections"
_WRITES_LATER: Final = "it writes nothing before"
WRITE_BEHIND: Final = (
    "it is a write-behind store, and a call is judged by the file when it returns: name a function that returns a "
    "store whose calls write at once (a buffer of one, or each call followed by the one that writes)"
)

READS_BOTH: Final = "let view and rows read it, too: docs/your-own-store.md#a-store-in-two-databases"

# Not called: they wait, communicate, or hold a transaction open on purpose.
_LEFT_ALONE: Final = frozenset(
    "connect cursor execute executemany executescript commit rollback transaction serve main loop listen "  # noqa: SIM905
    "consume wait iterdump reopen connection".split()
)
# The same where they are told where to: to a path, or to another connection.
_ELSEWHERE: Final = frozenset({"backup", "dump"})
# The same, unless their name says of what, and they are told which: an account is closed, a run is finished.
_LEFT_ALONE_ALONE: Final = frozenset("close run watch worker sync memory disk".split())  # noqa: SIM905
# The same, unless they are told what: a cart is opened, a job is started, a room is joined.
_LEFT_ALONE_BARE: Final = frozenset("begin start stop join open lock unlock".split())  # noqa: SIM905
# The same, unless they are told what and their module can't communicate: a queue's messages are published.
_COMMUNICATES: Final = frozenset("send publish notify post upload download subscribe".split())  # noqa: SIM905
# Modules by which a program communicates.
_NETWORK: Final = frozenset(
    "socket ssl smtplib http urllib urllib3 ftplib telnetlib xmlrpc socketserver subprocess requests httpx aiohttp "  # noqa: SIM905
    "websockets websocket paramiko boto3 botocore pika redis kafka paho zmq grpc twilio slack_sdk".split()
)
# What a parameter without a type is called that takes a function: of a text that the store keeps all later calls fail.
_FUNCTIONS: Final = frozenset("callback cb func function fn handler hook listener observer subscriber".split())  # noqa: SIM905
# Methods by which a caller commits.
_ENDS: Final = ("commit", "flush", "save", "sync", "persist")


class NotLearned(TargetError):  # noqa: N818 - an answer, not an error
    """Nothing can be proposed, and why."""


class EndedError(NotLearned):
    """A call has ended the store: it works no longer. Attribute: reason, why that call isn't made."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(f"{call}: {reason}")
        self.call, self.reason = call, reason


class LockedOutError(NotLearned):
    """No other connection can read the store's database, however it is made."""


def why_left_alone(name: str, method: Any, needed: Sequence[inspect.Parameter], *, awaits: bool) -> str:
    """Why it isn't called; empty if it can be tried. `awaits`: the end of an asynchronous method is waited for."""
    if not awaits and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)):
        return "it is asynchronous"
    if inspect.isgeneratorfunction(inspect.unwrap(method)) and not inspect.isgeneratorfunction(method):
        return "it is a context manager"
    if any(one.annotation is one.empty and _FUNCTIONS & {*one.name.lower().split("_")} for one in needed):
        return NEEDS_AN_OBJECT
    words = {*name.lower().split("_")}
    says_of_what = len(words) > 1 and needed
    alone = words & _LEFT_ALONE_ALONE and not says_of_what
    bare = words & (_LEFT_ALONE_BARE | _COMMUNICATES) and not needed
    talks = words & _COMMUNICATES and _communicates(method)
    leaves = words & _LEFT_ALONE or (words & _ELSEWHERE and needed)
    return LEFT_ALONE if leaves or alone or bare or talks else ""


def _communicates(method: Any) -> bool:
    """Whether the module of a method, or one of its package or folder that it imports, imports one by which it could.

    Not covered: imports inside a function, and what a library does by itself.
    """
    own = sys.modules.get(method.__module__, sys)
    root, folder = own.__name__.partition(".")[0], Path(getattr(own, "__file__", None) or "").parent
    waiting, seen = [own], {own.__name__}
    while waiting:
        for name in _names_in(waiting.pop()) - seen:
            if name.partition(".")[0] in _NETWORK:
                return True
            seen.add(name)
            module = sys.modules.get(name)
            file = getattr(module, "__file__", None)
            if module is not None and file and (name.partition(".")[0] == root or Path(file).parent == folder):
                waiting.append(module)
    return False


def _names_in(module: ModuleType) -> set[str]:
    """The modules that a module has imported, or of whose functions and classes it has one."""
    values = vars(module).values()
    found = (one.__name__ if isinstance(one, ModuleType) else getattr(one, "__module__", None) for one in values)
    return {one for one in found if isinstance(one, str)}


def ending(store: Any) -> str:
    """The method by which a caller of the store commits; "" for none."""
    return next((one for one in _ENDS if callable(getattr(store, one, None))), "")


def is_an_ending(name: str, needed: Sequence[inspect.Parameter]) -> bool:
    """Whether such a method writes what others have left."""
    return name in _ENDS and not needed


def writes_later(end: str) -> str:
    """The reason of a call whose change is in the file only after another one."""
    return f"{_WRITES_LATER} `{end}`: let one method do both"


def nothing_added(
    tried: Sequence[str],
    left_out: Mapping[str, str],
    made: Sequence[str],
    reads: Collection[str],
    databases: Sequence[str] = (),
) -> NotLearned:
    """The calls that were tried, each with the reason why it added nothing; those of `made` changed a row, or read.

    `databases` are further ones of the store.
    """
    untried = (LEFT_ALONE, CLOSES, REMOVES_THE_FILE)
    told = [name for name, reason in left_out.items() if name in tried or reason in untried]
    did = {name: "it only reads" if name in reads else "it changed a row, and added none" for name in made}
    reasons = {**did, **{name: left_out[name] for name in told}}
    names = dict.fromkeys((*tried, *told))
    listed = ", ".join(f"{name} ({reasons[name]})" if name in reasons else name for name in names)
    return NotLearned(
        "no public method added a row that another connection sees (is it committed?); tried: "
        f"{listed or 'none that can be tried'}{not_read(databases) or _cure(reasons, is_any_tried=bool(names))}"
    )


def not_read(databases: Sequence[str]) -> str:
    """What a problem adds where a store has further databases: what it misses may be there."""
    return f"; {databases[0]} was not read: {READS_BOTH}" if databases else ""


def _cure(reasons: Mapping[str, str], *, is_any_tried: bool) -> str:
    found = reasons.values()
    if any(one.startswith(_WRITES_LATER) for one in found):
        return f"; {WRITE_BEHIND}"
    if NEEDS_AN_OBJECT in found:
        return "; for a call that needs an object, name a function that returns a store whose calls take plain values"
    if CLOSES in found:
        return "; a store makes several calls while open: name a function that returns one whose calls leave it open"
    if LEFT_ALONE in found:
        return "; to have one called all the same, name a function that returns a store with another name for it"
    if reasons:
        return "; a target needs a call that adds a row with a key of its own (its beat): write a target by hand"
    return "" if is_any_tried else "; for a store of functions name their module alone: --from MODULE"
