"""Faults from outside the process, for any language: failing system calls, and SIGKILL in one, by strace (Linux).

A fault names a system call, a file and an ordinal: ``pwrite64:wal@3=ENOSPC`` is the third `pwrite64` on the
write-ahead log, counted from the moment when strace attaches. So strace is attached around one call of the program, and
a run without a fault (`attach` without one) counts the calls that can fail. With an errno the system call is not made;
``KILL`` ends the process as it enters the call.

strace counts per thread and per system call: one fault hits one call in each thread that makes it, so check
`Attachment.fired`. No faults on the shared-memory file, on locks (a real rival is the better test), no short writes,
and no error after the work was done, which strace can't produce. A ``-wal`` that doesn't exist yet is watched from its
creation on.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tornpage.faults.child_processes import belongs_to_the_harness
from tornpage.faults.errors import FaultError, ImpossibleFaultError
from tornpage.faults.plan import KILL, When

ROLES: Final = ("db", "wal", "journal")
_SUFFIXES: Final = {"db": "", "wal": "-wal", "journal": "-journal"}
_ATTACHES_WITHIN_S: Final = 10.0
_DIES_WITHIN_S: Final = 5.0
_LOOKS_EVERY_S: Final = 0.001
# strace refuses a larger one.
LARGEST_ORDINAL: Final = 65_535


@dataclass(frozen=True, slots=True)
class _Family:
    """System calls with the same function, the files and errors to inject, and the reason for these errors.

    `lasting`: inject the error only from one call on, never once. After one failed open SQLite opens the file
    read-only, and such a connection can never write again: that is SQLite's behaviour, not a defect of the store.
    """

    calls: tuple[str, ...]
    roles: tuple[str, ...]
    errors: tuple[str, ...]
    reason: str
    lasting: bool = False


_FAMILIES: Final = (
    _Family(("pread64", "read", "preadv"), ROLES, ("EIO",), "the device or the network did not answer"),
    _Family(
        ("pwrite64", "write", "pwritev", "writev"),
        ROLES,
        ("ENOSPC", "EDQUOT", "EIO"),
        "the disk is full, the quota is used up, the device failed",
    ),
    _Family(
        ("fsync", "fdatasync"),
        ROLES,
        ("EIO", "ENOSPC"),
        "written back too late: the device failed, or had no room after all",
    ),
    _Family(("ftruncate",), ROLES, ("EIO",), "the device failed"),
    _Family(("unlink", "unlinkat"), ("wal", "journal"), ("EACCES", "EIO", "EROFS"), "no permission; remounted; failed"),
    _Family(("openat", "open"), ROLES, ("EACCES", "EMFILE"), "no permission, or no descriptor left", lasting=True),
)
CALLS: Final = tuple(call for family in _FAMILIES for call in family.calls)
_BY_CALL: Final = {call: family for family in _FAMILIES for call in family.calls}

_FAULT: Final = re.compile(r"(?P<call>\w+):(?P<role>\w+)@(?P<first>[0-9]{1,5})(?P<on>\.\.)?=(?P<effect>[A-Z]+)")
_LINE: Final = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\(")


class SyscallsUnavailableError(FaultError, RuntimeError):
    """Faults in system calls are not available, with the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the syscall depth is not available: {reason}")


