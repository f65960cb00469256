"""The programs in JavaScript and C that ship: the reported defect is caught in both, the other way round holds.

``docs/any-language.md`` shows commands that need these; they are run here, word for word.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import NODE, needs_cc, needs_node

from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import EXAMPLES

PAGE = Path(__file__).parents[2] / "docs" / "any-language.md"
UNAVAILABLE = why_unavailable()
needs_strace = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

Command = Callable[..., Any]
Search = Callable[..., Recorder]


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """The command line of an example."""

    def command_of(language: str) -> str:
        if language == "javascript":
            return shlex.join([str(NODE), str(EXAMPLES / "notes.mjs")])
        made = tmp_path / "notes"
        source = str(EXAMPLES / "notes.c")
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", str(made), source, "-lsqlite3"], check=True)
        return shlex.quote(str(made))

    return command_of


in_both = pytest.mark.parametrize(
    "language", [pytest.param("javascript", marks=needs_node), pytest.param("c", marks=needs_cc)]
)


@needs_strace
@pytest.mark.slow
@pytest.mark.quality
@in_both
def test_memory_first_is_caught_and_persist_first_is_not(
    language: str, program: Callable[[str], str], command: Command, tmp_path: Path
) -> None:
    here = f"command:{program(language)}"
    ran = command("syscalls", "--target", f"{here} memory-first", "--points", 8, "--quiet")
    assert ran.code == 1, ran
    checks = set(re.findall(r"^([a-z-]+): ", ran.out, flags=re.MULTILINE))
    assert "memory-equals-disk" in checks
    ran = command("syscalls", "--target", here, "--points", 10, "--quiet")
    assert ran.code == 0, ran
    assert "HOLDS: no check failed. " in ran.out
    for file in sorted((tmp_path / ".tornpage").glob("*memory-equals-disk*.json")):
        assert command("replay", file, "--target", f"{here} memory-first").code == 1
        assert "FIXED" in command("replay", file, "--target", here).out


@needs_strace
@pytest.mark.slow
@pytest.mark.quality
@needs_cc
def test_a_commit_that_fails_when_it_is_done_shows_in_memory(program: Callable[[str], str], command: Command) -> None:
    """The page says so: in the truncate mode to write first is not enough."""
    truncate = ("--configuration", "truncate/FULL", "--profile", "nightly", "--quiet")
    ran = command("syscalls", "--target", f"command:{program('c')}", *truncate)
    assert ran.code == 1, ran
    assert set(re.findall(r"^([a-z-]+): [a-z]", ran.out, flags=re.MULTILINE)) >= {"memory-equals-disk"}
    assert re.search(r"arm f(data)?sync:journal@3=EIO in the system calls", ran.out)


@in_both
def test_an_example_answers_as_the_protocol_says(language: str, program: Callable[[str], str], tmp_path: Path) -> None:
    """Without strace, too: every example can be talked to by hand."""
    asked = [
        '{"do": "describe", "protocol": 1}',
        f'{{"do": "open", "directory": "{tmp_path}", "journal_mode": "wal", "synchronous": "FULL", "now_ms": 1}}',
        '{"do": "call", "action": "put", "args": {"name": "a", "text": "\\u00fc \\"b\\""}, "now_ms": 1}',
        '{"do": "call", "action": "remove", "args": {"name": "c"}, "now_ms": 1}',
        '{"do": "view"}',
        '{"do": "close"}',
    ]
    ran = subprocess.run(
        shlex.split(program(language)), input="\n".join(asked) + "\n", capture_output=True, text=True, check=True
    )
    described, opened, put, removed, viewed, closed = map(json.loads, ran.stdout.splitlines())
    assert described["description"]["database"] == "notes.sqlite"
    assert opened == put == closed == {"answer": "done"}
    assert removed["answer"] == "refused"
    assert viewed == {"answer": "done", "view": {"a": 'ü "b"'}}


# -- the page --------------------------------------------------------------------------------------------------


def commands_of(language: str) -> list[tuple[str, int, str]]:
    """The commands of the page that name a language's example: the line, its exit code, what it prints in part."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    found = []
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            line, _, code = line.partition("  # exit ")
            found.append((line, int(code or 0), expected.strip()))
    return [one for one in found if {"javascript": "node ", "c": "./notes"}[language] in one[0] or one[0][:3] == "cc "]


def test_the_page_shows_the_program_as_it_is() -> None:
    shown = re.findall(r"```js\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert shown
    for block in shown:
        assert block in (EXAMPLES / "notes.mjs").read_text()


@needs_strace
@pytest.mark.slow
@in_both
def test_the_pages_commands_do_what_they_say(language: str, tmp_path: Path) -> None:
    commands = [one for one in commands_of(language) if language == "c" or not one[0].startswith("cc ")]
    assert len(commands) >= 2
    for example in EXAMPLES.iterdir():
        shutil.copy(example, tmp_path)
    tornpage = tmp_path / "bin" / "tornpage"
    tornpage.parent.mkdir()
    tornpage.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tornpage_here "$@"\n')
    tornpage.chmod(0o755)
    (tmp_path / "tornpage_here.py").write_text("from tornpage.scenarios.cli import main\n\nmain()\n")
    first = [str(tornpage.parent), str(Path(str(NODE)).parent), os.environ["PATH"]]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(first),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    for line, code, expected in commands:
        words = ["sh", "-c", line]
        ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == code, (line, ran)
        for wanted in filter(None, (one.strip() for one in expected.splitlines() if one.strip() != "...")):
            pattern = ".*".join(re.escape(piece) for piece in wanted.split("..."))
            assert re.search(pattern, ran.stdout), (wanted, ran.stdout)
