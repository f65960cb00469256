"""``tornpage doctor``: a sound program is ready, and each way to break the protocol gets one clear line, soon."""

import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.run import doctor
from tornpage.scenarios.targets.process.program import HungError

HERE = Path(__file__).parent
UNAVAILABLE = why_unavailable()
needs_strace = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

Command = Callable[..., Any]

BROKEN = {
    "describe": "garbage empty number list null kind no_kind field bytes cut trace hangs dies closes chats refuses "
    "fails no_description no_beat newer text pid flat no_calls calls_text calls_args no_rows rows_text beat_text "
    "elsewhere above mode level limit typo check attached",
    "open": "garbage hangs dies chats twice refuses fails other path",
    "call": "garbage kind hangs dies refuses fails nothing",
    "view": "garbage hangs dies as_list none other missing fails",
    "close": "garbage hangs dies fails not",
}
MODES = [f"{step}-{how}" for step, ways in BROKEN.items() for how in ways.split()]
# What the line has to name, where that is not the step.
SAID = {
    "describe-newer": "speaks protocol 2, this tornpage speaks 1",
    "describe-typo": "unknown field `datebase`",
    "describe-no_beat": "missing required field `beat`",
    "describe-hangs": "and is idle: does it read lines from its standard input",
    "describe-above": "'../store.db'; it is a path inside the given directory",
    "describe-mode": "unknown configuration 'wall/FULL'",
    "open-other": "there is no store.db in the directory",
    "open-dies": "out of cheese",
    "call-nothing": "has to add one key to the view",
    "call-hangs": 'did not answer "call" within 1 s',
    "view-missing": 'was asked for its "view", and answered without one',
    "view-other": "has to add one key to the view",
    "close-not": "after closing, the process still has these open: store.db",
}


def named(script: str, *words: str) -> str:
    return f"command:{shlex.join([sys.executable, str(HERE / script), *words])}"


# All of them take a while; every third one is tried whenever the fast tests are.
@pytest.mark.parametrize(
    "mode", [pytest.param(one, marks=[pytest.mark.slow] if index % 3 else []) for index, one in enumerate(MODES)]
)
def test_what_is_broken_gets_one_clear_line_soon(mode: str, command: Command) -> None:
    began = time.monotonic()
    ran = command("doctor", "--target", named("broken_adapters.py", mode))
    took_s = time.monotonic() - began
    assert ran.code == 2, ran
    (line,) = [one for one in (ran.out + ran.err).splitlines() if re.match(r"WRONG|Error", one)] or [str(ran)]
    assert SAID.get(mode, mode.partition("-")[0]) in line
    assert "Traceback (most recent call last):\n  File" not in ran.err
    # On a machine with other things to do, too: nobody waits for the 30 s that a runtime may take to start.
    assert took_s < 12


@needs_strace
def test_a_sound_program_is_ready_and_its_cost_is_told(command: Command) -> None:
    target = named("speaking_stores.py", "right")
    ran = command("doctor", "--target", target)
    assert ran.code == 0, ran
    assert [line.split()[0] for line in ran.out.splitlines()] == ["right"] * 4 + ["ready:"]
    assert re.search(
        r"[0-9]+ points at wal/FULL; one takes [0-9]+ ms, one that kills [0-9]+ ms: about [0-9]+ s", ran.out
    )
    assert re.search(r"the [0-9]+ recorded operations give the files on disk", ran.out)


@needs_strace
def test_a_beat_may_touch_keys_that_the_description_names(command: Command) -> None:
    ran = command("doctor", "--target", named("speaking_stores.py", "logs"))
    assert ran.code == 2, ran
    assert "has to add one key to the view" in ran.out + ran.err
    said = named("speaking_stores.py", "logs-and-says-so")
    assert command("doctor", "--target", said).code == 0
    swept = command("syscalls", "--target", said, "--points", "2", "--quiet")
    assert swept.code == 0, swept


def test_without_strace_it_says_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = command("doctor", "--target", named("speaking_stores.py", "right"))
    assert ran.code == 2, ran
    assert "WRONG  strace: " in ran.out
    assert "apt install strace" in ran.out


def test_a_target_in_this_process_needs_no_doctor(command: Command) -> None:
    ran = command("doctor", "--target", "reference")
    assert ran.code == 2
    assert "doctor is for --target 'command:PROGRAM ...'" in ran.err


def test_a_helper_is_copied_and_what_is_there_is_left_alone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "notes.mjs").write_text("mine")
    ran = command("adapter", "node", "made")
    assert ran.code == 0, ran
    assert ran.out == "made made/tornpage.mjs\n"
    assert ran.err == "made/notes.mjs exists already, and is not overwritten\n"
    assert (tmp_path / "made" / "notes.mjs").read_text() == "mine"


def test_a_program_that_describes_itself_once_and_then_hangs_gets_one_clear_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object) -> None:
        raise HungError('it did not answer "describe" within 0.3 s')

    monkeypatch.setattr(doctor, "Program", hangs)
    ran = command("doctor", "--target", named("broken_adapters.py", "sound"))
    assert ran.code == 2
    assert 'WRONG  describe: it did not answer "describe" within 0.3 s' in ran.out + ran.err
    assert "internal error" not in ran.out + ran.err
