"""Plain files on the tape: whatever way Python code has of changing a file, the tape tells of it or it is noticed."""

import contextlib
import dbm.dumb
import gzip
import io
import json
import logging
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from tornpage import faults
from tornpage.faults import CrashStates, Operation, Tape
from tornpage.faults.files import Replica
from tornpage.faults.files.links import leads_out, link_name, target_in

pytestmark = pytest.mark.usefixtures("shim")


def differing(tape: Tape, directory: Path) -> list[str]:
    """The files that the tape and the directory don't agree about."""
    replica = Replica({})
    replica.follow(tape.operations)
    return replica.different(there(directory))


def there(directory: Path) -> dict[str, bytes]:
    found = {os.fspath(p.relative_to(directory)): p for p in directory.rglob("*")}
    files = {name: p.read_bytes() for name, p in found.items() if p.is_file() and not leads_inside(directory, p)}
    links = {link_name(name): p for name, p in found.items() if leads_inside(directory, p)}
    root = os.fspath(directory)
    return files | {name: target_in(root, os.fsencode(p.readlink())) for name, p in links.items()}


def leads_inside(directory: Path, path: Path) -> bool:
    return path.is_symlink() and not leads_out(os.fspath(directory), os.fspath(path))


def kinds(tape: Tape) -> list[str]:
    return [f"{operation.kind} {operation.path}".strip() for operation in tape.operations]


def write_text(home: Path) -> None:
    (home / "a").write_text("one\n")
    (home / "a").write_text("2")


def append_and_seek(home: Path) -> None:
    with (home / "a").open("wb") as file:
        file.write(b"0123456789")
        file.seek(3)
        file.write(b"xyz")
    with open(home / "a", "a") as file:  # noqa: PTH123 - the builtin is what is tested
        print("end", file=file)
    with (home / "a").open("r+b") as file:
        file.truncate(8)
        file.seek(12)
        file.write(b"past a hole")


def replaced(home: Path) -> None:
    for number in range(3):
        with tempfile.NamedTemporaryFile("w", dir=home, delete=False) as file:
            json.dump({"number": number}, file)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(home / "a.json")


def renamed_while_open(home: Path) -> None:
    with (home / "new").open("w") as file:
        file.write("first ")
        file.flush()
        (home / "new").rename(home / "old")
        file.write("then")


def descriptors(home: Path) -> None:
    descriptor, name = tempfile.mkstemp(dir=home)
    with os.fdopen(descriptor, "w") as file:
        file.write("through a descriptor")
    os.replace(src=name, dst=os.fspath(home / "a"))  # noqa: PTH105 - by keyword is what is tested
    descriptor = os.open(home / "b", os.O_RDWR | os.O_CREAT | os.O_APPEND, mode=0o600)
    os.write(descriptor, b"abc")
    os.write(descriptor, memoryview(b"defg")[1:])
    os.ftruncate(descriptor, 5)
    os.close(descriptor)
    descriptor = os.open(os.fspath(home / "c").encode(), os.O_WRONLY | os.O_CREAT)
    os.pwrite(descriptor, b"there", 7)
    os.close(fd=descriptor)
    os.truncate(path=home / "c", length=9)


