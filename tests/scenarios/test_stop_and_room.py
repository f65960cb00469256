"""Told to stop, or without room: what was done is reported, nothing is left behind, and no target is blamed for it."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_stores
from click import Context, Group

from tornpage.scenarios.cli import tornpage as group
from tornpage.scenarios.model.plan import Plan, Profile, without_password
from tornpage.scenarios.run import scratch as rooms
from tornpage.scenarios.run import whole_file
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.run.reproduce.artifacts import Artifact, ArtifactError, put_down
from tornpage.scenarios.run.scratch import ScratchError
from tornpage.scenarios.run.whole_file import write_whole

Command = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]

_TIMEOUT_S = 120
# The harness, in a process that a store sends signals to in the middle of its work.
STOPPED = """
import signal, sys, threading
import tiny_stores
from tornpage.scenarios.cli import main

# Tests that a shell starts in the background ignore Ctrl-C, and those that nohup starts a hang-up.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
opened, plainly, signals = 0, tiny_stores.Tiny.open, sys.argv.pop()

def told_to_stop(self, directory, configuration, environment):
    global opened
    opened += 1
    if opened == 40:
        names = [getattr(signal, name) for name in signals.split(",")]
        # Blocked until all are there: the first one would end this loop.
        signal.pthread_sigmask(signal.SIG_BLOCK, names)
        for name in names:
            # To this thread: another one may take its signal late, when the run has reported already.
            signal.pthread_kill(threading.main_thread().ident, name)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, names)
    return plainly(self, directory, configuration, environment)

tiny_stores.Tiny.open = told_to_stop
main()
"""


# -- told to stop ------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, str, str]]:
    """Runs a sweep that is sent these signals; its exit code and what it printed."""
    (tmp_path / "room").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "room"))

    def ran(signals: str) -> tuple[int, str, str]:
        # Its last argument is the store's own.
        process = start(STOPPED, "sweep", "--target", "tiny_stores:Tiny", "--configuration", "wal/FULL", signals)
        out, err = process.communicate(timeout=_TIMEOUT_S)
        return process.returncode, out, err

    return ran


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_the_run_with_a_report_a_record_and_its_own_exit_code(
    name: str, code: int, stopped: Callable[[str], tuple[int, str, str]], tmp_path: Path
) -> None:
    found, out, err = stopped(name)
    assert found == code, (out, err)
    assert "INTERRUPTED" in out
    assert "Traceback" not in out + err
    record = json.loads((tmp_path / ".tornpage/run.json").read_bytes())
    assert (record["verdict"], record["complete"]) == ("INTERRUPTED", False)
    assert list((tmp_path / "room").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_the_second_signal_ends_the_run_at_once_and_leaves_nothing(
    stopped: Callable[[str], tuple[int, str, str]], tmp_path: Path
) -> None:
    found, out, err = stopped("SIGHUP,SIGTERM")
    assert found == 143, (out, err)
    assert (out, "Traceback" in err) == ("", False)
    assert list((tmp_path / "room").iterdir()) == []


def test_ctrl_c_while_the_command_is_still_being_loaded_is_one_line(start: Start) -> None:
    process = start(
        "import importlib.abc, sys\n"
        "class Early(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tornpage.scenarios.cli.group': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Early())\n"
        "from tornpage.scenarios.cli import main; main()",
        "targets",
    )
    out, err = process.communicate(timeout=_TIMEOUT_S)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


@pytest.mark.skipif(sys.platform != "linux", reason="where the semaphores of multiprocessing have files")
def test_a_run_that_ends_at_once_leaves_no_semaphore_of_its_workers(start: Start) -> None:
    ends = """
import multiprocessing
from tornpage.scenarios.run import stop

