"""The interpreter goes away with connections still open under the shim: no crash, and nothing on stderr."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Child = Callable[..., subprocess.CompletedProcess[str]]

_OPEN = """
    import atexit, os, sqlite3, sys, threading
    from tornpage import faults

    def work(connection):
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
        connection.execute("INSERT INTO t VALUES(1)")
        connection.commit()
        connection.execute("INSERT INTO t VALUES(2)")
"""

_ENDINGS = {
    "the scope has ended, the connection is open": """
        with faults.install(), faults.arm("write@1000000=FULL"):
            kept = sqlite3.connect("a.db"); work(kept)
    """,
    "no scope has ended": """
        stack = [faults.install(), faults.arm("any@1000000=IOERR"), faults.shims().deterministic()]
        for scope in stack: scope.__enter__()
        kept = sqlite3.connect("a.db"); work(kept)
    """,
    "no scope has ended and a fault is in force": """
        stack = [faults.install(), faults.arm("any@90..=IOERR")]
        for scope in stack: scope.__enter__()
        kept = sqlite3.connect("a.db"); work(kept)
    """,
    "sys.exit in the scopes": """
        with faults.install(), faults.arm("write@1000000=FULL"):
            kept = sqlite3.connect("a.db"); work(kept)
            sys.exit(0)
    """,
    "the connection is in a reference cycle": """
        with faults.install(), faults.arm("write@1000000=FULL"):
            class Holder: pass
            holder = Holder(); holder.me = holder; holder.kept = sqlite3.connect("a.db"); work(holder.kept)
            del holder
    """,
    "an older atexit handler uses the connection": """
        def late():
            kept.rollback(); work(kept); kept.rollback(); kept.close()
        atexit.register(late)
        stack = [faults.install(), faults.arm("any@1000000=IOERR")]
        for scope in stack: scope.__enter__()
        kept = sqlite3.connect("a.db"); work(kept)
    """,
    "the connection outlives the shim's own module": """
        import builtins
        stack = [faults.install(), faults.arm("any@1000000=IOERR"), faults.shims().deterministic()]
        for scope in stack: scope.__enter__()
        # Cleared last of all: its close reads, writes, syncs and deletes when nothing of the shim is left.
        class Last:
            def __init__(self):
                self.connect, self.connection = sqlite3.connect, sqlite3.connect("a.db")
                work(self.connection)
            def __del__(self):
                self.connection.rollback()
                self.connection.execute("SELECT datetime('now')").fetchall()
                another = self.connect("b.db")
                another.execute("CREATE TABLE t(a)")
                another.close()
                self.connection.close()
        builtins.kept = Last()
    """,
    "a daemon thread is at work": """
        stack = [faults.install(), faults.arm("any@100000000=IOERR")]
        for scope in stack: scope.__enter__()
        started = threading.Event()
        def run():
            mine = sqlite3.connect("a.db", isolation_level=None)
            mine.execute("CREATE TABLE IF NOT EXISTS t(a)")
            started.set()
            while True:
                mine.execute("INSERT INTO t VALUES(1)")
        threading.Thread(target=run, daemon=True).start()
        started.wait()
    """,
    "a child was forked": """
        with faults.install(), faults.arm("write@1000000=FULL"):
            kept = sqlite3.connect("a.db"); work(kept)
            pid = os.fork()
            if pid == 0:
                # The child has connections of its own.
                own = sqlite3.connect("b.db"); work(own); own.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
    """,
}


@pytest.mark.parametrize("ending", _ENDINGS, ids=lambda name: name.replace(" ", "-"))
def test_the_interpreter_ends_in_silence_when(ending: str, child: Child) -> None:
    if "fork" in ending and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    ended = child(_OPEN.replace("\n    ", "\n") + _dedented(_ENDINGS[ending]), ignoring="ResourceWarning")
    assert (ended.returncode, ended.stderr) == (0, "")


def _dedented(text: str) -> str:
    return text.replace("\n        ", "\n")


def test_an_interrupt_inside_a_callback_is_raised_even_where_sqlite_absorbs_it(child: Child) -> None:
    """A failing unlock tells nobody: from the interrupt on every operation fails, so that the work ends soon."""
    code = """
        import signal, sqlite3; from tornpage import faults
        class Interrupting:
            times = 0
            def __init__(self, kind):
                self.kinds = frozenset({kind})
            def decide(self, kind, role, path):
                self.times += 1
                if self.times == 1:
                    signal.raise_signal(signal.SIGINT)
        interrupted, kinds = 0, ("open", "read", "write", "lock", "unlock")
        for turn in range(40):
            connection = None
            try:
                with faults.install() as shim, shim.watching(Interrupting(kinds[turn % 5])):
                    connection = sqlite3.connect("a.db", isolation_level=None)
                    connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
                    while True:
                        connection.execute("INSERT INTO t VALUES(1)")
            except KeyboardInterrupt:
                interrupted += 1
            if connection is not None:
                connection.close()
        assert not faults.shim_for().kept and not faults.shim_for().paths
        assert not faults.shim_for().is_installed
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        print(interrupted)
    """
    ended = child(code)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "40\n")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX's")
def test_a_storm_of_interrupts_is_never_lost_in_a_callback_and_gives_sqlite_no_random_result(child: Child) -> None:
    """A handler that raised at a callback's first instruction left ctypes to answer SQLite with what lay in memory."""
    code = """
        import os, random, signal, sqlite3, sys; from tornpage import faults
        live, interrupted, other, lost = False, 0, [], []
        def handler(number, frame):
            if live:
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, handler)
        sys.unraisablehook = lambda told: lost.append(told) if "ctypes" in str(told.err_msg) else None
        descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        random_ = random.Random(1)
        for turn in range(300):
            connection = None
            try:
                with faults.install() as shim, shim.watching(faults.OperationCounter()):
                    connection = sqlite3.connect("a.db", isolation_level=None)
                    connection.execute("PRAGMA synchronous=off")
                    connection.execute("CREATE TABLE IF NOT EXISTS t(a)")
                    connection.execute("DELETE FROM t")
                    live = True
                    signal.setitimer(signal.ITIMER_REAL, random_.uniform(0.0001, 0.001))
                    while True:
                        connection.execute("INSERT INTO t VALUES(1)")
            except KeyboardInterrupt:
                interrupted += 1
            except (sqlite3.Error, MemoryError) as error:
                other.append(repr(error))
            finally:
                live = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                if connection is not None:
                    connection.close()
        assert not lost, lost
        assert not other, other
        connection = sqlite3.connect("a.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        if descriptors:
            assert len(os.listdir("/proc/self/fd")) == descriptors
        print(interrupted)
    """
    ended = child(code)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "300\n")


