"""The fault plan: text that says which operation fails, when and how; its printed form parses back.

Grammar (``plan`` is the start)::

    plan   := fault (";" fault)*
    fault  := kind [":" role] ["@" when] ["/" timing] "=" effect
    role   := one of `ROLES`; for a plain file its suffix, "other", "dir", or a pattern such as ``a[0-9]*.json``
    when   := N | N.. | N..M | *

The printed form of a plan reproduces it: ``FaultPlan.parse(str(plan)) == plan``. This module checks names only;
`faults.catalogue` says whether a real system can produce a fault.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Self

from tornpage.faults.errors import PlanError
from tornpage.faults.sqlite_library import sqlite3

VFS_KINDS: Final = (
    "open", "read", "write", "truncate", "sync", "delete", "access", "lock", "unlock", "shmmap", "shmlock",
)  # fmt: skip
FILE_KINDS: Final = (
    "file-open", "file-create", "file-write", "file-truncate", "file-fsync", "file-close", "file-rename", "file-link",
    "file-unlink", "file-mkdir", "file-rmdir",
)  # fmt: skip
STATEMENT_KINDS: Final = ("begin", "statement", "commit", "rollback")
KINDS: Final = (*VFS_KINDS, *FILE_KINDS, *STATEMENT_KINDS, "any")
ROLES: Final = ("db", "wal", "journal", "super", "temp", "any")
TIMINGS: Final = ("before", "after", "half")
KILL: Final = "KILL"
SHORT: Final = "SHORT"
# The effects on Python's own file functions: errors by errno name, and a short write.
FILE_EFFECTS: Final = ("ENOSPC", "EIO", "EDQUOT", "EMFILE", "EACCES", "EINTR", SHORT)

_PRIMARY: Final = frozenset({
    "ABORT", "AUTH", "BUSY", "CANTOPEN", "CONSTRAINT", "CORRUPT", "EMPTY", "ERROR", "FORMAT", "FULL", "INTERNAL",
    "INTERRUPT", "IOERR", "LOCKED", "MISMATCH", "MISUSE", "NOLFS", "NOMEM", "NOTADB", "NOTFOUND", "PERM", "PROTOCOL",
    "RANGE", "READONLY", "SCHEMA", "TOOBIG",
})  # fmt: skip
# Every result name that the sqlite3 module knows, without its SQLITE_ prefix: FULL, IOERR_FSYNC and so on.
# The module exports authorizer and limit constants under the same prefix; a result begins with a primary name.
RESULT_CODES: Final[dict[str, int]] = {
    name.removeprefix("SQLITE_"): code
    for name, code in sorted(vars(sqlite3).items())
    if name.startswith("SQLITE_") and name.split("_")[1] in _PRIMARY
}

# A pattern of a file's name, or a suffix; it can't contain the plan's own delimiters.
_FILE_ROLE: Final = re.compile(r"[^\s:;@/=]+")
_FILE_ROLES: Final = "a suffix (.json), a pattern of its name (*.tmp, blob-?), other (no suffix), dir, any"
_LARGEST_ORDINAL: Final = 10**9


@dataclass(frozen=True, slots=True)
class When:
    """The matches that fire: the `first` to the `last`, counted from 1; `last` None: all from `first` on (sticky)."""

    first: int = 1
    last: int | None = 1
    # "*" and "1.." mean the same; each prints as it was written.
    star: bool = field(default=False, compare=False)

    def __contains__(self, ordinal: int) -> bool:
        return self.first <= ordinal and (self.last is None or ordinal <= self.last)

    @property
    def sticky(self) -> bool:
        """Whether the fault fires at every match once it has begun."""
        return self.last is None

    def __str__(self) -> str:
        if self.star:
            return "*"
        if self.last == self.first:
            return str(self.first)
        return f"{self.first}.." if self.last is None else f"{self.first}..{self.last}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One clause of a plan: the operations it matches, when it fires, and what it does to them."""

    kind: str
    effect: str
    role: str = "any"
    when: When = When()
    timing: str = "before"

    @property
    def code(self) -> int:
        """SQLite's numeric (extended) result code; -1 for an effect that is not SQLite's, such as KILL."""
        return RESULT_CODES.get(self.effect, -1)

    def at(self, when: When) -> "Fault":
        """The same fault with another `when`."""
        return Fault(self.kind, self.effect, self.role, when, self.timing)

    def __str__(self) -> str:
        role = "" if self.role == "any" else f":{self.role}"
        timing = "" if self.timing == "before" else f"/{self.timing}"
        return f"{self.kind}{role}@{self.when}{timing}={self.effect}"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Faults that are armed together; each counts its own matches."""

    faults: tuple[Fault, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a plan; raises `PlanError` with the column and what is allowed there."""
        return cls(_Reader(text).plan())

    def __str__(self) -> str:
        return ";".join(str(fault) for fault in self.faults)


