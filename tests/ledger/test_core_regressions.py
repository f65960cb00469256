"""Defects that were once in the ledger's core, each with a test that failed before it was fixed."""

# ruff: noqa: PT012 - what a batch does at its end is the thing under test, so its whole block is inside `raises`.

import contextlib
import logging
import shutil
import sqlite3

import pytest

from tornpage import ledger
from tornpage.ledger import (
    IllegalTransition,
    Runtime,
    Status,
    StoreCorrupt,
    StoreError,
    StoreSchemaNewer,
    StoreUnavailable,
    TaskRegistry,
    UsageError,
)
from tornpage.ledger.disk.schema import SCHEMA_VERSION
from tornpage.ledger.stores.json_snapshot import JsonSnapshotStore
from tornpage.ledger.stores.memory import MemoryStore


def made(opened, **fields):
    return opened.tasks.create(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields})


def status_of(opened, task):
    return opened.tasks.get(task.task_id).status


# 1. A new id that isn't new


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_an_id_that_is_taken_overwrites_nobody(bench, store):
    opened = bench.open(store=store, new_id=lambda: "same")
    first = made(opened)
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    with pytest.raises(UsageError, match="'same' is taken"):
        made(opened, task="another")
    assert opened.tasks.list() == [first]
    assert opened.tasks.list_fresh_for_owner("owner") == [first]
    assert recorder.events == []


def test_an_id_that_is_taken_inside_a_batch_spoils_nothing(bench):
    opened = bench.open(new_id=lambda: "same")
    with opened.batch():
        first = made(opened)
        with pytest.raises(UsageError):
            made(opened, task="another")
    assert opened.tasks.list() == [first]


def test_the_id_of_a_row_that_cannot_be_read_is_taken_too(bench):
    opened = bench.open(new_id=lambda: "same")
    made(opened)
    connection = bench.raw()
    connection.execute("PRAGMA ignore_check_constraints = 1")
    connection.execute("UPDATE tasks SET status = 'exploded'")
    connection.close()
    with pytest.raises(UsageError, match="taken"):
        made(opened, task="another")
    assert bench.rows() == [("same", "exploded")]


def test_the_same_run_still_finds_its_task_whatever_the_id(bench):
    opened = bench.open(new_id=lambda: "same")
    first = made(opened, run_id="run")
    assert made(opened, run_id="run") == first


# 2. A batch begins with a healed ledger or not at all


def left_in_doubt(bench, opened, task):
    """A COMMIT that failed after its work, and a second look that failed too."""
    bench.faults.fail("COMMIT", when="after")
    bench.faults.fail("CONNECT")
    with pytest.raises(StoreError) as raised:
        opened.tasks.start(task.task_id)
    assert raised.value.outcome == "unknown"
    assert bench.faults.fired == 2


def test_reads_in_a_batch_after_a_fault_are_those_of_the_disk(bench):
    opened = bench.open()
    task = made(opened)
    left_in_doubt(bench, opened, task)
    with opened.batch():
        assert status_of(opened, task) is Status.RUNNING
        opened.tasks.finish(task.task_id, "succeeded")
    assert status_of(opened, task) is Status.SUCCEEDED


def test_a_transaction_that_tasks_join_is_healed_as_well(bench):
    opened = bench.open()
    task, other = made(opened), made(opened)
    left_in_doubt(bench, opened, task)
    with opened.workers.hold() as worker:
        opened.history.start(other.task_id, worker_id=worker.id)
    assert status_of(opened, task) is Status.RUNNING
    assert status_of(opened, other) is Status.RUNNING
    assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")


class Interrupted(TaskRegistry):
    """Is interrupted once while it takes a committed change into memory."""

    due = False

    def _adopt(self, change):
        if type(self).due:
            type(self).due = False
            raise KeyboardInterrupt
        super()._adopt(change)