def relative_to_a_directory(home: Path) -> None:
    (home / "below").mkdir()
    (home / "below" / "a").write_text("a")
    (home / "below" / "gone").write_text("gone")
    directory = os.open(home, os.O_RDONLY)
    descriptor = os.open("below/b", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
    os.write(descriptor, b"b")
    os.close(descriptor)
    os.unlink("below/gone", dir_fd=directory)
    os.rename("below/a", "moved", src_dir_fd=directory, dst_dir_fd=directory)
    os.close(directory)


def whole_trees(home: Path) -> None:
    (home / "below" / "deeper").mkdir(parents=True)
    for name in ("below/a", "below/deeper/b", "c"):
        (home / name).write_text(name)
    shutil.rmtree(home / "below")
    shutil.move(home / "c", home / "d")


def moved_out(home: Path) -> None:
    (home / "a").write_text("a")
    (home / "b").write_text("b")
    (home / "a").rename(home.parent / "out")
    (home / "b").unlink()
    (home / "b").unlink(missing_ok=True)


def links_and_loops(home: Path) -> None:
    link = home.parent / "link"
    link.symlink_to(home)
    (link / "a").write_text("by another name")
    with contextlib.chdir(home):
        Path("a").rename("a")
        Path("b").write_text("relative")


@pytest.mark.parametrize(
    "change",
    [
        write_text,
        append_and_seek,
        replaced,
        renamed_while_open,
        descriptors,
        relative_to_a_directory,
        whole_trees,
        moved_out,
        links_and_loops,
    ],
)
def test_the_files_are_made_again_from_the_tape(change: Callable[[Path], None], tmp_path: Path) -> None:
    home = tmp_path / "store"
    home.mkdir()
    with faults.record(home) as tape:
        change(home)
    assert len(tape)
    assert not differing(tape, home)


def symbolic_links(home: Path) -> None:
    (home / "v1").mkdir()
    (home / "current").symlink_to("v1")
    (home / "current" / "a").write_text("through the link")
    (home / "v2").mkdir()
    directory = os.open(home, os.O_RDONLY)
    os.symlink(home / "v2", "new", target_is_directory=True, dir_fd=directory)
    os.rename("new", "current", src_dir_fd=directory, dst_dir_fd=directory)
    os.close(directory)
    (home / "current" / "b").write_text("through the next one")
    (home / "to nothing").symlink_to("nothing")
    (home / "to a file").symlink_to(home / "v1" / "a")
    (home / "to a file").write_text("over")
    os.truncate(home / "to a file", 3)
    # The link itself, or its file: as the system and Python do it.
    os.link(home / "to a file", home / "once more")
    os.link(home / "to a file", home / "the link", follow_symlinks=False)
    (home / "v2" / "inside").symlink_to("b")
    (home / "v2").rename(home / "v3")
    (home / "a file").write_text("replaces a link")
    (home / "a file").replace(home / "to nothing")
    (home / "gone").symlink_to("v3")
    (home / "gone").unlink()
    (home / "early").unlink()
    (home / "instead").symlink_to("v3/b")
    (home / "instead").replace(home / "early")


def by_sendfile(home: Path) -> None:
    (home / "a").write_bytes(b"content")
    with (home / "a").open("rb") as source, (home / "b").open("wb") as copy:
        os.sendfile(copy.fileno(), source.fileno(), 2, 3)
        os.sendfile(copy.fileno(), source.fileno(), None, 100)
        os.sendfile(copy.fileno(), source.fileno(), None, 100)


def copies(home: Path) -> None:
    (home / "a").write_bytes(bytes(range(256)) * 50)
    shutil.copyfile(home / "a", home / "b")
    shutil.copy2(home / "a", home / "c")
    shutil.copytree(home, home / "below", ignore=lambda *_: ["below"])


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="only Linux has it")
def by_copy_file_range(home: Path) -> None:
    (home / "a").write_bytes(b"content")
    with (home / "a").open("rb") as source, (home / "b").open("wb") as copy:
        os.copy_file_range(source.fileno(), copy.fileno(), 4, offset_src=1, offset_dst=10)
        os.copy_file_range(source.fileno(), copy.fileno(), 2)


def by_link(home: Path) -> None:
    (home / "a").write_bytes(b"content")
    (home / "b").hardlink_to(home / "a")
    with (home / "b").open("ab") as file:
        file.write(b" of both")
    (home / "a").unlink()


def without_a_buffer(home: Path) -> None:
    with (home / "a").open("wb", buffering=0) as file:
        file.write(b"one")
    with io.FileIO(home / "b", "x") as file:
        file.write(b"two")
        file.truncate(1)
    with io.FileIO(os.open(home / "c", os.O_RDWR | os.O_CREAT), "r+") as file:
        file.write(b"three")

    class Mine(io.FileIO):
        pass

    with io.BufferedRandom(Mine(home / "d", "w+")) as buffered:
        buffered.write(b"four")


def vectors(home: Path) -> None:
    descriptor = os.open(home / "a", os.O_RDWR | os.O_CREAT)
    os.writev(descriptor, [b"ab", bytearray(b"cd"), memoryview(b"ef")])
    os.pwritev(descriptor, [b"x", b"y"], 10)
    os.posix_fallocate(descriptor, 0, 4)
    os.posix_fallocate(descriptor, 10, 90)
    other = os.dup(descriptor)
    os.close(descriptor)
    os.write(other, b"through the duplicate")
    os.close(other)
    descriptor = os.open(home / "a", os.O_WRONLY | os.O_APPEND)
    # Linux appends whatever the offset says.
    os.pwrite(descriptor, b"at the end", 0)
    os.close(descriptor)


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has it")
def without_a_name_at_first(home: Path) -> None:
    descriptor = os.open(home, os.O_TMPFILE | os.O_RDWR)
    os.write(descriptor, b"unseen")
    os.link(f"/proc/self/fd/{descriptor}", home / "a", src_dir_fd=descriptor)
    os.write(descriptor, b", then seen")
    os.close(descriptor)
    with tempfile.TemporaryFile(dir=home) as file:
        file.write(b"never seen")