class _Reader:
    """A cursor over the text: each step takes one token or raises at its column."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def plan(self) -> tuple[Fault, ...]:
        found = [self.fault()]
        while self.take(";"):
            found.append(self.fault())
        if self.position != len(self.text):
            raise PlanError(self.text, self.position, "';' and another fault, or the end")
        return tuple(found)

    def fault(self) -> Fault:
        kind = self.name(r"[a-z]+(-[a-z]+)*", KINDS, "a kind of operation")
        role = self.role(kind) if self.take(":") else "any"
        when = self.when() if self.take("@") else When()
        timing = self.name(r"[a-z]+", TIMINGS, "a timing") if self.take("/") else "before"
        if not self.take("="):
            raise PlanError(self.text, self.position, "'=' and an effect, such as '=FULL'")
        known = FILE_EFFECTS if kind in FILE_KINDS else tuple(RESULT_CODES)
        effect = self.name(r"[A-Z][A-Z0-9_]*", (*known, KILL), "an effect")
        return Fault(kind, effect, role, when, timing)

    def role(self, kind: str) -> str:
        if kind not in FILE_KINDS:
            return self.name(r"[a-z]+", ROLES, "a role")
        match = _FILE_ROLE.match(self.text, self.position)
        if match is None:
            raise PlanError(self.text, self.position, f"a role of a plain file: {_FILE_ROLES}")
        self.position = match.end()
        return match.group()

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.position):
            self.position += len(token)
            return True
        return False

    def name(self, pattern: str, allowed: tuple[str, ...], what: str) -> str:
        match = re.compile(pattern).match(self.text, self.position)
        if match is None or match.group() not in allowed:
            choices = allowed if len(allowed) < 20 else _alike(match.group() if match else "", allowed)
            raise PlanError(self.text, self.position, f"{what}: {', '.join(choices)}")
        self.position = match.end()
        return match.group()

    def when(self) -> When:
        if self.take("*"):
            return When(1, None, star=True)
        first = self.ordinal()
        if not self.take(".."):
            return When(first, first)
        if not re.compile(r"\d").match(self.text, self.position):
            return When(first, None)
        start = self.position
        last = self.ordinal()
        if last < first:
            raise PlanError(self.text, start, f"a number from {first} on, since the range begins there")
        return When(first, last)

    def ordinal(self) -> int:
        match = re.compile(r"[0-9]{1,10}").match(self.text, self.position)
        if match is None or not 1 <= int(match.group()) <= _LARGEST_ORDINAL:
            raise PlanError(self.text, self.position, f"N, N.., N..M or *, with N from 1 to {_LARGEST_ORDINAL}")
        self.position = match.end()
        return int(match.group())


def _alike(given: str, allowed: tuple[str, ...]) -> list[str]:
    """The names with the same primary name as the given one, else all primary names."""
    stem = given.split("_", maxsplit=1)[0]
    return [name for name in allowed if stem and name.startswith(stem)] or [name for name in allowed if "_" not in name]
