"""What the harness does beside a session that is recorded, none of which may be missing on the tape."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import crash_places
import pytest

from tornpage import faults
from tornpage.scenarios.execution.executor import Executor
from tornpage.scenarios.execution.in_place import in_the_place_of
from tornpage.scenarios.model.scenario import Arm, Call, Restart, Step


@pytest.mark.parametrize("crash", [True, False])
@pytest.mark.parametrize("kind", [crash_places.Base, crash_places.OpenedPerCall])
@pytest.mark.parametrize(
    "plan",
    # An opening that fails leaves the log of the last life as it was, an empty one, or none that could be indexed.
    ["read:wal@1..=IOERR_READ", "shmmap:db@1..=CANTOPEN", "lock:db@1..=BUSY", "open:wal@1..=CANTOPEN"],
)
def test_no_reader_of_the_harness_writes_the_log_back_of_a_store_that_could_not_open(
    tmp_path: Path, kind: type[crash_places.Base], plan: str, crash: bool
) -> None:
    target = kind()
    call = Call(target.workload()[0])
    steps: tuple[Step, ...] = (Restart(), call, Arm(plan, "vfs"), call, Restart(crash), Restart(crash))
    with (
        faults.install(),
        faults.shims().deterministic(),
        Executor(target, target.configurations[0], tmp_path / "here", record=True) as executor,
    ):
        for step in steps:
            executor.do(step)
            assert executor.recording is not None
            executor.recording.require_faithful(str(step))


class MakesItsTable(crash_places.Base):
    """Its plain SQL makes what is missing, so its reader has to be able to write."""

    calls = crash_places.Base.calls[:1]

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        connection.execute("CREATE TABLE IF NOT EXISTS kv (name TEXT PRIMARY KEY, value)")
        return dict(connection.execute("SELECT name, value FROM kv"))


def test_a_reader_of_crash_states_may_write_what_is_put_down_anew(home: Path) -> None:
    target = MakesItsTable()
    with faults.install(), faults.shims().deterministic():
        with Executor(target, target.configurations[0], home / "here", record=True) as executor:
            executor.do(Call(target.workload()[0]))
            executor.close_session()
        assert executor.recording is not None
        recording = executor.recording
        reader = recording.reader()
        states = faults.CrashStates(recording.base, recording.tape.operations)
        # From there on there is a log, and the table may not be in it yet.
        first = next(at for at, one in enumerate(recording.tape.operations) if one.path.endswith("-wal")) + 1
        positions = range(first, len(recording.tape))
        views = [recording.judge(state, reader)[0] for at in positions for state in states.power(at)]
    assert reader.read > 20
    assert {} in views
    assert {"a": 1} in views


def test_recoveries_begin_once_for_each_content_whatever_is_in_the_files_beside_it(home: Path) -> None:
    target = crash_places.Attached()
    with faults.install(), faults.shims().deterministic():
        with Executor(target, target.configurations[0], home / "here", record=True) as executor:
            for action in target.workload():
                executor.do(Call(action))
            executor.close_session()
        assert executor.recording is not None
        recording = executor.recording
        reader, states = recording.reader(), recording.states()
        last = range(recording.history.spans[-2].begin, len(recording.tape))
        views = [recording.judge(state, reader)[0] for at in last for state in states.power(at)]
    assert [view for at, view in enumerate(views) if view not in views[:at]] == [{"a": 1}, {"a": 1, "b": 2}]
    # The other database, and its journal, have many contents; of names there are few.
    assert 2 <= len(reader.beginnings) < len(reader.opened) / 5


def test_a_database_is_open_by_the_file_that_it_is_and_not_by_a_path_that_it_had(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with contextlib.closing(sqlite3.connect(tmp_path / name / "a.db")) as made:
            made.execute("CREATE TABLE t (x)")
    with faults.install():
        with contextlib.closing(sqlite3.connect(tmp_path / "one" / "a.db")) as connection:
            connection.execute("SELECT * FROM t").fetchall()
            assert faults.is_open(tmp_path / "one" / "a.db")
            with in_the_place_of(tmp_path / "one", tmp_path / "two"):
                assert not faults.is_open(tmp_path / "one" / "a.db")
        assert not faults.is_open(tmp_path / "one" / "a.db")