def renamed_directories(home: Path) -> None:
    (home / "one" / "two").mkdir(parents=True)
    (home / "one" / "two" / "a").write_text("a")
    (home / "one").rename(home / "three")
    (home / "three" / "two" / "a").write_text("b")
    shutil.move(home / "three" / "two", home / "four")


def archives(home: Path) -> None:
    with zipfile.ZipFile(home / "a.zip", "w") as archive:
        archive.writestr("in it", "content")
    with gzip.open(home / "a.gz", "wt") as file:
        file.write("content")
    with dbm.dumb.open(os.fspath(home / "db"), "c") as database:
        database["key"] = "value"
        database["key"] = "value" * 100
    with logging.FileHandler(home / "log").stream as stream:
        stream.write("line\n")


def by_an_early_file(home: Path) -> None:
    EARLY[0].write("after all")
    EARLY[0].flush()


EARLY: list[TextIO] = []


@pytest.mark.parametrize(
    "change",
    [
        by_sendfile, copies, by_copy_file_range, by_link, without_a_buffer, vectors, without_a_name_at_first,
        renamed_directories, archives, by_an_early_file, symbolic_links,
    ],
)  # fmt: skip
def test_rarer_ways_are_seen_too(change: Callable[[Path], None], tmp_path: Path) -> None:
    home = tmp_path / "store"
    home.mkdir()
    EARLY[:] = [(home / "early").open("w")]
    with EARLY[0], faults.record(home) as tape:
        base = there(home)
        change(home)
    replica = Replica(base)
    replica.follow(tape.operations)
    assert len(tape)
    assert not replica.different(there(home))


def by_memory_map(home: Path) -> None:
    (home / "a").write_bytes(bytes(10))
    with (home / "a").open("r+b") as file, mmap.mmap(file.fileno(), 10) as mapped:
        mapped[2:4] = b"xx"


def by_a_child(home: Path) -> None:
    subprocess.run([sys.executable, "-c", f"open({os.fspath(home / 'a')!r}, 'w').write('x')"], check=True)


def by_system(home: Path) -> None:
    os.system(f"echo x > {home / 'a'}")  # noqa: S605 - a name of ours


def by_a_fork(home: Path) -> None:
    child = os.fork()
    if child == 0:
        (home / "a").write_text("x")
        os._exit(0)
    os.waitpid(child, 0)


def by_a_symbolic_link(home: Path) -> None:
    (home.parent / "elsewhere").write_text("x")
    (home / "a").symlink_to(home.parent / "elsewhere")


def from_outside(home: Path) -> None:
    (home.parent / "elsewhere").write_text("x")
    (home.parent / "elsewhere").rename(home / "a")


@pytest.mark.parametrize(
    ("change", "way"),
    [
        (by_memory_map, "a was mapped into memory (mmap)"),
        (by_a_child, f"a child process was started: {sys.executable}"),
        (by_system, "a child process was started: echo x"),
        (by_a_fork, "a child process was started: fork"),
        (by_a_symbolic_link, "a is a symbolic link to a file elsewhere"),
        (from_outside, "a came from outside of the directory (os.rename)"),
    ],
)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork beside threads, where there are some
def test_what_goes_past_the_recorder_is_noticed_and_named(
    change: Callable[[Path], None], way: str, tmp_path: Path
) -> None:
    home = tmp_path / "store"
    home.mkdir()
    with faults.record(home) as tape:
        change(home)
    assert differing(tape, home) == ["a"]
    assert any(note.way.startswith(way) for note in tape.notes), tape.notes


def test_a_map_that_is_only_read_is_not_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    with faults.record(tmp_path) as tape, (tmp_path / "a").open("r+b") as file:
        for access in (mmap.ACCESS_READ, mmap.ACCESS_COPY):
            mmap.mmap(file.fileno(), 10, access=access).close()
        mmap.mmap(-1, 10).close()
    assert not tape.notes


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC"])
def test_a_write_through_a_synced_descriptor_is_durable_when_it_returns(flag: str, tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        descriptor = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT | getattr(os, flag))
        os.write(descriptor, b"x")
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"y")
    assert kinds(tape) == ["create a", "write a", "sync a", "write a", "sync a"]


