"""The search ``syscalls``: it finds what it should in programs of their own, its findings replay, and it says so."""

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tiny_stores

from tornpage.faults.strace import SystemCall, why_unavailable
from tornpage.scenarios.cli import one_run
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.syscall_injection import intrude
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.plan import Profile
from tornpage.scenarios.model.scenario import Call, Clear, Restart, Scenario, Syscall
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError
from tornpage.scenarios.run.reproduce.replay_file import Verdict, read, replay, write
from tornpage.scenarios.search.programs.syscalls import counts_of
from tornpage.scenarios.search.recorder import Recorder
from tornpage.scenarios.targets.process import ProcessTarget, Program

STORES = Path(__file__).with_name("speaking_stores.py")
WAL = Configuration("wal", "FULL")
UNAVAILABLE = why_unavailable()
pytestmark = pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))

PUT = Call(Action("put", {"key": "a", "value": 1}))
MOVE = Call(Action("move", {"key": "a", "to": "b"}))

Speaking = Callable[..., ProcessTarget]
Search = Callable[..., Recorder]
Command = Callable[..., Any]


@pytest.fixture
def speaking() -> Iterator[Speaking]:
    started: list[ProcessTarget] = []

    def start(mode: str = "right") -> ProcessTarget:
        started.append(ProcessTarget((sys.executable, str(STORES), mode), f"speaking {mode}"))
        return started[-1]

    yield start
    for one in started:
        one.close()


def named(mode: str) -> str:
    return f"command:{shlex.join([sys.executable, str(STORES), mode])}"


def scenario(target: Target, *steps: Any, configuration: Configuration = WAL) -> Scenario:
    return Scenario(target.name, configuration, steps)


# -- what it finds ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "points"), [("right", None), ("delete", None), ("opens-once", 15)])
def test_a_right_program_holds(mode: str, points: int | None, speaking: Speaking, search: Search) -> None:
    recorder = search(speaking(mode), "syscalls", points=points)
    assert [one.finding.message for one in recorder.findings] == []
    assert not recorder.vacuous
    assert recorder.complete
    assert recorder.count("fired") > 50
    assert recorder.count("kills") > 10
    assert recorder.count("fired") + recorder.count("kills") == recorder.count("tried")
    assert points is not None or recorder.count("tried") == recorder.count("points")


@pytest.mark.quality
@pytest.mark.parametrize(
    ("mode", "points", "code"),
    [
        ("memory-first", 6, "memory-equals-disk"),
        pytest.param("two-transactions", None, "all-or-nothing", marks=pytest.mark.slow),
        pytest.param("promises-much", None, "failed-write-changed-nothing", marks=pytest.mark.slow),
    ],
)
def test_a_defect_is_caught(mode: str, points: int | None, code: str, speaking: Speaking, search: Search) -> None:
    recorder = search(speaking(mode), "syscalls", points=points, configurations=1)
    assert code in {one.finding.code for one in recorder.findings}


