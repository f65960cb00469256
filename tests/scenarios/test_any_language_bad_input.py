"""Programs that do not keep to the protocol: each gets a clear line and exit code 2, or a finding under a fault."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.faults.strace import why_unavailable
from tornpage.scenarios.model.target import Configuration, Environment, TargetError
from tornpage.scenarios.targets.process import HungError, ProcessTarget
from tornpage.scenarios.targets.process.program import Program
from tornpage.scenarios.targets.process.protocol import Look

STORES = Path(__file__).with_name("speaking_stores.py")
WAL = Configuration("wal", "FULL")
UNAVAILABLE = why_unavailable()
needs_strace = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

Command = Callable[..., Any]


def speaking(mode: str) -> str:
    return f"command:{shlex.join([sys.executable, str(STORES), mode])}"


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("dies-in-describe", 'ended (exit code 3) instead of answering "describe"; its standard error ends: out of c'),
        ("garbage-in-describe", "wrote 'hello there' to its standard output in answer to \"describe\""),
        ("unknown-field", "Object contains unknown field `datebase`"),
        ("no-calls", "Expected `array` of length >= 1 - at `$.description.calls`"),
        ("no-description", "was asked to describe itself, and answered"),
        ("newer-protocol", 'speaks protocol 2, this tornpage speaks 1: answer "describe" with "protocol": 1'),
        ("path-as-database", "it is a path inside the given directory"),
        ("unknown-check", "'no-such-check', which is not a check; known: memory-equals-disk"),
        ("unknown-mode", "unknown configuration 'wall/FULL'"),
        ("for-files", 'the configuration "file", which is for stores without SQLite'),
    ],
)
def test_a_description_that_is_none_is_a_usage_error(mode: str, said: str, command: Command) -> None:
    ran = command("syscalls", "--target", speaking(mode))
    assert ran.code == 2, ran
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fails-to-open", "opening the store fails without any fault: StoreError('the licence has expired')"),
        ("hangs-in-open", 'did not answer "open" within 1 s (is each line of its standard output flushed?)'),
        ("hangs-in-call", 'did not answer "call" within 1 s'),
        ("hangs-in-close", 'did not answer "close" within 1 s'),
        ("dies-in-open", 'ended (exit code 3) instead of answering "open"; its standard error ends: out of cheese'),
        ("dies-in-call", 'ended (exit code 3) instead of answering "call"'),
        ("garbage-in-view", 'to its standard output in answer to "view"'),
        ("talks-too-much", 'to its standard output before it was asked to "open"'),
        ("logs", "docs/contract.md#the-beat-adds-one-key"),
        ("random", "the same calls lead to another state in another directory"),
        ("bad-query", "no such table: nowhere"),
        ("one-column", "'SELECT key FROM t' has to select a key and at least one value"),
    ],
)
@needs_strace
def test_a_program_that_fails_without_any_fault_is_not_tested(mode: str, said: str, command: Command) -> None:
    ran = command("syscalls", "--target", speaking(mode), "--quiet")
    assert ran.code == 2, ran
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_program_that_hangs_from_the_start_is_killed() -> None:
    with pytest.raises(TargetError, match=r'did not answer "describe" within 0\.2 s'):
        ProcessTarget((sys.executable, str(STORES), "hangs-in-describe"), "hangs", answers_within_s=0.2)


def test_a_program_that_hung_is_gone(home: Path) -> None:
    with ProcessTarget((sys.executable, str(STORES), "hangs-in-view"), "hangs") as target:
        session = target.open(home, WAL, Environment())
        with pytest.raises(HungError):
            session.live_view()
        assert not Path(f"/proc/{session.program.pid}").exists()
        session.close()


ENDS_BY_ITSELF = """
import json, pathlib, sys
for line in sys.stdin:
    calls = {"calls": [{"name": "a"}], "beat": {"name": "b"}}
    description = {"title": "t", "database": "a.db", "rows": ["SELECT 1, 2"], **calls}
    if "describe" in line:
        print(json.dumps({"answer": "done", "protocol": 1, "description": description}), flush=True)
pathlib.Path(sys.argv[1]).touch()
"""


@pytest.mark.parametrize("owes", [True, False])
def test_a_program_that_owes_an_answer_gets_no_time_to_end_by_itself(
    owes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = tmp_path / "ended"
    program = Program((sys.executable, "-c", ENDS_BY_ITSELF, str(ended)), 10)

    def interrupted(_asked: str) -> bytes:
        raise KeyboardInterrupt

    if owes:
        monkeypatch.setattr(program, "_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            program.ask(Look())
    else:
        program.end()
    assert ended.exists() is not owes
    assert not program.alive


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "names no program; write command:PROGRAM ARGUMENT"),
        ("'", "as a command line: No closing quotation"),
        ("no-such-program-at-all", "can't be started (No such file or directory): is there such a program"),
        ("./plain", "can't be started (Permission denied): make it executable (chmod +x)"),
        ("./bare", "can't be started (Exec format error): a script needs a first line such as #!/usr/bin/env node"),
        ("./not-here/store", "'./not-here/store' can't be started"),
    ],
)
def test_what_can_not_be_started_says_why_and_what_to_do(
    words: str, said: str, command: Command, tmp_path: Path
) -> None:
    for name, mode in (("plain", 0o644), ("bare", 0o755)):
        (tmp_path / name).write_text("console.log('hello');\n")
        (tmp_path / name).chmod(mode)
    ran = command("syscalls", "--target", f"command:{words}")
    assert ran.code == 2, ran
    assert said in ran.err


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("hangs-on-errors", "within 1 s"),
        ("dies-on-errors", 'ended (exit code 7) instead of answering "call"'),
        ("garbage-on-errors", "wrote 'Traceback (most recent call last):' to its standard output"),
    ],
)
def test_who_does_not_even_answer_when_the_system_fails_it_is_a_finding(mode: str, said: str, command: Command) -> None:
    ran = command("syscalls", "--target", speaking(mode), "--points", 6, "--quiet")
    assert ran.code == 1, ran
    assert "still-usable-after-the-fault: " in ran.out
    assert said in ran.out


@needs_strace
@pytest.mark.slow
def test_a_program_that_says_that_it_dies_on_errors_may(command: Command) -> None:
    ran = command("syscalls", "--target", speaking("dies-on-errors-and-says-so"), "--points", 6, "--quiet")
    assert ran.code == 0, ran


@needs_strace
def test_a_process_that_does_none_of_the_io_is_found_out(command: Command, tmp_path: Path) -> None:
    """A shell that starts the program, which does not say which process it is."""
    anonymous = STORES.read_text().replace('"pid": os.getpid(), ', "")
    (tmp_path / "anonymous.py").write_text(anonymous)
    shell = f"{shlex.quote(sys.executable)} anonymous.py; exit 0"
    ran = command("syscalls", "--target", f"command:{shlex.join(['sh', '-c', shell])}", "--quiet")
    assert ran.code == 2, ran
    assert (
        'makes no system call on store.db; if another process does the I/O (under a shell, say), "describe"' in ran.err
    )


def test_without_strace_the_search_is_not_begun(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = command("syscalls", "--target", speaking("right"), "--quiet")
    assert ran.code == 2, ran
    assert ran.err.startswith("Error: the syscall depth is not available: ")
    assert len(ran.err.splitlines()) == 1