queue = multiprocessing.get_context("spawn").Queue()
print(queue._rlock._semlock.name, flush=True)
stop.end_at_once(2)
"""
    out, err = (process := start(ends)).communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 130, err
    assert out.startswith("/mp-")
    assert not Path(f"/dev/shm/sem.{out.strip().removeprefix('/')}").exists()  # noqa: S108 - the C library's


# -- without room ------------------------------------------------------------------------------------------


class FillsUp(tiny_stores.Tiny):
    """Right; from some opening on there is no room for its files, and it says what SQLite says then."""

    name = "fills-up"
    opened = 0

    def open(self, *arguments: Any) -> tiny_stores.TinySession:
        self.opened += 1
        if self.opened == 60:
            rooms.LEAST_FREE_BYTES = 10**18  # type: ignore[misc]
        session = super().open(*arguments)
        if self.opened >= 60:
            session.transact = lambda *_: None  # type: ignore[method-assign]
        return session


def test_what_a_store_does_without_room_is_not_blamed_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "LEAST_FREE_BYTES", rooms.LEAST_FREE_BYTES)
    plan = Plan(("sweep",), Profile("test", 1, None, 0, 0), report=None)
    with pytest.raises(ScratchError, match=r"bytes are left .* in the scratch directory .*--scratch or TMPDIR"):
        run(FillsUp(), plan)


def test_a_run_without_room_does_not_begin_and_says_where(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rooms, "LEAST_FREE_BYTES", 10**18)
    ran = command("sweep", "--target", "tiny_stores:Tiny", "--scratch", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert f"in the scratch directory {tmp_path}" in ran.err
    assert "Traceback" not in ran.err


def test_scratch_is_below_the_directory_that_is_named_and_else_below_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with rooms.scratch() as directory:
        assert directory.parent == tmp_path
    (tmp_path / "named").mkdir()
    try:
        rooms.choose(tmp_path / "named")
        with rooms.scratch() as directory:
            assert directory.parent == tmp_path / "named"
    finally:
        rooms.choose(None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(ScratchError, match="nowhere: No such file or directory; name another with --scratch"):
        rooms.scratch().__enter__()


# -- what is written ---------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "run.xml"
    write_whole(path, "before")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert [one.name for one in path.parent.iterdir()] == ["run.xml"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_whole(tmp_path / "link", "here")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "here"
    write_whole(Path(os.devnull), "gone")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("option", ["--junit", "--html", "--sarif", "--history", "--report"])
def test_an_output_that_has_no_place_ends_the_command_before_the_work(
    option: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ran = command("sweep", "--target", "tiny_stores:Tiny", option, tmp_path / "file" / "below")
    assert (ran.code, ran.out) == (2, "")
    assert re.search(rf"{option} \S*below: ", ran.err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_output_that_can_not_be_written_makes_exit_code_2_and_keeps_the_verdict(command: Command) -> None:
    small = ("--configuration", "wal/FULL", "--plan", "write:wal@1..=FULL", "--quiet")
    ran = command("sweep", "--target", "tiny_stores:Tiny", *small, "--junit", "/dev/full")
    assert ran.code == 2
    assert "HOLDS" in ran.out
    assert ran.err == "no junit of this run: [Errno 28] No space left on device\n"


def test_git_leaves_a_report_alone(command: Command, tmp_path: Path) -> None:
    command("sweep", "--target", "tiny_stores:Tiny", "--configuration", "wal/FULL", "--plan", "write:wal@1=FULL")
    assert (tmp_path / ".tornpage/.gitignore").read_text().endswith("\n*\n")


# -- what is read, and shown -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\0b", "../a", "/a", "a/../../b", "", "a\nb"])
def test_a_name_that_is_none_is_refused_before_anything_is_put_down(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not the name of a file"):
        put_down(Artifact({"fine": b"x\x9c\x03\0\0\0\0\x01", name: b""}), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://***@host:6379/0"),
        ("see tcp://me:p@ss@host and more@home", "see tcp://***@host and more@home"),
        ("redis://host/0 me@home", "redis://host/0 me@home"),
    ],
)
def test_passwords_in_addresses_are_hidden(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_a_place_for_examples_is_told_without_its_password(command: Command) -> None:
    ran = command("fuzz", "--examples", "redis://:secret@localhost:1/0", "--max-time", "1")
    assert ran.code == 2
    assert "secret" not in ran.out + ran.err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_narrow_standard_output_gets_what_it_can_show(
    encoding: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    code = "import click, tornpage.scenarios.cli.group as g\ng.tornpage.callback\n"
    code += "from tornpage.scenarios.cli.entry import _require_streams as r; r(); print('\\u2026 \\U0001f600')"
    out, err = start(code).communicate(timeout=_TIMEOUT_S)
    assert (out, err) == ("\\u2026 \\ud83d\\ude00\n", "")


def test_without_standard_streams_nothing_is_printed_into_a_file(start: Start, tmp_path: Path) -> None:
    code = "import os, sys; os.close(1); os.close(2); sys.stdout = sys.stderr = None\n"
    code += "from tornpage.scenarios.cli import main; main()"
    process = start(code, "sweep", "--target", "tiny_stores:Tiny", "--plan", "write:wal@1=FULL", "--junit", "j.xml")
    assert process.wait(timeout=_TIMEOUT_S) == 0
    process.communicate()
    assert (tmp_path / "j.xml").read_text().startswith("<?xml")


# -- help --------------------------------------------------------------------------------------------------


def test_the_options_that_most_need_come_first(command: Command) -> None:
    options = re.findall(r"^  (--[a-z-]+)", command("sweep", "--help").out, re.MULTILINE)
    assert options[:7] == ["--target", "--depth", "--plan", "--profile", "--exhaustive", "--seed", "--max-time"]
    assert options.index("--cluster") > options.index("--junit") > options.index("--json")


def test_the_ledgers_help_names_commands_that_exist(command: Command) -> None:
    lines = re.findall(r"^ +tornpage (ledger .*)$", command("ledger", "--help").out, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        found: Any = group
        for word in line.split():
            if isinstance(found, Group):
                found = found.get_command(Context(found), word)
                assert found is not None, line
        assert not isinstance(found, Group), line
