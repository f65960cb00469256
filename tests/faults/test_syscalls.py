"""Faults in system calls by strace: their text, what is possible, and that one hits what it names and no more."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage.faults.errors import FaultError, ImpossibleFaultError
from tornpage.faults.plan import KILL, When
from tornpage.faults.strace import (
    CALLS,
    ROLES,
    Attachment,
    SyscallFault,
    SyscallsUnavailableError,
    attach,
    possible_effects,
    why_unavailable,
)

UNAVAILABLE = why_unavailable()
needs_strace = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

# One insert for each line that it reads; a journal mode, and whether more than one thread writes.
WRITER = """
import sqlite3, sys, threading
db = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
db.execute("PRAGMA journal_mode=" + sys.argv[2])
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE IF NOT EXISTS t(x)")
print("ready", flush=True)
def insert():
    try:
        db.execute("INSERT INTO t VALUES (randomblob(100))")
        print("done", flush=True)
    except sqlite3.Error as error:
        print(error.sqlite_errorname, flush=True)
for line in sys.stdin:
    if line.strip() == "thread":
        other = threading.Thread(target=insert)
        other.start()
        other.join()
    else:
        insert()
db.close()
"""


class Writer:
    """A process that inserts a row whenever it is asked to."""

    def __init__(self, database: Path, journal_mode: str) -> None:
        self.database = database
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(database), journal_mode],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self._hear() == "ready"

    def insert(self, how: str = "") -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how}\n")
        return self._hear()

    def _hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def under(self, fault: str | None) -> tuple[str, Attachment]:
        """One insert under a fault: what it said, and what strace saw."""
        parsed = SyscallFault.parse(fault) if fault else None
        with attach(self.process.pid, self.database, parsed) as attachment:
            said = self.insert()
        return said, attachment


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[[str], Writer]]:
    started: list[Writer] = []

    def start(journal_mode: str) -> Writer:
        started.append(Writer(tmp_path / f"{journal_mode}.db", journal_mode))
        return started[-1]

    yield start
    for one in started:
        with one.process as process:
            process.kill()


# -- text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("role", ROLES)
def test_every_possible_fault_parses_back_from_its_print(call: str, role: str) -> None:
    for effect, sticky in possible_effects(call, role):
        fault = SyscallFault(call, role, When(3, None if sticky else 3), effect)
        assert SyscallFault.parse(str(fault)) == fault


def test_what_strace_is_told() -> None:
    assert SyscallFault.parse("pwrite64:wal@3=ENOSPC").injection == "inject=pwrite64:error=ENOSPC:when=3"
    assert SyscallFault.parse("fdatasync:db@1..=EIO").injection == "inject=fdatasync:error=EIO:when=1+"
    assert SyscallFault.parse("unlink:journal@2=KILL").injection == "inject=unlink:signal=KILL:when=2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write CALL:ROLE@N=EFFECT"),
        ("pwrite64=ENOSPC", "write CALL:ROLE@N=EFFECT"),
        ("pwrite64:wal@0=ENOSPC", "from 1 to 65535"),
        ("pwrite64:wal@65536=ENOSPC", "from 1 to 65535"),
        ("pwrite64:wal@1:error=EPERM=EIO", "write CALL:ROLE@N=EFFECT"),
        ("pwrite:wal@1=ENOSPC", "unknown system call 'pwrite'; known: pread64"),
        ("unlink:db@1=EIO", "unlink is failed on: wal, journal"),
        ("pwrite64:shm@1=EIO", "pwrite64 is failed on: db, wal, journal"),
        ("pwrite64:wal@1=EPERM", "possible for pwrite64:wal: @N=ENOSPC, @N..=ENOSPC"),
        ("pwrite64:wal@1..=KILL", "@N=KILL"),
        ("openat:db@1=EACCES", "possible for openat:db: @N..=EACCES, @N..=EMFILE, @N=KILL"),
    ],
)
def test_what_no_system_does_is_refused_and_what_it_does_is_named(text: str, said: str) -> None:
    with pytest.raises(ImpossibleFaultError, match=re.escape(said)):
        SyscallFault.parse(text)


def test_every_possible_errno_is_one_that_the_system_knows() -> None:
    import errno

    effects = {effect for call in CALLS for role in ROLES for effect, _ in possible_effects(call, role)} - {KILL}
    assert effects
    assert all(hasattr(errno, effect) for effect in effects)


# -- strace ----------------------------------------------------------------------------------------------------


@needs_strace
def test_a_run_without_a_fault_counts_the_calls_of_each_file_apart(writer: Callable[[str], Writer]) -> None:
    wal = writer("wal")
    wal.insert()
    said, seen = wal.under(None)
    assert said == "done"
    assert seen.fired == 0
    assert seen.counts() == {("pwrite64", "wal"): 2, (sync_of(seen), "wal"): 1} | _reads(seen)

    said, seen = writer("delete").under(None)
    assert said == "done"
    roles = {role for _, role in seen.counts()}
    assert roles == {"db", "journal"}
    assert ("unlink", "journal") in seen.counts()


def sync_of(seen: Attachment) -> str:
    """The name of the call that a commit is synced with; builds of SQLite differ in it."""
    return next(call for call, _ in seen.counts() if call in ("fsync", "fdatasync"))


def _reads(seen: Attachment) -> dict[tuple[str, str], int]:
    return {key: count for key, count in seen.counts().items() if key[0] == "pread64"}


@needs_strace
def test_a_fault_hits_exactly_the_call_that_it_names(writer: Callable[[str], Writer]) -> None:
    wal = writer("wal")
    wal.insert()
    for ordinal, calls in ((1, 1), (2, 2)):
        said, seen = wal.under(f"pwrite64:wal@{ordinal}=ENOSPC")
        assert (said, seen.fired) == ("SQLITE_FULL", 1)
        assert seen.counts()["pwrite64", "wal"] == calls
    said, seen = wal.under("pwrite64:wal@3=ENOSPC")
    assert (said, seen.fired) == ("done", 0)


@needs_strace
@pytest.mark.parametrize(
    ("mode", "fault", "said"),
    [
        ("wal", "pwrite64:wal@1=EIO", "SQLITE_IOERR_WRITE"),
        ("wal", "pwrite64:wal@1=EDQUOT", "SQLITE_IOERR_WRITE"),
        ("wal", "SYNC:wal@1=EIO", "SQLITE_IOERR_FSYNC"),
        ("delete", "openat:journal@1..=EMFILE", "SQLITE_CANTOPEN"),
        ("delete", "pwrite64:journal@1=ENOSPC", "SQLITE_FULL"),
        ("delete", "pwrite64:db@1..=EIO", "SQLITE_IOERR_WRITE"),
        ("delete", "unlink:journal@1=EROFS", "SQLITE_IOERR_DELETE"),
    ],
)
def test_sqlite_makes_its_own_error_of_an_errno(
    mode: str, fault: str, said: str, writer: Callable[[str], Writer]
) -> None:
    store = writer(mode)
    _, seen = store.under(None)
    heard, seen = store.under(fault.replace("SYNC", sync_of(seen)))
    # A build without extended codes says the primary one.
    assert heard in (said, said.rpartition("_")[0])
    assert seen.fired >= 1
    assert store.insert() == "done"


@needs_strace
def test_afterwards_the_process_is_traced_by_nobody(writer: Callable[[str], Writer]) -> None:
    wal = writer("wal")
    wal.under("pwrite64:wal@1=EIO")
    assert "TracerPid:\t0\n" in Path(f"/proc/{wal.process.pid}/status").read_text()


@needs_strace
def test_a_wal_that_is_not_there_yet_is_watched_from_its_creation_on(tmp_path: Path) -> None:
    database = tmp_path / "new.db"
    waiting = "input(); " + "import sqlite3; db = sqlite3.connect({!r}); db.execute('PRAGMA journal_mode=wal'); "
    code = waiting.format(str(database)) + "db.execute('CREATE TABLE t(x)'); db.commit(); db.close()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        seen = attach(process.pid, database)
        process.communicate(b"\n")
    seen.detach()
    assert seen.counts()["openat", "wal"] >= 1
    assert seen.counts()["pwrite64", "wal"] >= 2


@needs_strace
def test_a_kill_ends_the_process_before_the_call_is_made(writer: Callable[[str], Writer]) -> None:
    wal = writer("wal")
    wal.insert()
    size = wal.database.with_name("wal.db-wal").stat().st_size
    said, seen = wal.under("pwrite64:wal@1=KILL")
    assert (said, seen.fired) == ("", 1)
    assert wal.process.wait() == -9
    assert wal.database.with_name("wal.db-wal").stat().st_size == size


@needs_strace
def test_each_thread_has_a_count_of_its_own(writer: Callable[[str], Writer]) -> None:
    wal = writer("wal")
    wal.insert()
    with attach(wal.process.pid, wal.database, SyscallFault.parse("pwrite64:wal@1=EIO")) as seen:
        answers = [wal.insert(), wal.insert("thread")]
    assert "done" not in answers
    assert seen.fired == 2
    assert len({one.thread for one in seen.calls}) == 2


# -- where it can't be had -------------------------------------------------------------------------------------


def test_without_strace_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SyscallsUnavailableError, match="there is no strace; install it: apt install strace"):
        attach(os.getpid(), tmp_path / "any.db")


def test_on_another_system_it_says_which_one_it_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SyscallsUnavailableError, match="needs Linux and strace, and this is darwin"):
        attach(os.getpid(), tmp_path / "any.db")


@needs_strace
def test_where_the_system_refuses_to_trace_it_says_how_to_allow_it() -> None:
    """An ordinary user may not trace the first process; root asks as nobody."""
    code = (
        "import os, pathlib\n"
        "from tornpage.faults.strace import attach, SyscallsUnavailableError\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: attach(1, pathlib.Path('/any.db'))\n"
        "except SyscallsUnavailableError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": "/tmp"}  # noqa: S108
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "strace may not attach to process 1" in ran.stdout, ran
    assert "ptrace_scope=0" in ran.stdout


@needs_strace
def test_a_process_that_is_gone_is_no_process_to_attach_to(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(SyscallsUnavailableError, match=f"did not attach to process {process.pid}"):
        attach(process.pid, tmp_path / "any.db")


def test_unavailable_is_an_error_of_the_package() -> None:
    assert issubclass(SyscallsUnavailableError, FaultError)
    assert str(SyscallsUnavailableError("why")) == "the syscall depth is not available: why"