@pytest.mark.skipif(not hasattr(os, "RWF_SYNC"), reason="only Linux has it")
def test_so_is_one_that_asks_for_it_itself(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape, (tmp_path / "a").open("wb") as file:
        os.pwritev(file.fileno(), [b"x"], 0, os.RWF_DSYNC)
        os.pwritev(file.fileno(), [b"x"], 1, 0)
    assert kinds(tape) == ["create a", "write a", "sync a", "write a"]


def test_a_sync_of_everything_and_one_that_failed_are_on_the_tape(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape, (tmp_path / "a").open("wb") as file:
        os.sync()
        with faults.arm("file-fsync@1=EIO", tmp_path), pytest.raises(OSError, match="Input/output"):
            os.fsync(file)
    assert kinds(tape) == ["create a", "syncall", "failsync a"]


def test_a_file_that_is_open_for_reading_can_be_synced(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        (tmp_path / "a").write_text("x")
        with (tmp_path / "a").open("rb") as file:
            os.fsync(file)
            os.fdatasync(file.fileno())
        directory = os.open(tmp_path, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    assert kinds(tape) == ["create a", "write a", "sync a", "sync a", "syncdir"]


def test_a_sync_after_the_rename_is_the_renamed_files(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape, (tmp_path / "new").open("w") as file:
        file.write("x")
        file.flush()
        (tmp_path / "new").replace(tmp_path / "old")
        os.fsync(file.fileno())
    assert kinds(tape) == ["create new", "write new", "rename new", "sync old"]


def test_a_descriptor_that_was_closed_unseen_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    home = tmp_path / "store"
    home.mkdir()
    with faults.record(home) as tape:
        descriptor = os.open(home / "a", os.O_RDWR | os.O_CREAT)
        # Opened for reading by C code, which closes the descriptor without asking `os`.
        os.fdopen(descriptor, "rb").close()
        with outside.open("wb", buffering=0) as file:
            assert file.fileno() == descriptor, "the number is used again"
            os.write(descriptor, b"somebody else's")
    assert kinds(tape) == ["create a"]


def test_what_fails_is_not_on_the_tape(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        for failing in (
            lambda: os.unlink(tmp_path / "none"),  # noqa: PTH108 - `os` is what is tested
            lambda: os.rename(tmp_path / "none", tmp_path / "b"),  # noqa: PTH104 - the same
            lambda: os.open(tmp_path / "none", os.O_RDONLY),
            lambda: os.truncate(tmp_path / "none", 3),
            lambda: (tmp_path / "none" / "below").write_text("x"),
        ):
            with pytest.raises(OSError, match="No such file"):
                failing()
    assert len(tape) == 0


def test_a_text_file_behaves_as_ever(tmp_path: Path) -> None:
    with faults.record(tmp_path):
        with (tmp_path / "a").open("x", encoding="utf-8", newline="\r\n") as file:
            file.writelines(["ä\n", "b\n"])
        with pytest.raises(FileExistsError):
            (tmp_path / "a").open("x").close()
        assert (tmp_path / "a").read_bytes() == "ä\r\nb\r\n".encode()


def states(tape: Tape) -> list[dict[str, bytes]]:
    return [dict(state.files) for state in CrashStates({}, tape.operations).power(len(tape))]


def save(home: Path, text: str, *, sync_file: bool, sync_directory: bool) -> None:
    with (home / "new").open("w") as file:
        file.write(text)
        file.flush()
        if sync_file:
            os.fsync(file.fileno())
    (home / "new").replace(home / "a")
    if sync_directory:
        directory = os.open(home, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def test_a_rename_without_a_sync_may_leave_an_empty_or_a_torn_file(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        save(tmp_path, "x" * 1000, sync_file=False, sync_directory=True)
    assert {len(files["a"]) for files in states(tape)} == {0, 512, 1000}


def test_a_rename_in_a_directory_that_is_not_synced_may_not_have_happened(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        save(tmp_path, "one", sync_file=True, sync_directory=True)
        save(tmp_path, "two", sync_file=True, sync_directory=False)
    found = states(tape)
    assert {files["a"] for files in found} == {b"one", b"two"}
    assert {"a": b"one", "new": b"two"} in found


def test_a_rename_with_every_sync_is_there(tmp_path: Path) -> None:
    with faults.record(tmp_path) as tape:
        save(tmp_path, "one", sync_file=True, sync_directory=True)
        save(tmp_path, "two", sync_file=True, sync_directory=True)
    assert states(tape) == [{"a": b"two"}]
    assert Operation("rename", "new", other="a") in tape.operations