@dataclass(frozen=True, slots=True)
class SyscallFault:
    """One failing system call on one file; `when` is one ordinal, or all from one on."""

    call: str
    role: str
    when: When
    effect: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``pwrite64:wal@3=ENOSPC`` or ``pwrite64:wal@3..=ENOSPC``; raises `ImpossibleFaultError`."""
        match = _FAULT.fullmatch(text)
        if match is None or not 1 <= int(match["first"]) <= LARGEST_ORDINAL:
            raise ImpossibleFaultError(
                f"cannot read the fault {text!r}: write CALL:ROLE@N=EFFECT or CALL:ROLE@N..=EFFECT, such as "
                f"pwrite64:wal@3=ENOSPC, with N from 1 to {LARGEST_ORDINAL}"
            )
        first = int(match["first"])
        fault = cls(match["call"], match["role"], When(first, None if match["on"] else first), match["effect"])
        fault.require_possible()
        return fault

    def require_possible(self) -> None:
        """Raise `ImpossibleFaultError`, which lists the possible faults, if no real system produces this one."""
        family = _BY_CALL.get(self.call)
        if family is None:
            raise ImpossibleFaultError(f"{self}: unknown system call {self.call!r}; known: {', '.join(CALLS)}")
        if self.role not in family.roles:
            raise ImpossibleFaultError(f"{self} can't happen; {self.call} is failed on: {', '.join(family.roles)}")
        effects = possible_effects(self.call, self.role)
        if (self.effect, self.when.sticky) not in effects:
            shown = ", ".join(f"@N{'..' if sticky else ''}={effect}" for effect, sticky in effects)
            raise ImpossibleFaultError(f"{self} can't happen; possible for {self.call}:{self.role}: {shown}")

    @property
    def reason(self) -> str:
        """Why a real system can produce this fault."""
        return _BY_CALL[self.call].reason

    @property
    def injection(self) -> str:
        """The fault as an argument of strace's ``-e``."""
        how = "signal=KILL" if self.effect == KILL else f"error={self.effect}"
        return f"inject={self.call}:{how}:when={self.when.first}{'+' if self.when.sticky else ''}"

    def __str__(self) -> str:
        return f"{self.call}:{self.role}@{self.when}={self.effect}"


def possible_effects(call: str, role: str) -> tuple[tuple[str, bool], ...]:
    """The possible effects of a system call on a file: (errno or KILL, sticky); empty if the call is unknown."""
    family = _BY_CALL.get(call)
    if family is None or role not in family.roles:
        return ()
    once_or_not = (True,) if family.lasting else (False, True)
    return (*((error, sticky) for error in family.errors for sticky in once_or_not), (KILL, False))


@dataclass(frozen=True, slots=True)
class SystemCall:
    """An observed system call: its thread, its name, and the role of its file."""

    thread: int
    call: str
    role: str


class Attachment:
    """strace, attached to a process and its threads. A context manager; `calls` and `fired` are set by `detach`.

    `calls` are the system calls on the database's files, in order; `fired` is how many of them the fault has hit.
    """

    def __init__(
        self, process: int, database: Path, fault: SyscallFault | None = None, others: Sequence[Path] = ()
    ) -> None:
        self.fault = fault
        self.calls: tuple[SystemCall, ...] = ()
        self.fired = 0
        self._process = process
        self._databases = [os.path.realpath(one) for one in (database, *others)]
        self._log = os.memfd_create("tornpage-strace")
        try:
            self._strace = self._attached(process)
        except BaseException:
            os.close(self._log)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.detach()

    def detach(self) -> None:
        """Detach from the process and read the log. A second call has no effect."""
        if self._strace.stderr is None or self._strace.stderr.closed:
            return
        with self._strace as strace:
            if self.fault is not None and self.fault.effect == KILL:
                self._let_die()
            if strace.poll() is None:
                strace.send_signal(signal.SIGINT)
            strace.wait()
        with os.fdopen(self._log, "rb") as log:
            log.seek(0)
            self._take(log.read().decode(errors="replace"))

    def counts(self) -> Counter[tuple[str, str]]:
        """The number of calls, by (call, role)."""
        return Counter((one.call, one.role) for one in self.calls)

    # -- strace --------------------------------------------------------------------------------------------

    def _attached(self, process: int) -> "subprocess.Popen[bytes]":
        # A fault counts the calls on its own file; without a fault all files are watched, and the log names the file.
        roles = ROLES if self.fault is None else (self.fault.role,)
        arguments = ["-f", "-y", "-s", "0", "-o", f"/dev/fd/{self._log}"]
        for role in roles:
            for database in self._databases:
                arguments += ["-P", database + _SUFFIXES[role]]
        # Not every system has all of them; with a question mark strace ignores an unknown call.
        arguments += ["-e", "trace=" + ",".join(f"?{call}" for call in CALLS)]
        if self.fault is not None:
            arguments += ["-e", self.fault.injection]
        return start_strace(process, arguments, (self._log,))

    def _let_die(self) -> None:
        """Wait until the process has died, and strace with it, or waits for its next command.

        The harness may see the death before strace does; a strace that is interrupted then would not log it.
        """
        until = time.monotonic() + _DIES_WITHIN_S
        while self._strace.poll() is None and not _is_waiting(self._process) and time.monotonic() < until:
            time.sleep(_LOOKS_EVERY_S)

    def _take(self, text: str) -> None:
        lines = text.splitlines()
        self.calls = tuple(self._calls_in(lines))
        if self.fault is not None and self.fault.effect == KILL:
            self.fired = int("+++ killed by SIGKILL +++" in text)
        else:
            self.fired = sum(line.endswith("(INJECTED)") for line in lines)

    def _calls_in(self, lines: list[str]) -> Iterator[SystemCall]:
        for line in lines:
            match = _LINE.match(line)
            role = self._role_in(line)
            if match is not None and role is not None:
                yield SystemCall(int(match["thread"]), match["call"], role)

    def _role_in(self, line: str) -> str | None:
        """The role of the file in a line: an open file ``<…>``, or a name ``"…"``."""
        for role in ROLES:
            for database in self._databases:
                path = database + _SUFFIXES[role]
                if f"<{path}>" in line or f'"{path}"' in line:
                    return role
        return None


