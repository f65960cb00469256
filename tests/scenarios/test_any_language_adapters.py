"""The helpers for other languages, with their examples: the bug is caught in each, with its fault; the twin holds."""

import json
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
from tornpage.scenarios.targets.process import ADAPTERS

UNAVAILABLE = why_unavailable()
needs_strace = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

Command = Callable[..., Any]


def needs(program: str, asked: list[str], reason: str) -> pytest.MarkDecorator:
    """Skips where a language, or its SQLite, isn't there."""
    there = shutil.which(program) is not None and not subprocess.run(asked, capture_output=True, check=False).returncode
    return pytest.mark.skipif(not there, reason=reason)


HAS_SQLITE3 = "exit((int)!class_exists('SQLite3'));"
in_each = pytest.mark.parametrize(
    "language",
    [
        pytest.param("node", marks=needs_node),
        "python",
        pytest.param("c", marks=needs_cc),
        pytest.param("php", marks=needs("php", ["php", "-r", HAS_SQLITE3], "no php: apt install php-cli php-sqlite3")),
        pytest.param(
            "ruby", marks=needs("ruby", ["ruby", "-e", "require 'sqlite3'"], "no ruby: apt install ruby ruby-sqlite3")
        ),
        # To build it takes a while.
        pytest.param(
            "go", marks=[pytest.mark.slow, needs("go", ["go", "version"], "no go: apt install golang"), needs_cc]
        ),
    ],
)


@pytest.fixture
def adapter(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """The command of a language's example, where it was copied to."""

    def made(language: str) -> list[str]:
        home = tmp_path / "adapter"
        shutil.copytree(ADAPTERS / language, home, ignore=shutil.ignore_patterns("__pycache__"))
        built = home / "notes"
        if language == "c":
            source = str(home / "notes.c")
            subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", str(built), source, "-lsqlite3"], check=True)
        if language == "go":
            subprocess.run(["go", "build", "-o", str(built), "."], cwd=home, check=True)
        return {
            "node": [str(NODE), str(home / "notes.mjs")],
            "python": [sys.executable, str(home / "notes.py")],
            "php": ["php", str(home / "notes.php")],
            "ruby": ["ruby", str(home / "notes.rb")],
        }.get(language, [str(built)])

    return made


@in_each
def test_a_helper_answers_as_the_protocol_says(
    language: str, adapter: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """Without strace, too; what can't be opened has failed, and the program goes on."""
    asked = [
        {"do": "describe", "protocol": 1},
        {"do": "open", "directory": "/nowhere", "journal_mode": "wal", "synchronous": "FULL", "now_ms": 1},
        {"do": "open", "directory": str(tmp_path), "journal_mode": "wal", "synchronous": "FULL", "now_ms": 1},
        {"do": "call", "action": "put", "args": {"name": "a", "text": 'ü "b"'}, "now_ms": 1},
        {"do": "call", "action": "remove", "args": {"name": "c"}, "now_ms": 1},
        {"do": "view"},
        {"do": "close"},
    ]
    lines = "".join(json.dumps(one) + "\n" for one in asked)
    ran = subprocess.run(adapter(language), input=lines, capture_output=True, text=True, check=True)
    described, failed, opened, put, removed, viewed, closed = map(json.loads, ran.stdout.splitlines())
    assert described["description"]["database"] == "notes.sqlite"
    assert failed["answer"] == "failed"
    assert failed["message"]
    assert opened == put == closed == {"answer": "done"}
    assert removed == {"answer": "refused", "message": "no such note"}
    assert viewed == {"answer": "done", "view": {"a": 'ü "b"'}}


@needs_strace
@pytest.mark.slow
@pytest.mark.quality
@in_each
def test_memory_first_is_caught_with_its_fault_and_the_twin_mends_it(
    language: str, adapter: Callable[[str], list[str]], command: Command, tmp_path: Path
) -> None:
    sound = f"command:{shlex.join(adapter(language))}"
    ran = command("syscalls", "--target", f"{sound} memory-first", "--points", 3, "--quiet")
    assert ran.code == 1, ran
    assert "memory-equals-disk: " in ran.out
    assert re.search(r"arm \w+:wal@1=\w+ in the system calls\n +3\. put\(name='milk', text='buy'\)", ran.out), ran.out
    file = min((tmp_path / ".tornpage").glob("*memory-equals-disk*.json"))
    assert command("replay", file, "--target", f"{sound} memory-first").code == 1
    assert "FIXED" in command("replay", file, "--target", sound).out
    ran = command("crash", "--target", sound, "--states", 4, "--quiet")
    assert ran.code == 0, ran


ROLLED_BACK = """
require "sqlite3"
require ARGV[0]
class Adapter
  def initialize = @db = SQLite3::Database.new(":memory:")
  # SQLite rolls back by itself when the disk is full.
  def fail_so
    @db.execute("ROLLBACK")
    raise SQLite3::FullException, "database or disk is full"
  end
  def call(name, _args, _now_ms)
    return @db.transaction { fail_so } if name == "block"
    @db.execute("BEGIN")
    begin
      fail_so
    rescue SQLite3::Exception
      @db.execute("ROLLBACK")
    end
  end
end
adapter = Adapter.new
%w[block itself].each { |name| puts Tornpage.answer({}, adapter, { "do" => "call", "action" => name })[:message] }
"""


@needs("ruby", ["ruby", "-e", "require 'sqlite3'"], "no ruby: apt install ruby ruby-sqlite3")
def test_the_ruby_gem_hides_no_error_by_its_own_rollback() -> None:
    script = ["ruby", "-e", ROLLED_BACK, str(ADAPTERS / "ruby" / "tornpage.rb")]
    block, itself = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert block == "SQLite3::FullException: database or disk is full"
    assert itself == "SQLite3::SQLException: cannot rollback - no transaction is active"