_KILLED = """
    import sqlite3, sys; from tornpage import faults
    connection = None
    with faults.install():
        connection = sqlite3.connect("a.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=" + sys.argv[2])
        connection.execute("CREATE TABLE t(a)")
        print("ready", flush=True)
        with faults.arm(sys.argv[1]):
            connection.execute("INSERT INTO t VALUES(zeroblob(3000))")
        print("survived", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(("timing", "arrived"), [("before", 0.0), ("half", 0.5), ("after", 1.0)])
def test_killed_at_a_write_leaves_nothing_half_or_all_of_it(
    timing: str, arrived: float, child: Child, tmp_path: Path
) -> None:
    """The second write to the WAL is the page of the first frame, behind that frame's header of 24 bytes."""
    reference = child(_WHOLE)
    created, page = int(reference.stdout), (tmp_path / "whole-wal").read_bytes()[-4096:]
    ended = child(_KILLED, f"write:wal@2/{timing}=KILL", "wal")
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "ready\n")
    wal = (tmp_path / "a.db-wal").read_bytes()
    assert len(wal) == created + 24 + int(4096 * arrived)
    assert wal[created + 24 :] == page[: int(4096 * arrived)]
    # The frame is the whole transaction, so it has been committed once it is all there.
    assert _rows(child) == [str(int(arrived))]


_WHOLE = """
    import pathlib, shutil, sqlite3
    connection = sqlite3.connect("whole.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("CREATE TABLE t(a)")
    print(pathlib.Path("whole.db-wal").stat().st_size)
    connection.execute("INSERT INTO t VALUES(zeroblob(3000))")
    shutil.copy("whole.db-wal", "whole-wal")
    connection.close()
"""


def _rows(child: Child) -> list[str]:
    ended = child(
        """
        import sqlite3
        connection = sqlite3.connect("a.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
        connection.close()
        """
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(
    ("plan", "mode", "rows"),
    [
        ("sync:wal@1=KILL", "wal", "1"),  # The frames have reached the system: the process's death loses nothing.
        ("write:wal@1/half=KILL", "wal", "0"),
        ("delete:journal@1=KILL", "delete", "0"),
        ("delete:journal@1/after=KILL", "delete", "1"),
        ("write:db@1/half=KILL", "delete", "0"),
        ("sync:db@1/after=KILL", "delete", "0"),
        ("truncate:journal@1/after=KILL", "truncate", "1"),
        ("lock@1=KILL", "delete", "0"),
        ("unlock@1=KILL", "delete", "1"),
        ("open:journal@1/after=KILL", "delete", "0"),
    ],
)
def test_killed_at_an_operation_leaves_what_had_been_committed(plan: str, mode: str, rows: str, child: Child) -> None:
    ended = child(_KILLED, plan, mode)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "ready\n")
    assert _rows(child) == [rows]
