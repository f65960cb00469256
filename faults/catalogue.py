"""The catalogue of possible faults: those that some real system produces beneath SQLite, each with its reason.

A finding that rests on an impossible fault is a false alarm, so arming refuses a fault that is not listed here, and
lists the possible ones. The table follows SQLite's unix VFS (``os_unix.c``), the network and stacked file systems that
SQLite runs on, and measurements (``docs/sqlite-under-faults.md``). Deliberately absent, because SQLite may rely on
their absence:

- a *short read* of an existing page (the page cache would keep zeros),
- a lock or shared-memory lock whose *release* fails and leaves it held (all users would be blocked for ever),
- an error after a lock was taken (it would never be released),
- a database that is *opened* read-only (READONLY, and READONLY_ROLLBACK, _RECOVERY, _CANTINIT, _CANTLOCK, which follow
  from it): the connection stays read-only for its lifetime, and no store could continue with it. The statement depth
  has READONLY and READONLY_DBMOVED for one statement.

For plain files the table follows the manual pages of the system calls, and Python's handling of them (PEP 475): Python
itself repeats a call that a signal interrupts, so EINTR is reported only by calls that it does not repeat. Absent: an
error of ``close`` that leaves the descriptor open (Linux always closes it), and a short write of no bytes.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tornpage.faults.errors import ImpossibleFaultError
from tornpage.faults.plan import (
    FILE_EFFECTS,
    FILE_KINDS,
    KILL,
    RESULT_CODES,
    ROLES,
    STATEMENT_KINDS,
    VFS_KINDS,
    Fault,
    FaultPlan,
)


@dataclass(frozen=True, slots=True)
class Possibility:
    """One line of the catalogue: these operations can end like this, for this reason."""

    kind: str
    roles: tuple[str, ...]
    timing: str
    effects: tuple[str, ...]
    reason: str


_FILES = ("db", "wal", "journal", "super", "temp")
_LASTING = ("db", "wal", "journal", "super")
_NO_ROLE = ("any",)
# Plain files may have any name: the catalogue ignores their role.
_ANY_FILE = ("any",)

POSSIBILITIES: Final = (
    Possibility("open", _FILES, "before", ("CANTOPEN",), "no permission, or no descriptor left (EACCES, EMFILE)"),
    Possibility("open", ("db",), "before", ("CANTOPEN_FULLPATH",), "a directory on its path is gone or closed off, so that the path can't be made absolute"),
    Possibility("open", ("db",), "before", ("CANTOPEN_ISDIR",), "a directory has taken its name; the VFS of Windows says it like this"),
    Possibility("open", ("temp",), "before", ("IOERR_GETTEMPPATH",), "no directory for temporary files can be written"),
    Possibility("open", ("wal", "journal", "super"), "before", ("READONLY_DIRECTORY",), "the directory became read-only"),
    Possibility("read", _FILES, "before", ("IOERR_READ",), "EIO: the device or the network did not answer"),
    Possibility("read", ("db", "wal", "journal"), "before", ("IOERR_CORRUPTFS",), "the file system reports damage of its own"),
    Possibility("write", _FILES, "before", ("FULL", "IOERR_WRITE"), "ENOSPC or EDQUOT; EIO"),
    Possibility("write", _FILES, "half", ("FULL", "IOERR_WRITE"), "the space or the device ended in the middle of a write"),
    Possibility("write", _FILES, "after", ("IOERR_WRITE",), "a network file system did the write and lost the answer"),
    Possibility("truncate", ("db", "wal", "journal", "temp"), "before", ("IOERR_TRUNCATE",), "EIO from ftruncate"),
    Possibility("truncate", ("db", "wal", "journal", "temp"), "after", ("IOERR_TRUNCATE",), "done, and the answer was lost"),
    Possibility("sync", _LASTING, "before", ("IOERR_FSYNC",), "the device refused to flush; nothing is known to be durable"),
    Possibility("sync", _LASTING, "after", ("IOERR_FSYNC",), "flushed, and an older write-back error was reported with it"),
    Possibility("delete", ("wal", "journal", "super"), "before", ("IOERR_DELETE",), "EACCES, EPERM or EIO from unlink"),
    Possibility("delete", ("wal", "journal", "super"), "after", ("IOERR_DELETE",), "unlinked, and the answer was lost"),
    Possibility("delete", ("wal", "journal", "super"), "after", ("IOERR_DIR_FSYNC",), "unlinked, and the directory could not be synced"),
    Possibility("access", ("wal", "journal", "super"), "before", ("IOERR_ACCESS",), "EIO from stat; a VFS other than unix's reports it"),
    Possibility("lock", ("db",), "before", ("BUSY", "PERM", "IOERR_LOCK"), "another process holds it; EPERM; the lock daemon is gone"),
    Possibility("unlock", ("db",), "after", ("IOERR_UNLOCK",), "released, and the lock daemon lost the answer"),
    Possibility("shmmap", ("db",), "before", ("IOERR_SHMMAP", "IOERR_SHMSIZE", "IOERR_SHMOPEN", "CANTOPEN"), "the shared-memory file can't be made, grown or mapped"),
    Possibility("shmlock", ("db",), "before", ("BUSY", "IOERR_SHMLOCK"), "another process holds it; the lock daemon is gone"),
    Possibility("shmlock", ("db",), "after", ("IOERR_SHMLOCK",), "released, and the lock daemon lost the answer"),
    Possibility("any", ("any", *_FILES), "before", ("IOERR",), "a VFS that reports no details"),
    Possibility("any", ("any", *_FILES), "after", ("IOERR",), "a VFS that reports no details"),
    Possibility("begin", _NO_ROLE, "before", ("BUSY", "LOCKED", "PROTOCOL", "CANTOPEN", "IOERR", "IOERR_READ", "IOERR_LOCK", "IOERR_SHMLOCK", "NOMEM"), "the locks and the first read"),
    Possibility("statement", _NO_ROLE, "before", ("BUSY", "BUSY_SNAPSHOT", "LOCKED", "FULL", "IOERR", "IOERR_READ", "IOERR_WRITE", "CORRUPT", "CANTOPEN", "NOMEM", "INTERRUPT"), "reads, spills to disk, a limit; BUSY where it takes the transaction's first lock or that for writing, BUSY_SNAPSHOT where it writes in a WAL after it has read"),
    Possibility("begin", _NO_ROLE, "before", ("READONLY", "CANTOPEN_FULLPATH"), "the file was made read-only, or query_only is on; its directory is gone"),
    Possibility("statement", _NO_ROLE, "before", ("READONLY", "READONLY_DBMOVED", "READONLY_DIRECTORY"), "the file or its directory was made read-only, or query_only is on; the file was moved or deleted beneath the connection (asked before a journal is made)"),
    Possibility("commit", _NO_ROLE, "before", ("BUSY", "FULL", "IOERR", "IOERR_WRITE", "IOERR_FSYNC", "IOERR_TRUNCATE", "IOERR_DELETE", "NOMEM"), "everything up to the commit mark; BUSY only where COMMIT takes a lock: rollback-journal modes, and one statement by itself"),
    Possibility("commit", _NO_ROLE, "after", ("IOERR", "IOERR_WRITE", "IOERR_FSYNC", "IOERR_TRUNCATE", "IOERR_DELETE", "IOERR_DIR_FSYNC", "IOERR_UNLOCK"), "rollback-journal modes only: the journal was ended, then an error"),
    Possibility("rollback", _NO_ROLE, "before", ("NOMEM",), "ROLLBACK never raises for an I/O fault; only preparing it can fail"),
    Possibility("file-open", _ANY_FILE, "before", ("EACCES", "EMFILE", "EIO"), "permissions that were changed; no descriptor left; the device did not answer"),
    Possibility("file-create", _ANY_FILE, "before", ("ENOSPC", "EDQUOT", "EACCES", "EMFILE", "EIO"), "no room, or no inode, for one more file; a quota; a read-only or closed directory; no descriptor left"),
    Possibility("file-write", _ANY_FILE, "before", ("ENOSPC", "EDQUOT", "EIO"), "the disk is full; a quota; the device did not answer"),
    Possibility("file-write", _ANY_FILE, "half", ("ENOSPC",), "the disk was full in the middle: the call says how much it wrote, and the next one fails"),
    Possibility("file-write", _ANY_FILE, "half", ("SHORT",), "a signal on an interruptible mount, or room that was made in between: the call says how much it wrote"),
    Possibility("file-write", _ANY_FILE, "after", ("EIO",), "a network file system did the write and lost the answer"),
    Possibility("file-truncate", _ANY_FILE, "before", ("ENOSPC", "EIO"), "posix_fallocate finds no room; a copy-on-write file system needs some even to cut; EIO"),
    Possibility("file-truncate", _ANY_FILE, "after", ("EIO",), "done, and the answer was lost"),
    Possibility("file-fsync", _ANY_FILE, "before", ("EIO", "ENOSPC", "EDQUOT"), "write-back failed: the device, or no room where space is given out late (NFS, XFS, thin volumes)"),
    Possibility("file-fsync", _ANY_FILE, "after", ("EIO",), "flushed, and an older write-back error was reported with it"),
    Possibility("file-close", _ANY_FILE, "after", ("EIO", "ENOSPC", "EDQUOT"), "NFS and FUSE write back when a file is closed; the descriptor is gone all the same"),
    Possibility("file-close", _ANY_FILE, "after", ("EINTR",), "a signal came; the descriptor is gone, and Python does not close twice"),
    Possibility("file-rename", _ANY_FILE, "before", ("ENOSPC", "EACCES", "EIO"), "the directory needs one more block; permissions that were changed; EIO"),
    Possibility("file-rename", _ANY_FILE, "before", ("EINTR",), "a signal on an interruptible mount; Python does not try again"),
    Possibility("file-rename", _ANY_FILE, "after", ("EIO",), "renamed, and the answer was lost"),
    Possibility("file-link", _ANY_FILE, "before", ("ENOSPC", "EACCES", "EIO"), "the directory needs one more block; permissions that were changed; EIO"),
    Possibility("file-unlink", _ANY_FILE, "before", ("EACCES", "EIO"), "permissions that were changed; EIO"),
    Possibility("file-unlink", _ANY_FILE, "before", ("EINTR",), "a signal on an interruptible mount; Python does not try again"),
    Possibility("file-unlink", _ANY_FILE, "after", ("EIO",), "unlinked, and the answer was lost"),
    Possibility("file-mkdir", _ANY_FILE, "before", ("ENOSPC", "EDQUOT", "EACCES", "EIO"), "no room, or no inode, for one more directory; permissions; EIO"),
    Possibility("file-rmdir", _ANY_FILE, "before", ("EACCES", "EIO"), "permissions that were changed; EIO"),
)  # fmt: skip

_KILL_TIMINGS: Final = dict.fromkeys(("write", "file-write"), ("before", "half", "after"))
_KILL_REASON: Final = "SIGKILL, the out-of-memory killer, a container that is stopped"


def possibilities() -> Iterator[Possibility]:
    """Every line of the catalogue, including KILL."""
    yield from POSSIBILITIES
    for kind in (*VFS_KINDS, *FILE_KINDS, *STATEMENT_KINDS, "any"):
        roles = _NO_ROLE if kind in STATEMENT_KINDS or kind in FILE_KINDS else ROLES
        for timing in _KILL_TIMINGS.get(kind, ("before", "after")):
            yield Possibility(kind, roles, timing, (KILL,), _KILL_REASON)


def effects_of(kind: str, role: str) -> Iterator[tuple[str, str]]:
    """The possible (timing, effect) pairs, other than KILL, of an operation of this kind on this role."""
    for line in POSSIBILITIES:
        if line.kind == kind and (role in line.roles or role == "any" or kind in FILE_KINDS):
            for effect in line.effects:
                yield line.timing, effect


@functools.cache
def _lines_of(kind: str) -> tuple[Possibility, ...]:
    """The lines of one kind; cached, because every arming needs them."""
    return tuple(line for line in possibilities() if line.kind == kind)


def _matching(fault: Fault) -> list[Possibility]:
    """The lines with the fault's kind, and its role unless that is "any"."""
    any_role = fault.role == "any" or fault.kind in FILE_KINDS
    return [line for line in _lines_of(fault.kind) if any_role or fault.role in line.roles]