def attach(process: int, database: Path, fault: SyscallFault | None = None, others: Sequence[Path] = ()) -> Attachment:
    """Attach strace to a running process; raises `SyscallsUnavailableError`.

    `others` are further databases, whose files count together with those of the first.
    """
    return Attachment(process, database, fault, others)


def find_strace() -> str:
    """The path of strace; raises `SyscallsUnavailableError`, which says what to do."""
    if not sys.platform.startswith("linux"):
        raise SyscallsUnavailableError(f"it needs Linux and strace, and this is {sys.platform}")
    found = shutil.which("strace")
    if found is None:
        raise SyscallsUnavailableError("there is no strace; install it: apt install strace, or dnf install strace")
    return found


def start_strace(process: int, arguments: Sequence[str], handed_on: tuple[int, ...] = ()) -> "subprocess.Popen[bytes]":
    """Start strace on a process, with descriptors for strace to inherit; strace is attached when this returns.

    Raises `SyscallsUnavailableError`.
    """
    strace = subprocess.Popen(  # noqa: S603 - arguments of our own, and no shell
        [find_strace(), *arguments, "-p", str(process)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, start_new_session=True, bufsize=0,
        pass_fds=handed_on,
    )  # fmt: skip
    belongs_to_the_harness(strace.pid)
    try:
        _wait_until_attached(strace, process)
    except BaseException:
        with strace:
            strace.kill()
        raise
    return strace


def _is_waiting(process: int) -> bool:
    """Whether a process exists and sleeps."""
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"S"
    except (OSError, IndexError):
        return False


def _wait_until_attached(strace: "subprocess.Popen[bytes]", process: int) -> None:
    assert strace.stderr is not None  # noqa: S101 - it was opened as a pipe
    said = b""
    while b" attached" not in said:
        ready, _, _ = select.select([strace.stderr], [], [], _ATTACHES_WITHIN_S)
        received = os.read(strace.stderr.fileno(), 4096) if ready else b""
        if not received:
            raise SyscallsUnavailableError(_why_not_attached(said.decode(errors="replace").strip(), process))
        said += received


def _why_not_attached(said: str, process: int) -> str:
    if "not permitted" in said:
        return (
            f"strace may not attach to process {process} ({said.splitlines()[0]}); allow it: "
            "sysctl kernel.yama.ptrace_scope=0, in a container --cap-add=SYS_PTRACE, or no other debugger on it"
        )
    return f"strace did not attach to process {process}: {said or 'it printed nothing'}"


def why_unavailable() -> str | None:
    """The reason why strace can't inject faults here, tried on a child process; None if it can."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as child:
        try:
            attach(child.pid, Path(__file__)).detach()
        except SyscallsUnavailableError as error:
            return str(error)
        finally:
            child.kill()
    return None
