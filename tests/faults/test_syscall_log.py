"""The operation log of a program of its own: what strace sees is what was done, to the byte and in the same order."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.files import Replica
from tornpage.faults.files.links import link_name, target_in
from tornpage.faults.strace import SyscallsUnavailableError, why_unavailable
from tornpage.faults.syscall_log.lines import Lines, descriptor_of, text_of
from tornpage.faults.syscall_log.recorder import OperationRecorder
from tornpage.faults.syscall_log.translator import NotTranslatedError
from tornpage.faults.vfs.operation_log import Operation, Tape, is_unnamed

UNAVAILABLE = why_unavailable()
needs_strace = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

# Runs the code of its argument in the directory that it is told, and answers with a line.
WORKER = """
import ctypes, mmap, os, sqlite3, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
directory = sys.stdin.readline().strip()
os.chdir(directory)
exec(sys.argv[1])
print("done", flush=True)
sys.stdin.readline()
"""

SQLITE = """
import contextlib, sqlite3
with contextlib.closing(sqlite3.connect(f"{directory}/a.db", isolation_level=None)) as db:
    db.execute("PRAGMA journal_mode=MODE").fetchall()
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE t(x)")
    db.executemany("INSERT INTO t VALUES(?)", [(b"0" * 3000,)] * 3)
    db.execute("DELETE FROM t")