def require_possible(plan: FaultPlan) -> None:
    """Raise `ImpossibleFaultError` for the first fault that no real system produces, with the possible ones."""
    for fault in plan.faults:
        lines = _matching(fault)
        if any(fault.timing == line.timing and fault.effect in line.effects for line in lines):
            continue
        choices = sorted({f"/{line.timing}={effect}" for line in lines for effect in line.effects})
        where = fault.kind if fault.role == "any" else f"{fault.kind}:{fault.role}"
        hint = f"possible for {where}: {', '.join(choices)}" if choices else _no_such_role(fault)
        raise ImpossibleFaultError(f"{fault} can't happen on a real system; {hint}")


def require_reachable(plan: FaultPlan, kinds: tuple[str, ...], depth: str) -> None:
    """Raise `ImpossibleFaultError` for a plan of which no fault can fire at this depth."""
    if not any(fault.kind in (*kinds, "any") for fault in plan.faults):
        raise ImpossibleFaultError(f"{plan} can't fire at the {depth} depth, which knows: {', '.join(kinds)}, any")


def _no_such_role(fault: Fault) -> str:
    roles = sorted({role for line in POSSIBILITIES if line.kind == fault.kind for role in line.roles})
    return f"{fault.kind} happens on: {', '.join(roles)}"


def reason_for(fault: Fault) -> str:
    """Why a real system can produce this fault; raises `ImpossibleFaultError` if none can."""
    require_possible(FaultPlan((fault,)))
    return next(
        line.reason for line in _matching(fault) if line.timing == fault.timing and fault.effect in line.effects
    )


_unknown = {effect for line in POSSIBILITIES for effect in line.effects} - {*RESULT_CODES, *FILE_EFFECTS}
if _unknown:  # pragma: no cover - a slip in the table above
    raise AssertionError(f"the catalogue names unknown results: {sorted(_unknown)}")
