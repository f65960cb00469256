"""Programs that speak the protocol as targets: what is asked and answered, processes, views; no fault anywhere."""

import json
import os
import re
import select
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tornpage.scenarios.model.explain import explanation
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, Target, TargetError
from tornpage.scenarios.targets.names import UnknownTargetError, is_imported
from tornpage.scenarios.targets.process import PROTOCOL, SCHEMA_FILE, ProcessTarget, StoreError, protocol, schema
from tornpage.scenarios.targets.process.rehearsal import rehearse
from tornpage.scenarios.targets.registry import find, find_or_import

STORES = Path(__file__).with_name("speaking_stores.py")
WAL = Configuration("wal", "FULL")
PUT = Action("put", {"key": "k", "value": 5})

Speaking = Callable[..., ProcessTarget]


@pytest.fixture
def speaking() -> Iterator[Speaking]:
    """Starts `speaking_stores.py` with a defect."""
    started: list[ProcessTarget] = []

    def start(mode: str = "right", **more: float) -> ProcessTarget:
        started.append(ProcessTarget((sys.executable, str(STORES), mode), f"speaking {mode}", **more))
        return started[-1]

    yield start
    for one in started:
        one.close()


def is_there(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


# -- the protocol ----------------------------------------------------------------------------------------------


def test_the_schema_that_ships_is_what_is_read_and_written() -> None:
    text = json.dumps(schema(), indent=2) + "\n"
    assert SCHEMA_FILE.read_text() == text, "write it again: json.dumps(scenarios.targets.process.schema(), indent=2)"


def test_every_request_and_answer_is_in_the_schema() -> None:
    parts = schema()["$defs"]
    asked = parts["Request"]["discriminator"]["mapping"]
    answered = parts["Answer"]["discriminator"]["mapping"]
    assert set(asked) == {"describe", "open", "call", "view", "close"}
    assert set(answered) == {"done", "refused", "failed"}
    for name in {*asked.values(), *answered.values()}:
        assert parts[name.rpartition("/")[2]]["description"], name


def test_what_is_asked_is_one_json_object_a_line() -> None:
    request = protocol.Call("put", {"text": "two\nlines"}, 17)
    line = msgspec.json.encode(request)
    assert b"\n" not in line
    assert json.loads(line) == {"do": "call", "action": "put", "args": {"text": "two\nlines"}, "now_ms": 17}
    assert json.loads(msgspec.json.encode(protocol.Describe())) == {"do": "describe", "protocol": PROTOCOL}


# -- a target --------------------------------------------------------------------------------------------------


def test_a_program_is_a_target_by_what_it_says_of_itself(speaking: Speaking) -> None:
    target = speaking()
    assert isinstance(target, Target)
    assert target.title == "speaking, right"
    assert target.configurations == (WAL,)
    assert target.depths == ("syscall",)
    assert str(target.workload()[0]) == "put(key='a', value=1)"
    assert target.heartbeat().name == "put"


def test_calls_answers_and_both_views(speaking: Speaking, home: Path) -> None:
    target = speaking()
    session = target.open(home, WAL, Environment())
    session.call(PUT)
    with pytest.raises(Refused, match="no such key: gone"):
        session.call(Action("drop", {"key": "gone"}))
    with pytest.raises(StoreError, match="'Store' object has no attribute 'fly'") as raised:
        session.call(Action("fly"))
    assert session.outcome_of(raised.value) is None
    assert session.live_view() == {"k": 5}
    with closing(sqlite3.connect(target.database(home))) as connection:
        assert target.fresh_view(connection) == {"k": 5}
    session.close()


def test_what_a_failure_says_of_the_change_is_handed_on(speaking: Speaking, home: Path) -> None:
    session = speaking("promises-much").open(home, WAL, Environment())
    with pytest.raises(StoreError) as raised:
        session.call(Action("fly"))
    assert session.outcome_of(raised.value) == "unchanged"
    session.close()


def test_there_is_nothing_in_a_database_without_tables(speaking: Speaking, home: Path) -> None:
    with closing(sqlite3.connect(home / "empty.db")) as connection:
        assert speaking().fresh_view(connection) == {}


def test_more_than_two_columns_are_an_object_by_their_names(
    speaking: Speaking, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = speaking()
    queries = ("SELECT 'task/' || id, state, tries FROM tasks", "SELECT 'note/' || id, text FROM notes")
    monkeypatch.setattr(target, "description", msgspec.structs.replace(target.description, rows=queries))
    with closing(sqlite3.connect(home / "two.db")) as connection:
        connection.executescript(
            "CREATE TABLE tasks(id, state, tries); INSERT INTO tasks VALUES ('a', 'new', 0), ('b', NULL, 2);"
            "CREATE TABLE notes(id, text); INSERT INTO notes VALUES (1, 'one');"
        )
        assert target.fresh_view(connection) == {
            "task/a": {"state": "new", "tries": 0},
            "task/b": {"state": None, "tries": 2},
            "note/1": "one",
        }


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 'a', x'00ff'", "reads bytes, which no view can hold: select hex(...) of them"),
        ("SELECT 'a', 1 UNION ALL SELECT 'a', 2", "reads the key 'a' a second time"),
        ("SELECT 'a'", "has to select a key and at least one value"),
    ],
)
def test_rows_that_make_no_view_are_said_so(
    query: str, said: str, speaking: Speaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = speaking()
    monkeypatch.setattr(target, "description", msgspec.structs.replace(target.description, rows=(query,)))
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE there(is_one)")
        with pytest.raises(TargetError, match=re.escape(said)):
            target.fresh_view(connection)


# -- processes -------------------------------------------------------------------------------------------------


def test_a_process_is_used_again_after_a_good_close(speaking: Speaking, home: Path) -> None:
    target = speaking()
    first = target.open(home, WAL, Environment())
    first.close()
    again, beside = (target.open(home, WAL, Environment()) for _ in range(2))
    assert again.program is first.program
    assert beside.program is not first.program
    for session in (again, beside):
        session.close()


def test_a_program_that_opens_once_gets_a_process_for_each_store(speaking: Speaking, home: Path) -> None:
    target = speaking("opens-once")
    pids = []
    for _ in range(2):
        session = target.open(home, WAL, Environment())
        pids.append(session.program.pid)
        session.close()
        assert not is_there(pids[-1])
    assert pids[0] != pids[1]


def test_processes_end_with_their_target(speaking: Speaking, home: Path) -> None:
    target = ProcessTarget((sys.executable, str(STORES)), "short-lived")
    session = target.open(home, WAL, Environment())
    pid = session.program.pid
    assert is_there(pid)
    del session, target
    assert not is_there(pid)


def test_a_process_ends_when_the_harness_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from tornpage.scenarios.targets.process import ProcessTarget\n"
        f"target = ProcessTarget((sys.executable, {str(STORES)!r}), 'orphan')\n"
        "print(target._idle[0].pid, flush=True); sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as harness:
        assert harness.stdout is not None
        orphan = int(harness.stdout.readline())
        harness.kill()
    try:
        ended = os.pidfd_open(orphan)
    except ProcessLookupError:
        return
    try:
        assert select.select([ended], [], [], 30)[0]
    finally:
        os.close(ended)


# -- names -----------------------------------------------------------------------------------------------------


def test_a_command_is_found_by_name_and_keeps_it() -> None:
    name = f"command:{shlex.join([sys.executable, str(STORES)])}"
    target = find_or_import(name)
    assert isinstance(target, ProcessTarget)
    assert target.name == name
    target.close()


def test_a_command_is_only_started_when_the_command_line_says_so() -> None:
    assert is_imported("command:rm -rf nothing")
    with pytest.raises(UnknownTargetError, match="unknown target 'command:rm -rf nothing'"):
        find("command:rm -rf nothing")


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    name = f"command:{shlex.join([sys.executable, str(STORES)])} ; touch {shlex.quote(str(tmp_path / 'made'))}"
    target = find_or_import(name)
    assert isinstance(target, ProcessTarget)
    target.close()
    assert not (tmp_path / "made").exists()


# -- the rehearsal ---------------------------------------------------------------------------------------------


def test_a_sound_program_passes_its_rehearsal(speaking: Speaking, home: Path) -> None:
    rehearse(speaking(), WAL, home / "rehearsal")
    assert not list((home / "rehearsal").iterdir())


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fails-to-open", "fails without any fault at wal/FULL: the licence has expired"),
        ("remembers-its-first-directory", 'use the "directory" of each "open"'),
        ("scribbles", "got a second directory, and changed notes.txt in the first"),
        ("other-name", "there is no store.db in the directory that it got"),
        ("random", "the same calls lead to another state each time: b: the first run has 0."),
        ("beat-adds-nothing", "no such key: a"),
        ("leaves-files-open", "after closing, the process still has these open: store.db"),
    ],
)
def test_what_makes_every_verdict_worthless_is_said_first(mode: str, said: str, speaking: Speaking, home: Path) -> None:
    with pytest.raises(TargetError) as raised:
        rehearse(speaking(mode), WAL, home / "rehearsal")
    assert said in str(raised.value)