@pytest.mark.slow
def test_one_process_serves_many_points(speaking: Speaking, search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime takes longer to start than a point to try: only what was killed is started anew."""
    started: list[int] = []
    start = ProcessTarget._start

    def counted(target: ProcessTarget) -> Program:
        program = start(target)
        started.append(program.pid)
        return program

    monkeypatch.setattr(ProcessTarget, "_start", counted)
    recorder = search(speaking(), "syscalls", points=12)
    assert recorder.count("tried") > 40
    assert len(started) <= recorder.count("kills") + 4


def test_what_is_not_promised_is_observed(speaking: Speaking, search: Search) -> None:
    recorder = search(speaking("memory-first-and-says-so"), "syscalls", points=6, configurations=1)
    assert not recorder.findings
    assert {one.finding.code for one in recorder.observations} == {"memory-equals-disk"}


def test_the_same_seed_tries_the_same_points(speaking: Speaking, search: Search) -> None:
    target = speaking()
    first, again, other = (
        {
            series: tally.tried
            for series, tally in search(target, "syscalls", points=2, seed=seed, configurations=1).tallies.items()
        }
        for seed in (1, 1, 2)
    )
    assert first == again != other


# -- scenarios ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "fired"),
    [
        ((Restart(), Syscall("pwrite64:wal@1=ENOSPC"), PUT, Clear(), PUT, MOVE), 1),
        ((Syscall("openat:db@1..=EACCES"), Restart(crash=True), Clear(), PUT), 1),
        ((PUT, Syscall("pwrite64:wal@1..=EIO"), MOVE, Restart(), Clear()), 1),
        ((PUT, Syscall("pwrite64:wal@2=KILL"), MOVE, Clear(), MOVE), 1),
        ((PUT, Syscall("pwrite64:wal@1=KILL"), MOVE, MOVE, Restart(crash=True), Clear(), MOVE), 1),
        ((PUT, Syscall("pwrite64:wal@60000=EIO"), MOVE, Restart(crash=True), MOVE, Clear()), 0),
        ((PUT, Syscall("pread64:db@1=KILL"), Restart(), Clear(), MOVE), 1),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_a_right_program_holds_in_a_scenario(
    steps: tuple[Any, ...], fired: int, speaking: Speaking, home: Path
) -> None:
    target = speaking()
    violation, counts = play(scenario(target, *steps), target, home)
    assert violation is None
    assert (counts["armed"], counts["fired"]) == (1, fired)


@pytest.mark.quality
@pytest.mark.parametrize("mode", ["two-transactions", "right"])
def test_a_death_between_two_transactions_is_seen(mode: str, speaking: Speaking, home: Path) -> None:
    target = speaking(mode)
    violation, _ = play(scenario(target, PUT, Syscall("pwrite64:wal@5=KILL"), MOVE, Clear()), target, home)
    if mode == "right":
        assert violation is None
    else:
        assert violation is not None
        assert violation.code == "all-or-nothing"
        assert "ended (killed by SIGKILL)" in violation.message


FORKS = """
import json, os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import speaking_stores as store
# Lets a process of its own do each request.
where = {}
for line in sys.stdin:
    request, said = json.loads(line), {"answer": "done"}
    reads, writes = os.pipe()
    if request["do"] == "describe":
        said |= store.answer(request)
    elif request["do"] != "close":
        where = request if request["do"] == "open" else where
        if not os.fork():
            try:
                store.answer(where)
                said |= {} if request is where else store.answer(request)
            except Exception as error:
                said = {"answer": "refused" if isinstance(error, store.Refused) else "failed", "message": str(error)}
            os.write(writes, json.dumps(said).encode())
            os._exit(0)
        os.close(writes)
        answer = os.fdopen(reads).read()
        os.wait()
        said = json.loads(answer or '{"answer": "failed", "message": "the process is gone"}')
    print(json.dumps(said), flush=True)
"""


def test_a_program_that_forks_for_each_request_is_killed_where_it_says(search: Search) -> None:
    with ProcessTarget((sys.executable, "-c", FORKS, str(STORES)), "forks") as target:
        recorder = search(target, "kill", kills=12, configurations=1)
    assert recorder.findings == recorder.vacuous == []
    assert recorder.count("kills") == 12


def test_calls_are_counted_in_each_thread_by_itself() -> None:
    calls = [SystemCall(thread, "fsync", role) for thread, role in ((1, "db"), (2, "db"), (2, "wal"), (2, "db"))]
    assert counts_of(calls) == {("fsync", "db"): 2, ("fsync", "wal"): 1}


LOCKS = """
import fcntl, os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import speaking_stores as store
answer, by_flock, held = store.answer, sys.argv[2] == "flock", []

def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

def locked(request):
    # A file beside the database keeps other processes out.
    if request["do"] == "open":
        name = os.path.join(request["directory"], "store.lock")
        held[:] = [open(name, "a+")]
        if by_flock:
            fcntl.flock(held[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            held[0].seek(0)
            written = held[0].read()
            if written and lives(int(written)):
                held[0].close()
                raise OSError(f"process {written} uses the store")
            held[0].truncate(0)
            held[0].write(str(os.getpid()))
            held[0].flush()
    said = answer(request)
    if request["do"] == "close":
        held[0].truncate(0)
        held[0].close()
    return said

store.answer = locked
store.main()
"""


@pytest.mark.parametrize("how", ["flock", "pid"])
def test_a_file_that_names_a_living_process_is_not_taken_for_a_lock_that_is_left(how: str, search: Search) -> None:
    with ProcessTarget((sys.executable, "-c", LOCKS, str(STORES), how), how) as target:
        if how == "flock":
            recorder = search(target, "syscalls", points=1, configurations=1)
            assert recorder.findings == recorder.vacuous == []
        else:
            with pytest.raises(TargetError, match=r"its file store\.lock names process \d+, which stands for a dead"):
                search(target, "syscalls", points=1, configurations=1)
        with contextlib.suppress(TargetError):
            assert search(target, "crash", crash_states=10, configurations=1).findings == []


FRONT = """
import json, subprocess, sys
# Passes each request to a worker that does the I/O, and lives on without it.
worker = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
for line in sys.stdin:
    try:
        print(line, end="", file=worker.stdin, flush=True)
        said = worker.stdout.readline()
    except BrokenPipeError:
        said = ""
    print(said.strip() or json.dumps({"answer": "failed", "message": "the worker is gone"}), flush=True)
"""


@pytest.mark.parametrize(("mode", "at", "code"), [("right", 2, None), ("two-transactions", 5, "all-or-nothing")])
def test_the_death_of_a_worker_is_that_of_the_program(mode: str, at: int, code: str | None, home: Path) -> None:
    command = (sys.executable, "-c", FRONT, str(STORES), mode)
    steps = (PUT, Syscall(f"pwrite64:wal@{at}=KILL"), MOVE, Clear(), Restart(), PUT)
    with ProcessTarget(command, f"worker {mode}") as target:
        violation, counts = play(scenario(target, *steps), target, home)
    assert counts["fired"] == 1
    assert (violation and violation.code) == code


def test_a_finding_replays_and_is_fixed_by_the_fix(speaking: Speaking, search: Search, tmp_path: Path) -> None:
    recorder = search(speaking("memory-first"), "syscalls", points=6)
    file = write(recorder.findings[0].finding, tmp_path, seed=0)
    assert file.name.startswith("speaking-memory-first-memory-equals-disk-")
    reproducer = read(file)
    assert any(isinstance(step, Syscall) for step in reproducer.scenario.steps)
    assert replay(reproducer, speaking("memory-first"), tmp_path / "wrong")[0] is Verdict.FAILED
    verdict, lines = replay(reproducer, speaking("right"), tmp_path / "right")
    assert verdict is Verdict.FIXED
    assert lines == ["nothing violated (1 of 1 faults fired)"] * 3


def test_a_replay_file_starts_nothing_by_itself(command: Command, tmp_path: Path) -> None:
    hostile = Scenario(f"command:touch {tmp_path / 'made'}", WAL, (PUT, Syscall("pwrite64:wal@1=EIO"), MOVE))
    file = replay_file(tmp_path, hostile)
    ran = command("replay", file)
    assert ran.code == 2
    assert f"a file imports nothing: add --target 'command:touch {tmp_path / 'made'}'" in ran.out
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("pwrite64:wal@1=EPERM", "can't happen; possible for pwrite64:wal"),
        ("execve:db@1=EIO -e inject=all:signal=KILL", "cannot read the fault"),
    ],
)
def test_a_replay_file_with_a_fault_that_is_none_is_an_error(
    fault: str, said: str, command: Command, tmp_path: Path
) -> None:
    file = replay_file(tmp_path, Scenario("speaking", WAL, (PUT, Syscall(fault), MOVE)))
    ran = command("replay", file, "--target", named("right"))
    assert ran.code == 2, ran
    assert ran.out.startswith("ERROR: ")
    assert said in ran.out


def replay_file(directory: Path, told: Scenario) -> Path:
    origin = {"python": "3", "sqlite": "3", "compile_options": [], "system": "any"}
    data = {"check": "integrity", "message": "", "search": "syscalls", "seed": 0, "origin": origin}
    head = {"format": "tornpage-replay", "version": 1, "scenario": msgspec.to_builtins(told)}
    file = directory / "scenario.json"
    file.write_text(json.dumps(head | data))
    return file


# -- what it says ----------------------------------------------------------------------------------------------


def test_a_target_in_this_process_is_out_of_its_reach(home: Path, command: Command) -> None:
    trial = Trial(tiny_stores.Tiny(), WAL, home, {})
    with pytest.raises(TargetError, match="tiny runs in this process"), intrude(trial, None):
        pass
    ran = command("syscalls", "--target", "tiny_stores:Tiny")
    assert ran.code == 2
    assert "a separate program is: --target 'command:PROGRAM ARGUMENT ...'" in ran.err


@pytest.mark.parametrize(
    "search", ["limits", "fuzz", "interleave", "sweep --plan write:wal@1=FULL", "sweep --depth vfs"]
)
def test_a_program_is_out_of_reach_of_the_other_searches(search: str, command: Command) -> None:
    ran = command(*search.split(), "--target", named("right"))
    assert ran.code == 2
    assert "can't be reached" in ran.err or "can be reached at: syscall" in ran.err


@pytest.mark.parametrize("word", ["sweep", "syscalls", "check"])
def test_a_program_is_searched_by_its_system_calls(
    word: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = Profile("quick", 1, 6, 0, 0, crash_states=3, kills=2, rival_points=1)
    monkeypatch.setitem(one_run.PROFILES, "quick", profile)
    ran = command(word, "--target", named("memory-first"), "--json")
    assert ran.code == 1, ran
    data = json.loads(ran.out)
    assert [one["search"] for one in data["searches"]] == (
        ["syscalls", "crash", "contend", "kill"] if word == "check" else ["syscalls"]
    )
    assert data["findings"][0]["check"] == "memory-equals-disk"
    assert data["findings"][0]["replay"].endswith(f" --target {shlex.quote(named('memory-first'))}")
    effects = {(one["kind"], one["role"], one["effect"]) for one in data["fault_points"]}
    assert ("pwrite64", "wal", "ENOSPC") in effects


def test_the_verdict_says_what_is_out_of_reach(command: Command) -> None:
    ran = command("crash", "--target", named("right"), "--states", 1, "--quiet")
    assert ran.code == 0, ran
    assert "not searched: interleave, limits, fuzz, and rivals in the middle of a call" in ran.out


def test_the_page_says_what_was_not_searched(command: Command, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert command("crash", "--target", named("right"), "--states", 1, "--html", page, "--quiet").code == 0
    told = page.read_text().partition("Not searched")[2][:2000]
    assert "syscalls: system calls that fail" in told
    assert "interleave: two callers at once" in told
    assert "sweep: single faults" not in told


def test_time_that_is_up_is_no_success(command: Command) -> None:
    ran = command("syscalls", "--target", named("right"), "--max-time", 0)
    assert ran.code == 2
    assert "PARTIAL" in ran.out


@pytest.mark.slow
def test_an_interrupt_leaves_no_process_behind(tornpage: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    marked = f"right-{tmp_path.name}"
    long = [f"--configuration={one}/{level}" for one in ("wal", "delete") for level in ("NORMAL", "FULL", "EXTRA")]
    process = tornpage("syscalls", "--target", named(marked), "--profile", "nightly", *long)
    with process:
        assert process.stderr is not None
        # The first line that tells how far it is; some seconds are over then, and not yet the search.
        line = process.stderr.readline()
        assert line.startswith("syscalls "), line
        assert running(marked)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "INTERRUPTED" in out
    assert not running(marked)


def running(word: str) -> list[str]:
    """The programs under test that were started with a word."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words:
            lines.append(str(words))
    return lines