"""

Recorded = Callable[[str], Tape]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """Runs code in a process of its own, and hands back its tape."""

    def run(code: str) -> Tape:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        base = {path.name: path.read_bytes() for path in home.iterdir()}
        tape = Tape(home)
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            with OperationRecorder(process.pid, tape, process.stdout.fileno(), base) as recorder:
                process.stdin.write(f"{home}\n")
                assert process.stdout.readline() == "done\n"
                recorder.follow(1)
            process.stdin.write("\n")
        require_same(tape, base, home)
        return tape

    return run


def require_same(tape: Tape, base: dict[str, bytes], home: Path) -> None:
    replica = Replica(base)
    replica.follow(tape.operations)
    there = {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.endswith("-shm")
    }
    for path in home.rglob("*"):
        if path.is_symlink():
            there[link_name(str(path.relative_to(home)))] = target_in(str(home), bytes(path.readlink()))
    assert replica.different(there) == []


def told(tape: Tape) -> list[str]:
    return [("unnamed " + one.kind) if is_unnamed(one.path) else str(one) for one in tape.operations]


# -- SQLite ----------------------------------------------------------------------------------------------------


@needs_strace
@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_it_writes_down_what_the_shim_writes_down(mode: str, recorded: Recorded, tmp_path: Path) -> None:
    outside = recorded(SQLITE.replace("MODE", mode))
    inside = tmp_path / "inside"
    inside.mkdir()
    with faults.install(), faults.record(inside) as tape:
        exec(SQLITE.replace("MODE", mode), {"directory": str(inside)})  # noqa: S102

    def shapes(operations: list[Operation]) -> list[tuple[str, str, int, int, int]]:
        # The salt of a WAL, and the nonce of a journal, are random.
        return [(one.kind, one.path, one.offset, len(one.data), one.size) for one in operations]

    assert shapes(outside.operations) == shapes(tape.operations)
    assert len(outside) > 20


# -- plain files -----------------------------------------------------------------------------------------------


@needs_strace
@pytest.mark.parametrize(
    ("code", "operations"),
    [
        (
            "f = os.open('a', os.O_CREAT | os.O_WRONLY); os.write(f, b'12'); os.lseek(f, 1, 0); os.write(f, b'3')",
            ["create a", "write 2 bytes of a at 0", "write 1 bytes of a at 1"],
        ),
        (
            "f = os.open('a', os.O_CREAT | os.O_RDWR | os.O_APPEND); os.writev(f, [b'ab', b'c']); os.lseek(f, 0, 0);"
            "os.read(f, 2); os.write(f, b'd')",
            ["create a", "write 3 bytes of a at 0", "write 1 bytes of a at 3"],
        ),
        (
            "f = os.open('a', os.O_CREAT | os.O_RDWR); os.pwritev(f, [b'ab', b'c'], 5); os.pwrite(f, b'x', 1);"
            "os.read(f, 3); os.write(f, b'y')",
            ["create a", "write 3 bytes of a at 5", "write 1 bytes of a at 1", "write 1 bytes of a at 3"],
        ),
        (
            "f = os.open('a', os.O_CREAT | os.O_WRONLY | os.O_DSYNC); os.write(f, b'1')",
            ["create a", "write 1 bytes of a at 0", "sync a"],
        ),
        (
            "f = os.open('a', os.O_CREAT | os.O_WRONLY); g = os.dup(f); os.write(f, b'1'); os.write(g, b'2');"
            "os.dup2(f, 50); os.write(50, b'3')",
            ["create a", *(f"write 1 bytes of a at {at}" for at in range(3))],
        ),
        (
            "f = os.open('a', os.O_CREAT | os.O_WRONLY); os.write(f, b'old'); os.unlink('a');"
            "g = os.open('a', os.O_CREAT | os.O_WRONLY); os.write(f, b'gone'); os.fsync(f); os.write(g, b'n')",
            ["create a", "write 3 bytes of a at 0", "delete a", "create a", "write 1 bytes of a at 0"],
        ),
        (
            "f = os.open('a', os.O_CREAT | os.O_WRONLY); os.write(f, b'1'); os.rename('a', 'b'); os.write(f, b'2');"
            "os.fdatasync(f); d = os.open('.', os.O_RDONLY); os.fsync(d)",
            [
                "create a", "write 1 bytes of a at 0", "rename a to b", "write 1 bytes of b at 1", "sync b",
                "syncdir the directory",
            ],
        ),
        (
            "os.mkdir('s'); f = os.open('s/a', os.O_CREAT | os.O_WRONLY); os.write(f, b'1'); os.rename('s', 'u');"
            "os.write(f, b'2'); os.sync()",
            [
                "mkdir s", "create s/a", "write 1 bytes of s/a at 0", "rename s to u", "write 1 bytes of u/a at 1",
                "syncall the directory",
            ],
        ),
        (
            "f = os.open('a', os.O_CREAT | os.O_WRONLY); os.posix_fallocate(f, 0, 9); os.ftruncate(f, 3);"
            "libc.sync_file_range(f, 0, 0, 7); os.open('a', os.O_WRONLY | os.O_TRUNC)",
            ["create a", "truncate a to 9 bytes", "truncate a to 3 bytes", "truncate a to 0 bytes"],
        ),
        (
            "f = os.open('.', os.O_TMPFILE | os.O_WRONLY); os.write(f, b'1'); os.fsync(f);"
            "os.link(f'/proc/self/fd/{f}', 'b', src_dir_fd=f, follow_symlinks=True); os.write(f, b'2')",
            ["unnamed create", "unnamed write", "unnamed sync", "unnamed link", "unnamed write"],
        ),
        (
            "os.open('a', os.O_CREAT | os.O_WRONLY); os.link('a', 'b'); os.unlink('a'); os.mkdir('s'); os.rmdir('s')",
            ["create a", "link a to b", "delete a", "mkdir s", "rmdir s"],
        ),
        (
            "os.mkdir('v1'); os.symlink('v1', 'now'); os.open('now/a', os.O_CREAT | os.O_WRONLY); os.mkdir('v2');"
            "os.symlink(os.path.join(os.getcwd(), 'v2'), 'new'); os.replace('new', 'now');"
            "f = os.open('now/b', os.O_CREAT | os.O_WRONLY); os.write(f, b'1');"
            "os.symlink('gone', 'x'); os.unlink('x')",
            [
                "mkdir v1", "symlink now to v1", "create v1/a", "mkdir v2", "symlink new to v2", "rename new to now",
                "create v2/b", "write 1 bytes of v2/b at 0", "symlink x to gone", "delete x",
            ],
        ),
    ],
)  # fmt: skip
def test_plain_files_are_followed(code: str, operations: list[str], recorded: Recorded) -> None:
    assert told(recorded(code)) == operations


@needs_strace
def test_threads_and_children_are_followed(recorded: Recorded) -> None:
    tape = recorded(
        "f = os.open('a', os.O_CREAT | os.O_WRONLY)\n"
        "def write():\n    [os.write(f, b'1') for _ in range(50)]\n"
        "them = [threading.Thread(target=write) for _ in range(4)]\n"
        "[one.start() for one in them]; [one.join() for one in them]\n"
        "child = os.fork()\n"
        "if not child:\n    os.write(f, b'2'); os._exit(0)\n"
        "os.waitpid(child, 0); os.write(f, b'3')"
    )
    assert [one.offset for one in tape.operations if one.kind == "write"] == list(range(202))


@needs_strace
def test_what_is_done_after_an_answer_comes_after_it(tmp_path: Path) -> None:
    code = "open('a', 'w').close(); print('done', flush=True); open('b', 'w').close()"
    tape = Tape(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with OperationRecorder(process.pid, tape, process.stdout.fileno()) as recorder:
            process.stdin.write(f"{tmp_path}\n")
            assert process.stdout.readline() == "done\n"
            recorder.follow(1)
            assert told(tape) == ["create a"]
            assert process.stdout.readline() == "done\n"
            recorder.follow(2)
            assert told(tape) == ["create a", "create b"]
        process.stdin.write("\n")


@needs_strace
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("mmap.mmap(os.open('kept', os.O_RDWR), 4)", "mmap on kept makes a writable map"),
        (
            "open('../other', 'w').write('1234'); a = os.open('../other', os.O_RDONLY);"
            "os.copy_file_range(a, os.open('n', os.O_CREAT | os.O_WRONLY), 4)",
            "copy_file_range on n copies inside the kernel from a file whose contents",
        ),
        (
            "a = os.open('/proc/self/exe', os.O_RDONLY); os.sendfile(os.open('n', os.O_CREAT | os.O_WRONLY), a, 0, 4)",
            "sendfile on n copies inside the kernel from a file whose contents",
        ),
        ("open('../other', 'w').close(); os.rename('../other', 'here')", "rename on here brings a file from elsewhere"),
        ("open('../other', 'w').close(); os.symlink('../other', 'soft')", "symlink on soft makes a symbolic link to a"),
        ("os.mkdir('d'); os.symlink('d', 's'); os.mkdir('s/x')", "d/x is named through a symbolic link"),
        ("libc.syscall(425, 1, ctypes.create_string_buffer(200))", "io_uring_setup: operations through io_uring"),
    ],
)
def test_what_can_not_be_translated_is_named(code: str, said: str, recorded: Recorded, tmp_path: Path) -> None:
    if "425" in code and os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("another number of io_uring_setup")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kept").write_bytes(b"1234")
    if said.startswith("io_uring") and not has_io_uring():
        pytest.skip("this system has no io_uring")
    with pytest.raises(NotTranslatedError, match=said):
        recorded(code)


def has_io_uring() -> bool:
    code = "import ctypes; print(ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(200)))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(made.stdout) >= 0


@needs_strace
def test_what_is_copied_inside_the_directory_is_known(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kept").write_bytes(b"0123456789")
    tape = recorded(
        "a = os.open('kept', os.O_RDWR); os.pwrite(a, b'X', 3); n = os.open('n', os.O_CREAT | os.O_WRONLY)\n"
        "os.copy_file_range(a, n, 4, 2, 1); os.copy_file_range(a, n, 3); os.sendfile(n, a, 5, 2)\n"
        "os.sendfile(n, a, None, 2); os.write(n, b'end'); os.read(a, 1); os.write(a, b'Y')"
    )
    assert [(one.offset, one.data) for one in tape.operations if one.path == "n" and one.data] == [
        (1, b"2X45"), (0, b"012"), (3, b"56"), (5, b"X4"), (7, b"end"),
    ]  # fmt: skip


@needs_strace
def test_a_map_that_only_reads_and_the_shared_memory_are_no_matter(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kept").write_bytes(b"1234")
    code = (
        "mmap.mmap(os.open('kept', os.O_RDONLY), 4, prot=mmap.PROT_READ)\n"
        "s = os.open('a.db-shm', os.O_CREAT | os.O_RDWR); os.ftruncate(s, 9); mmap.mmap(s, 9)"
    )
    assert told(recorded(code)) == []


@needs_strace
def test_a_process_that_does_not_answer_itself_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        ours, theirs = os.pipe()
        try:
            with pytest.raises(SyscallsUnavailableError, match="does the I/O, and another one answers"):
                OperationRecorder(process.pid, Tape(tmp_path), ours)
        finally:
            os.close(ours)
            os.close(theirs)
            process.kill()


# -- lines -----------------------------------------------------------------------------------------------------


def test_a_call_on_two_lines_is_one() -> None:
    lines = Lines()
    assert lines.read(r'11 pwrite64(3<\x2f\x61>, "\x41", 1, 7 <unfinished ...>') is None
    whole = lines.read(r"12 fsync(3<\x2f\x61>) = -1 EIO (Input/output error)")
    assert whole is not None
    assert (whole.thread, whole.name, whole.result) == (12, "fsync", -1)
    whole = lines.read(r"11 <... pwrite64 resumed>) = 1")
    assert whole is not None
    assert (whole.thread, whole.fields[2:], whole.result) == (11, ["1", "7"], 1)
    assert text_of(whole.fields[1]) == b"A"
    assert descriptor_of(whole.fields[0]).path == "/a"


@pytest.mark.parametrize(
    "line", ["", "12 +++ exited with 0 +++", "12 --- SIGCHLD ---", "12 read(0<\\x61>,  <detached ...>"]
)
def test_a_line_without_a_call_is_none(line: str) -> None:
    assert Lines().read(line) is None