@pytest.mark.parametrize("how", ["batch", "call", "run", "restore"])
def test_what_an_interrupt_left_pending_is_not_taken_for_the_next_unit_s(bench, how):
    class Once(Interrupted):
        due = False

    opened = bench.open(registry=Once)
    task, other = made(opened), made(opened)
    worker = opened.workers.hold()
    Once.due = True
    with pytest.raises(KeyboardInterrupt):
        opened.tasks.start(task.task_id)
    elsewhere = bench.open()
    elsewhere.tasks.finish(task.task_id, "succeeded")
    elsewhere.close()
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    if how == "batch":
        with opened.batch():
            assert status_of(opened, task) is Status.SUCCEEDED
            opened.tasks.progress(other.task_id, "half way")
    elif how == "call":
        opened.tasks.progress(other.task_id, "half way")
    elif how == "restore":
        opened.tasks.restore()
        opened.tasks.progress(other.task_id, "half way")
    else:
        opened.history.start(other.task_id, worker_id=worker.id)
    assert [event[0] for event in recorder.events] == ["restored", "upserted"]
    assert recorder.events[1][1].task_id == other.task_id
    assert status_of(opened, task) is Status.SUCCEEDED
    assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")
    worker.release()


def test_a_batch_on_a_ledger_that_was_not_restored_is_refused(bench):
    first = bench.open()
    made(first)
    bench.faults.fail("SELECT", times=100)
    unrestored = TaskRegistry(first.tasks.backend, clock=lambda: 1, new_id=lambda: "new")
    with pytest.raises(StoreError):
        unrestored.restore()
    bench.faults.heal()
    entered = False
    with pytest.raises(StoreUnavailable, match="not restored"), unrestored.batch():
        entered = True
    assert not entered
    assert first.database.active is None


def test_a_restore_inside_a_batch_is_refused(bench):
    opened = bench.open()
    with opened.batch():
        task = made(opened)
        with pytest.raises(UsageError, match="batch"):
            opened.tasks.restore()
    assert opened.tasks.list() == [task]


# 3. A batch sees what others committed before it began


def test_reads_in_a_batch_see_what_others_committed_before(bench):
    opened, other = bench.open(), bench.open()
    task = made(opened)
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    other.tasks.start(task.task_id)
    new = made(other)
    with opened.batch():
        assert status_of(opened, task) is Status.RUNNING
        assert opened.tasks.get(new.task_id) == new
        assert recorder.events == []
        opened.tasks.finish(task.task_id, "succeeded")
    kinds = [(event[0], event[1] if event[0] == "restored" else event[2].status.value) for event in recorder.events]
    assert kinds == [("restored", (task.task_id, new.task_id)), ("upserted", "running")]
    assert opened.tasks.list() == other.tasks.list()


def test_a_batch_that_is_rolled_back_keeps_what_it_read_at_its_beginning(bench):
    opened, other = bench.open(), bench.open()
    task = made(opened)
    other.tasks.start(task.task_id)
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    with pytest.raises(ZeroDivisionError), opened.batch():
        opened.tasks.finish(task.task_id, "succeeded")
        raise ZeroDivisionError
    assert [event[0] for event in recorder.events] == ["restored"]
    assert status_of(opened, task) is Status.RUNNING
    assert len(recorder.events) == 1


def test_a_batch_that_cannot_read_what_others_committed_does_not_begin(bench):
    opened, other = bench.open(), bench.open(connect=sqlite3.connect)
    task = made(opened)
    other.tasks.start(task.task_id)
    bench.faults.fail("SELECT")
    entered = False
    with pytest.raises(StoreUnavailable), opened.batch():
        entered = True
    assert (entered, opened.database.active) == (False, None)
    assert status_of(opened, task) is Status.RUNNING


def test_one_change_alone_does_not_load_the_ledger_again(bench):
    """Two processes that write in turns must not read everything for each change."""
    opened, other = bench.open(), bench.open()
    task = made(opened)
    other.tasks.start(task.task_id)
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    opened.tasks.finish(task.task_id, "succeeded")
    # What the other process made of the task is announced first: nothing was restored to know it.
    assert [event[0] for event in recorder.events] == ["upserted", "upserted"]


def test_a_batch_inside_a_batch_keeps_what_the_outer_one_has_done(bench):
    opened = bench.open()
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    with pytest.raises(ZeroDivisionError), opened.batch():
        made(opened)
        with opened.batch():
            assert len(opened.tasks.list()) == 1
        raise ZeroDivisionError
    assert opened.tasks.list() == []
    assert recorder.events == []
    with opened.batch():
        first = made(opened)
        with opened.batch():
            assert opened.tasks.list() == [first]
            second = made(opened)
        assert opened.tasks.list() == [second, first]
    assert opened.tasks.list() == [second, first]
    assert recorder.events == [("upserted", first, None), ("upserted", second, None)]


