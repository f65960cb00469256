"""Rivals beside programs of their own, and kills of them: real locks, real deaths, and who should be caught is."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import needs_cc

from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ProcessTarget

HERE = Path(__file__).parent
UNAVAILABLE = why_unavailable()
pytestmark = [pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE)), needs_cc]

Command = Callable[..., Any]
Search = Callable[..., Recorder]
Program = Callable[[str], tuple[str, ...]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The command of a store in C with a defect."""
    made, source = tmp_path / "outside", str(HERE / "outside_stores.c")
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", str(made), source, "-lsqlite3"], check=True)
    return lambda mode: (str(made), mode)


@pytest.mark.slow
def test_a_store_that_waits_holds_and_its_minute_passes_at_once(program: Program, search: Search) -> None:
    """Its busy timeout is a minute: nobody waits for it in real time."""
    with ProcessTarget(program("sound"), "sound") as target:
        recorder = search(target, "contend")
    assert [one.finding.message for one in recorder.findings] == []
    assert not recorder.vacuous
    assert recorder.complete
    assert recorder.count("contentions") > 20
    assert recorder.count("waited") > 10
    assert recorder.count("surfaced") > 5


@pytest.mark.quality
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "code"), [("no-timeout", "waits-for-a-short-lock"), ("hides-busy", "acknowledged-is-durable")]
)
def test_what_a_rival_shows_is_caught_and_its_twin_mends_it(
    mode: str, code: str, program: Program, command: Command, tmp_path: Path
) -> None:
    named, twin = (f"command:{shlex.join(program(one))}" for one in (mode, "sound"))
    ran = command("contend", "--target", named, "--points", 4, "--quiet")
    assert ran.code == 1, ran
    assert f"\n{code}: " in ran.out, ran
    assert "from the beginning of the call on" in ran.out
    file = min((tmp_path / ".tornpage").glob(f"*-{code}-*.json"))
    assert command("replay", file, "--target", named).code == 1
    assert "FIXED" in command("replay", file, "--target", twin).out


def test_a_program_is_killed_in_one_call_and_in_the_whole_workload(program: Program, search: Search) -> None:
    with ProcessTarget(program("sound"), "sound") as target:
        recorder = search(target, "kill", kills=8)
    assert [one.finding.message for one in recorder.findings] == []
    assert recorder.complete
    assert recorder.count("kills") == 8
    assert recorder.count("warm") == 2


@pytest.mark.quality
@pytest.mark.slow
def test_a_change_in_two_transactions_is_killed_between_them(search: Search) -> None:
    command = (sys.executable, str(HERE / "speaking_stores.py"), "two-transactions")
    with ProcessTarget(command, "two-transactions") as target:
        recorder = search(target, "kill", kills=60)
    assert "all-or-nothing" in {one.finding.code for one in recorder.findings}


LAUNCHER = """
import json, os, subprocess, sys
store = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
for line in sys.stdin:
    store.stdin.write(line)
    store.stdin.flush()
    said = json.loads(store.stdout.readline())
    if sys.argv[2] == "its-own" and "pid" in said:
        said["pid"] = os.getpid()
    print(json.dumps(said), flush=True)
store.stdin.close()
store.wait()
"""


def test_a_launcher_that_gives_its_own_pid_is_named_before_any_rival(search: Search, tmp_path: Path) -> None:
    """A lock that the store was refused is seen at the process that does the I/O only."""
    launcher = tmp_path / "launcher.py"
    launcher.write_text(LAUNCHER)
    command = sys.executable, str(launcher), str(HERE / "speaking_stores.py")
    with (
        ProcessTarget((*command, "its-own"), "launcher") as target,
        pytest.raises(TargetError, match="its process makes no system call on"),
    ):
        search(target, "contend", points=2)
    with ProcessTarget((*command, "the-store's"), "launcher") as target:
        recorder = search(target, "contend", points=1)
    assert [one.finding.message for one in recorder.findings] == []
    assert recorder.count("contentions")
