"""Faults of plain files: each is what the system would answer, fires once for each match, and is known again."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults.files import functions, spared

pytestmark = pytest.mark.usefixtures("shim")


def save(home: Path, text: str = "x" * 100) -> None:
    """Write a new file, sync it, put it in the place of the old one, sync the directory."""
    with (home / "a.tmp").open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    (home / "a.tmp").replace(home / "a.json")
    directory = os.open(home, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def test_operations_are_counted_by_kind_and_suffix(tmp_path: Path) -> None:
    with faults.count_operations(tmp_path) as counter:
        save(tmp_path)
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "noname").hardlink_to(tmp_path / "a.json")
        (tmp_path / "sub" / "current").symlink_to("noname")
        shutil.rmtree(tmp_path / "sub")
    assert dict(counter.counts) == {
        ("file-create", ".tmp"): 1, ("file-write", ".tmp"): 1, ("file-fsync", ".tmp"): 1, ("file-close", ".tmp"): 1,
        ("file-rename", ".json"): 1, ("file-fsync", "dir"): 1,
        ("file-mkdir", "dir"): 1, ("file-link", "other"): 2, ("file-unlink", "other"): 2, ("file-rmdir", "dir"): 1,
        # To sync the directory, and to remove what is in the other one.
        ("file-open", "dir"): counter.counts["file-open", "dir"],
    }  # fmt: skip


@pytest.mark.parametrize("line", [line for line in faults.possibilities() if line.kind in faults.FILE_KINDS], ids=str)
def test_each_fault_of_the_catalogue_is_raised_with_its_number(line: faults.Possibility, tmp_path: Path) -> None:
    def everything(home: Path) -> None:
        save(home)
        with (home / "a.json").open("r+") as file:
            file.truncate(10)
        (home / "sub").mkdir()
        (home / "sub" / "noname").hardlink_to(home / "a.json")
        (home / "sub" / "noname").unlink()
        (home / "sub").rmdir()

    for effect in set(line.effects) - {faults.KILL, "SHORT"}:
        home = tmp_path / effect
        home.mkdir()
        with faults.arm(f"{line.kind}@1/{line.timing}={effect}", home) as armed:
            with pytest.raises(OSError, match=r".") as caught:
                everything(home)
            assert armed.saw(caught.value)
        assert caught.value.errno == getattr(errno, effect)
        assert str(armed) == f"{armed.plan}: 1 armed, 1 fired, 1 surfaced"


@pytest.mark.parametrize(
    ("plan", "there"),
    [
        ("file-create:.tmp@1=EMFILE", set()),
        ("file-write:.tmp@1=ENOSPC", {"a.tmp"}),
        ("file-fsync:.tmp@1=EIO", {"a.tmp"}),
        ("file-rename:.json@1=ENOSPC", {"a.tmp"}),
        ("file-rename:.json@1/after=EIO", {"a.json"}),
        ("file-fsync:dir@1=EIO", {"a.json"}),
    ],
)
def test_before_does_nothing_and_after_does_all(plan: str, there: set[str], tmp_path: Path) -> None:
    with faults.arm(plan, tmp_path), pytest.raises(OSError, match=r"Too many|No space|Input/output"):
        save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == there


def test_the_error_names_its_files_as_python_does(tmp_path: Path) -> None:
    with faults.arm("file-rename@1=EACCES", tmp_path), pytest.raises(PermissionError) as caught:
        save(tmp_path)
    assert (caught.value.filename, caught.value.filename2) == (tmp_path / "a.tmp", tmp_path / "a.json")
    with faults.arm("file-create@1=EACCES", tmp_path), pytest.raises(PermissionError) as caught:
        (tmp_path / "b").write_text("x")
    assert caught.value.filename == os.fspath(tmp_path / "b")
    with faults.arm("file-close@1/after=EINTR", tmp_path), pytest.raises(InterruptedError) as caught:
        (tmp_path / "b").write_text("x")
    assert caught.value.filename is None


def test_a_short_write_says_how_much_it_wrote(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    with faults.arm("file-write@1/half=SHORT", tmp_path) as armed:
        assert os.write(descriptor, b"0123456789") == 5
        assert os.write(descriptor, b"rest") == 4
    os.close(descriptor)
    assert (tmp_path / "a").read_bytes() == b"01234rest"
    assert (armed.fired, armed.surfaced) == (1, 0)


@pytest.mark.parametrize(("function", "more"), [("writev", ()), ("pwritev", (0,))])
def test_buffers_are_passed_on_themselves(function: str, more: tuple[int, ...], tmp_path: Path) -> None:
    # For O_DIRECT they are aligned, and a copy is not.
    page, passed = bytearray(10), list[object]()

    def original(descriptor: int, buffers: list[object], *_: object) -> int:
        passed.extend(buffers)
        return os.write(descriptor, b"".join(buffers))  # type: ignore[arg-type]

    with (tmp_path / "a").open("wb") as file:
        assert functions.BODIES[function](original, file.fileno(), [page, page], *more) == 20
    assert all(one is page for one in passed)


def test_a_buffered_file_writes_the_rest_by_itself(tmp_path: Path) -> None:
    with faults.arm("file-write@1..=SHORT".replace("=", "/half="), tmp_path):
        (tmp_path / "a").write_text("0123456789")
    assert (tmp_path / "a").read_text() == "0123456789"


def test_a_disk_that_is_full_in_the_middle_fails_the_next_write(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    with faults.arm("file-write@1/half=ENOSPC", tmp_path):
        assert os.write(descriptor, b"0123456789") == 5
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                os.write(descriptor, b"56789")
        assert os.write(descriptor, b"there is room again") == 19
    os.close(descriptor)
    assert (tmp_path / "a").read_bytes() == b"01234there is room again"


def test_a_write_whose_answer_was_lost_leaves_the_position_where_it_was(tmp_path: Path) -> None:
    # Linux moves it only where the call reports success, so a buffered file writes the same again at its place.
    with faults.arm("file-write@1/after=EIO", tmp_path):
        with pytest.raises(OSError, match="Input/output"):
            (tmp_path / "a").write_bytes(b"0123456789")
        assert (tmp_path / "a").read_bytes() == b"0123456789"
    with faults.arm("file-write@1/after=EIO", tmp_path):
        file = (tmp_path / "a").open("ab")
        file.write(b"ab")
        with pytest.raises(OSError, match="Input/output"):
            file.flush()
        file.close()
        assert (tmp_path / "a").read_bytes() == b"0123456789abab"
    source, destination = os.open(tmp_path / "a", os.O_RDONLY), os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
    with faults.arm("file-write@1/after=EIO", tmp_path):
        with pytest.raises(OSError, match="Input/output"):
            os.sendfile(destination, source, None, 4)
        assert os.sendfile(destination, source, None, 4) == 4
    assert (tmp_path / "b").read_bytes() == b"0123"
    os.close(source)
    os.close(destination)


@pytest.mark.parametrize("plan", ["file-write@1=ENOSPC", "file-write@1/half=ENOSPC"])
def test_what_a_buffered_file_could_not_write_is_not_written_when_it_is_closed(plan: str, tmp_path: Path) -> None:
    with faults.arm(plan, tmp_path) as armed:
        with pytest.raises(OSError, match="No space"), (tmp_path / "a").open("w") as file:
            print("0123456789", end="", file=file, flush=True)
        (tmp_path / "b").write_text("0123456789")
    assert (tmp_path / "a").read_text() == ("01234" if "half" in plan else "")
    assert len(armed.firings) == 1


def test_a_file_that_is_written_anew_may_find_room(tmp_path: Path) -> None:
    with faults.arm("file-write@1=ENOSPC", tmp_path):
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "a").write_text("one")
        (tmp_path / "a").write_text("two")
    assert (tmp_path / "a").read_text() == "two"


def test_a_pattern_stands_for_a_name(tmp_path: Path) -> None:
    with faults.arm("file-create:blob-[0-9]*@2=ENOSPC", tmp_path) as armed:
        for name in ("other.json", "blob-1.bin", "blob-x"):
            (tmp_path / name).write_text("x")
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "blob-22.bin").write_text("x")
    assert armed.firings[0].path == os.fspath(tmp_path / "blob-22.bin")


@pytest.mark.parametrize(
    "suffix", [".json", ".db", ".mp3", ".sqlite3", "", ".x8f2ab3d", ".k3jx_9ab", ".2026-11-27", ".snapshots"]
)
def test_a_suffix_that_may_be_drawn_at_random_is_no_role(suffix: str, tmp_path: Path) -> None:
    with faults.count_operations(tmp_path) as counter:
        (tmp_path / f"name{suffix}").write_text("x")
    says_something = suffix in {".json", ".db", ".mp3", ".sqlite3"}
    assert {role for _, role in counter.counts} == {suffix if says_something else "other"}


def by_os(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


def by_copy(path: Path) -> None:
    shutil.copyfile(__file__, path)


def by_vector(path: Path) -> None:
    with path.open("wb") as file:
        os.pwritev(file.fileno(), [b"x"], 0)


@pytest.mark.parametrize("write", [by_os, by_copy, by_vector, lambda path: path.write_text("x")])
@pytest.mark.parametrize("plan", ["file-write@1=ENOSPC", "file-create@1=EDQUOT", "file-close@1/after=EIO"])
def test_it_fires_whatever_function_writes(write: Callable[[Path], None], plan: str, tmp_path: Path) -> None:
    with faults.arm(plan, tmp_path) as armed, pytest.raises(OSError, match=r"space|quota|Input/output"):
        write(tmp_path / "a")
    assert armed.fired == 1


def test_reading_meets_only_faults_of_opening(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with faults.count_operations(tmp_path) as counter:
        assert (tmp_path / "a").read_text() == "x"
        assert not (tmp_path / "none").exists()
        with pytest.raises(FileNotFoundError):
            (tmp_path / "none").read_text()
    assert dict(counter.counts) == {("file-open", "other"): 1}


def test_what_fails_by_itself_meets_no_fault(tmp_path: Path) -> None:
    with faults.count_operations(tmp_path) as counter:
        (tmp_path / "none").unlink(missing_ok=True)
        tmp_path.mkdir(exist_ok=True)
        for failing in ((tmp_path / "none").rmdir, lambda: (tmp_path / "none").rename(tmp_path / "b")):
            with pytest.raises(FileNotFoundError):
                failing()
    assert not counter.counts


def test_files_elsewhere_and_what_is_spared_meet_none(tmp_path: Path) -> None:
    home = tmp_path / "store"
    home.mkdir()
    with faults.arm("file-create@*=ENOSPC", home) as armed:
        (tmp_path / "elsewhere").write_text("x")
        with spared():
            (home / "a").write_text("x")
        with faults.spare():
            (home / "b").write_text("x")
        with armed.paused():
            (home / "c").write_text("x")
        assert not armed.fired
        with pytest.raises(OSError, match="No space"):
            (home / "d").write_text("x")


def test_an_error_of_the_system_is_none_of_ours(tmp_path: Path) -> None:
    with faults.arm("file-create@1=ENOSPC", tmp_path) as armed:
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "a").write_text("x")
        with pytest.raises(FileNotFoundError) as caught:
            (tmp_path / "none" / "a").write_text("x")
        assert not armed.saw(caught.value)


def test_what_a_failed_operation_did_is_on_the_tape(tmp_path: Path) -> None:
    for plan, kinds in (
        ("file-write@1/half=ENOSPC", ["create", "write"]),
        ("file-fsync:.tmp@1/after=EIO", ["create", "write", "sync", "failsync"]),
        ("file-rename@1/after=EIO", ["create", "write", "sync", "rename"]),
        ("file-rename@1=EIO", ["create", "write", "sync"]),
    ):
        home = tmp_path / str(len(list(tmp_path.iterdir())))
        home.mkdir()
        with (
            faults.record(home) as tape,
            faults.arm(plan.replace("@1", "@1.."), home),
            pytest.raises(OSError, match=r"."),
        ):
            save(home)
        assert [operation.kind for operation in tape.operations][: len(kinds)] == kinds