def test_a_store_in_another_place_is_no_store_to_judge(
    speaking: Speaking, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", str(tmp_path))
    with pytest.raises(TargetError, match=rf'and has {tmp_path}/store.db open: use the "directory" of each "open"'):
        speaking("elsewhere").open(home, WAL, Environment())


def test_the_programs_of_the_docs_are_in_the_package() -> None:
    from tornpage.scenarios.targets.process import EXAMPLES

    assert {path.name for path in EXAMPLES.iterdir()} == {"notes.c", "notes.mjs"}


# -- explain ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "pwrite64:wal@3..=ENOSPC",
            "call 3 and all after it of pwrite64 on the wal file is not run and returns ENOSPC",
        ),
        ("write:db@1=EIO", "call 1 of write on the db file is not run and returns EIO: the disk is full, the quota"),
        ("fdatasync:db@2=KILL", "SIGKILL ends the process as it enters call 2 of fdatasync on the db file"),
        ("pwrite64:wal@1=EPERM", "can't happen; possible for pwrite64:wal"),
        ("write:wal@1=FULL", "write on the wal file is skipped and reports SQLITE_FULL"),
    ],
)
def test_a_fault_in_a_system_call_can_be_explained(code: str, said: str) -> None:
    assert said in str(explanation(code))


def test_what_is_no_fault_is_not_explained() -> None:
    assert explanation("write:wal@x=FULL") is None
    assert explanation("hello") is None