@pytest.mark.parametrize("end", ["committed", "rolled back", "settled", "doubtful"])
def test_a_batch_never_reads_what_an_earlier_one_was_working_on(bench, end):
    opened = bench.open()
    task = made(opened)
    if end == "settled":
        bench.faults.fail("COMMIT", instead="ROLLBACK")
    elif end == "doubtful":
        bench.faults.fail("COMMIT", instead="ROLLBACK")
        bench.faults.fail("CONNECT")
    with contextlib.suppress(StoreError, ZeroDivisionError), opened.batch():
        opened.tasks.start(task.task_id)
        gone = made(opened)
        assert len(opened.tasks.list()) == 2
        if end == "rolled back":
            raise ZeroDivisionError
    kept = end == "committed"
    assert len(bench.rows()) == 1 + kept
    with opened.batch():
        opened.tasks.progress(task.task_id, "half way")
        assert status_of(opened, task) is (Status.RUNNING if kept else Status.QUEUED)
        assert opened.tasks.get(task.task_id).progress_summary == "half way"
        assert (opened.tasks.get(gone.task_id) is not None) is kept
    assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")


def test_a_commit_that_can_only_be_adopted_is_told_after_the_restore_and_with_what_was_there_before(bench):
    opened, other = bench.open(), bench.open(connect=sqlite3.connect)
    task = made(opened)
    started = other.tasks.start(task.task_id)
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    bench.faults.fail("COMMIT", when="after")
    bench.faults.fail("INSERT INTO ledger_fence", times=5)
    with pytest.raises(StoreError) as raised, opened.batch():
        opened.tasks.finish(task.task_id, "succeeded")
    assert raised.value.outcome == "unknown"
    ended = other.tasks.get(task.task_id)
    assert recorder.events == [("restored", (task.task_id,)), ("upserted", ended, started)]


# 4. Observers hear of a unit as a whole


@pytest.mark.parametrize("fault", [None, "settled"])
def test_what_an_observer_causes_comes_after_the_whole_unit(bench, fault):
    opened = bench.open()
    told = []

    class Meddler:
        def upserted(self, task, _previous):
            if task.progress_summary is None:
                opened.tasks.progress(task.task_id, "seen")

    class Listener:
        def upserted(self, task, _previous):
            told.append((task.task_id, task.progress_summary))

    opened.tasks.observe(Meddler(), Listener())
    if fault is None:
        with opened.batch():
            first, second = made(opened), made(opened)
    else:
        bench.faults.fail("COMMIT", when="after")
        bench.faults.fail("INSERT INTO ledger_fence", times=5)
        with pytest.raises(StoreError) as raised, opened.batch():
            first, second = made(opened), made(opened)
        assert raised.value.outcome == "unknown"
    ids = first.task_id, second.task_id
    assert told == [(ids[0], None), (ids[1], None), (ids[0], "seen"), (ids[1], "seen")]


# 5. Only what changed is announced


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_a_create_that_only_fills_the_delivery_state_announces_no_task(bench, store):
    opened = bench.open(store=store)
    task = made(opened, run_id="run")
    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    assert made(opened, run_id="run", requester_origin={"channel": 1}) == task
    assert opened.tasks.get_delivery(task.task_id).requester_origin == {"channel": 1}
    assert recorder.events == []


# 6. The first restore can be heard


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_observers_given_at_the_opening_hear_of_the_first_restore_also_of_an_empty_ledger(bench, store):
    """The known bug hooks-skip-empty."""
    recorder = bench.recorder()
    opened = bench.open(store=store, observers=[recorder])
    assert recorder.events == [("restored", ())]
    task = made(opened)
    assert recorder.events[1:] == [("upserted", task, None)]


def test_an_observer_that_is_none_leaves_nothing_open(bench):
    with pytest.raises(UsageError, match="at least one of the methods"):
        bench.open(observers=[object()])
    assert len(bench.faults.opened) == 1


