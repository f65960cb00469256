"""Power cuts for programs of their own: what loses an acknowledged change is caught, in C and in Node; twins hold."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import NODE, needs_cc, needs_node

from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ProcessTarget

HERE = Path(__file__).parent
UNAVAILABLE = why_unavailable()
pytestmark = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

Command = Callable[..., Any]
Search = Callable[..., Recorder]
Program = Callable[[str, str], tuple[str, ...]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """The command of a store with a defect, in C or JavaScript."""

    def command_of(language: str, mode: str) -> tuple[str, ...]:
        if language == "javascript":
            return (str(NODE), str(HERE / "outside_stores.mjs"), mode)
        made = tmp_path / "outside"
        if not made.exists():
            source = str(HERE / "outside_stores.c")
            subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", str(made), source, "-lsqlite3"], check=True)
        return (str(made), mode)

    return command_of


in_both = pytest.mark.parametrize(
    "language", [pytest.param("c", marks=needs_cc), pytest.param("javascript", marks=needs_node)]
)


@pytest.mark.quality
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "code", "crash"),
    [
        ("off", "acknowledged-is-durable", "the power fails"),
        ("answers-early", "acknowledged-is-durable", "the process dies"),
        ("meta", "still-usable-after-the-fault", "the power fails"),
    ],
)
@in_both
def test_what_loses_data_is_caught_and_its_twin_mends_it(
    language: str, mode: str, code: str, crash: str, program: Program, command: Command, tmp_path: Path
) -> None:
    named = f"command:{shlex.join(program(language, mode))}"
    twin = f"command:{shlex.join(program(language, 'meta-synced' if mode == 'meta' else 'sound'))}"
    ran = command("crash", "--target", named, "--states", 10, "--json")
    assert ran.code == 1, ran
    found = {one["check"]: one for one in json.loads(ran.out)["findings"]}
    assert crash in str(found[code]["scenario"]["steps"]) + str(found[code]), found[code]
    (file,) = (tmp_path / ".tornpage").glob(f"*-{code}-*.json")
    assert command("replay", file, "--target", named).code == 1
    assert "FIXED" in command("replay", file, "--target", twin).out


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sound", "meta-synced"])
@in_both
def test_what_keeps_its_promise_holds_in_every_state(
    language: str, mode: str, program: Program, search: Search
) -> None:
    with ProcessTarget(program(language, mode), mode) as target:
        recorder = search(target, "crash", crash_states=None if mode == "sound" else 20)
    assert [one.finding.message for one in recorder.findings] == []
    assert not recorder.vacuous
    assert recorder.complete
    assert recorder.count("states") > (2_000 if mode == "sound" else 500)


@needs_cc
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("maps", "mmap on n.db makes a writable map, and no system call shows the writes through it"),
        ("copies", "sendfile on copy.db copies inside the kernel from a file whose contents are unknown"),
    ],
)
def test_what_can_not_be_followed_ends_it_and_is_named(
    mode: str, said: str, program: Program, command: Command
) -> None:
    ran = command("crash", "--target", f"command:{shlex.join(program('c', mode))}", "--quiet")
    assert ran.code == 2, ran
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_program_that_another_one_answers_for_is_refused(command: Command) -> None:
    """The order of what it does and what it says would not be known."""
    store = shlex.join([sys.executable, str(HERE / "speaking_stores.py"), "right"])
    ran = command("crash", "--target", f"command:{shlex.join(['sh', '-c', f'{store} | cat'])}", "--quiet")
    assert ran.code == 2, ran
    assert "does the I/O, and another one answers" in ran.err


def test_the_same_seed_tries_the_same_states(search: Search) -> None:
    command = (sys.executable, str(HERE / "speaking_stores.py"), "right")
    with ProcessTarget(command, "right") as target:
        first, again, other = (search(target, "crash", crash_states=10, seed=seed) for seed in (1, 1, 2))
    assert first.count("disks") == again.count("disks")
    assert first.count("states") == again.count("states")
    assert other.count("states")