# 7. One row that can't be decoded is one row


DEEP = "[" * 100_000 + "]" * 100_000


def test_a_row_with_deeply_nested_json_is_quarantined_and_the_others_load(bench):
    opened = bench.open()
    bad, good = made(opened, requester_origin=1), made(opened, requester_origin=2)
    opened.close()
    connection = bench.raw()
    connection.execute("UPDATE task_delivery_state SET requester_origin = ? WHERE task_id = ?", (DEEP, bad.task_id))
    connection.close()
    again = bench.open()
    (one,) = again.tasks.quarantined()
    assert (one.table, one.key) == ("task_delivery_state", bad.task_id)
    assert again.tasks.get_delivery(good.task_id).requester_origin == 2
    assert again.tasks.get(bad.task_id) == bad


@pytest.mark.parametrize(
    "content",
    [b'{"version":1,"tasks":[{"task_id":"\xff"}],"deliveries":[]}', f'{{"version":1,"tasks":[{DEEP}]}}'.encode()],
)
def test_a_snapshot_file_that_cannot_be_decoded_is_corrupt_and_stays(tmp_path, content):
    path = tmp_path / "tasks.json"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="left as it is"):
        JsonSnapshotStore(path).load_snapshot()
    assert path.read_bytes() == content


# 8. Smaller ones


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_a_doomed_batch_says_why_also_where_the_reason_has_no_text(bench, store):
    opened = bench.open(store=store)
    task = made(opened)
    with (
        pytest.raises(StoreError, match=r"ValueError\(\)"),
        opened.batch(),
        contextlib.suppress(ValueError),
        opened.batch(),
    ):
        opened.tasks.start(task.task_id)
        raise ValueError
    assert status_of(opened, task) is Status.QUEUED


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"runtime": "cli", "task": "x", "owner_key": "o", "colour": "red"}, "colour.*allowed are runtime, task, "),
        ({"runtime": "cli"}, "needs task"),
        ({}, "needs runtime, task"),
    ],
)
def test_a_create_with_unknown_or_missing_fields_is_a_usage_error_that_names_them(bench, fields, says):
    opened = bench.open()
    with pytest.raises(UsageError, match=says):
        opened.tasks.create(**fields)


def test_a_create_takes_a_request_or_fields_and_not_both(bench):
    opened = bench.open()
    request = ledger.NewTask(runtime=Runtime.CLI, task="water", owner_key="owner")
    with pytest.raises(UsageError, match="not both"):
        opened.tasks.create(request, label="lost without a word")
    with pytest.raises(UsageError, match="must be a NewTask"):
        opened.tasks.create({"runtime": "cli", "task": "water", "owner_key": "owner"})
    assert opened.tasks.create(request).task == "water"


@pytest.mark.parametrize("status", ["running", "queued"])
def test_a_run_is_finalised_with_a_terminal_status_also_where_it_has_no_tasks(bench, status):
    opened = bench.open()
    with pytest.raises(UsageError, match="succeeded, failed"):
        opened.tasks.finalize_by_run("nobody", status)
    task = made(opened, run_id="run", status="succeeded")
    with pytest.raises(UsageError):
        opened.tasks.finalize_by_run("run", status)
    with pytest.raises(UsageError):
        opened.tasks.finish("nobody", status)
    assert status_of(opened, task) is Status.SUCCEEDED


def test_cancelling_a_cli_task_is_only_recorded(bench):
    asked = []
    opened = bench.open(control_hooks={Runtime.CLI: asked.append, Runtime.ACP: asked.append})
    mine, other = made(opened), made(opened, runtime="acp")
    assert opened.tasks.cancel(mine.task_id).cancelled
    assert asked == []
    assert opened.tasks.cancel(other.task_id).cancelled
    assert asked == [other]


@pytest.mark.parametrize("part", ["registry", "history", "outbox", "upkeep"])
def test_a_part_that_cannot_be_made_leaves_no_database_open(bench, part):
    def refuses(*_arguments, **_options):
        raise RuntimeError(part)

    with pytest.raises(RuntimeError, match=part):
        bench.open(**{part: refuses})
    assert len(bench.faults.opened) == 1
    # The fixture checks that the connection was closed.


def raise_version_in_the_wal(path, version):
    """Leaves the main file's header as it was, and the newer version only in the WAL, as a crash does."""
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute(f"PRAGMA user_version = {version}")
    copied = path.parent.with_name("copied")
    shutil.copytree(path.parent, copied)
    writer.close()
    (copied / "ledger.sqlite-shm").unlink()
    return copied


def fingerprint(place):
    return {one.name: (one.stat().st_mode, one.stat().st_mtime_ns, one.read_bytes()) for one in place.iterdir()}


def test_a_newer_schema_that_lies_only_in_the_wal_is_refused_with_nothing_written(bench):
    bench.open().close()
    copied = raise_version_in_the_wal(bench.state_dir / "ledger.sqlite", SCHEMA_VERSION + 1)
    for one in copied.iterdir():
        one.chmod(0o644)
    copied.chmod(0o755)
    before = fingerprint(copied)
    with pytest.raises(StoreSchemaNewer, match=f"version {SCHEMA_VERSION + 1}"):
        ledger.Ledger.open(copied, connect=bench.faults.connect)
    assert fingerprint(copied) == before
    assert copied.stat().st_mode & 0o777 == 0o755


def test_a_version_in_the_wal_counts_only_once_it_was_committed(bench):
    bench.open().close()
    copied = raise_version_in_the_wal(bench.state_dir / "ledger.sqlite", SCHEMA_VERSION + 1)
    wal = copied / "ledger.sqlite-wal"
    content = bytearray(wal.read_bytes())
    # A torn last frame: its commit never counted for SQLite.
    content[-1] ^= 0xFF
    wal.write_bytes(content)
    with ledger.Ledger.open(copied) as opened:
        assert opened.tasks.list() == []


def test_a_known_version_in_the_wal_opens(bench):
    bench.open().close()
    copied = raise_version_in_the_wal(bench.state_dir / "ledger.sqlite", SCHEMA_VERSION)
    with ledger.Ledger.open(copied) as opened:
        assert made(opened).status is Status.QUEUED


@pytest.mark.parametrize("content", [b"", b"short", b"\x37\x7f\x06\x82" + b"\x00" * 28, b"junk" * 1000])
def test_a_wal_that_is_none_is_left_to_sqlite(bench, content):
    opened = bench.open()
    task = made(opened)
    opened.close()
    (bench.state_dir / "ledger.sqlite-wal").write_bytes(content)
    assert bench.open().tasks.list() == [task]


@pytest.mark.parametrize("store", [None, MemoryStore()])
def test_a_ledger_cannot_be_closed_inside_a_batch(bench, store):
    opened = bench.open(store=store)
    with opened.batch():
        task = made(opened)
        with pytest.raises(UsageError, match="batch"):
            opened.close()
    assert opened.tasks.list() == [task]
    opened.close()


# Found on the way


@pytest.mark.parametrize("read", ["fresh", "history"])
def test_a_batch_in_which_a_read_failed_commits_nothing(bench, read, error_of):
    """SQLite may have rolled back by itself; a further write would then be a commit of its own."""
    opened = bench.open()
    task = made(opened)
    bench.faults.fail("SELECT", lambda: error_of("IOERR_READ"), skip=1, instead="ROLLBACK")
    with pytest.raises(StoreError, match="nothing of this batch"), opened.batch():
        opened.tasks.start(task.task_id)
        with pytest.raises(StoreError):
            if read == "fresh":
                opened.tasks.list_fresh_for_owner("owner")
            else:
                opened.history.list()
        with pytest.raises(StoreError, match="nothing of this batch"):
            made(opened)
    assert bench.faults.fired == 1
    assert bench.rows() == [(task.task_id, "queued")]
    assert status_of(opened, task) is Status.QUEUED


def test_a_refused_call_in_a_batch_still_spoils_nothing(bench, caplog):
    opened = bench.open()
    with caplog.at_level(logging.WARNING), opened.batch():
        task = made(opened, status="succeeded")
        with pytest.raises(IllegalTransition):
            opened.tasks.start(task.task_id)
    assert opened.tasks.list() == [task]
    assert caplog.records == []
