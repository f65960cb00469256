"""What the ledger says and keeps when statements and COMMITs fail.

The fault is a statement that raises before or after the real thing, on connections that are real otherwise. What a
failing write, sync or unlock beneath SQLite does is checked by the harness, not here.
"""

# ruff: noqa: PT012, SIM117 - what a batch does at its end is the thing under test, so its whole block is inside `raises`.

import sqlite3
import threading

import pytest

from tornpage.ledger import (
    IllegalTransition,
    Status,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreIOError,
    StoreMemoryError,
    StoreUnavailable,
    UsageError,
)

FORGET_FENCE = "INSERT INTO ledger_fence"


def made(ledger, **fields):
    return ledger.tasks.create(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields})


def assert_memory_equals_disk(ledger, bench):
    live = {task.task_id: task.status.value for task in ledger.tasks.list()}
    assert live == dict(bench.rows())
    assert ledger.tasks.list_for_owner("owner") == ledger.tasks.list_fresh_for_owner("owner")


@pytest.mark.parametrize("statement", ["BEGIN", "SELECT", "UPDATE"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failed_statement_changes_nothing(bench, journal_mode, statement, when):
    ledger = bench.open(journal_mode=journal_mode)
    task = made(ledger)
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)
    bench.faults.fail(statement, when=when)

    with pytest.raises(StoreIOError) as raised:
        ledger.tasks.start(task.task_id)

    assert bench.faults.fired == 1
    assert raised.value.outcome == "unchanged"
    assert raised.value.sqlite_errorname == "SQLITE_IOERR_WRITE"
    assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
    assert ledger.tasks.get(task.task_id) == task
    assert recorder.events == []
    assert_memory_equals_disk(ledger, bench)
    assert ledger.tasks.start(task.task_id).status is Status.RUNNING
    assert_memory_equals_disk(ledger, bench)


@pytest.mark.parametrize("call", ["create", "start", "finish", "delete", "delivery", "batch"])
def test_a_commit_that_did_nothing_is_proven_unchanged(bench, journal_mode, call):
    ledger = bench.open(journal_mode=journal_mode)
    task = made(ledger, requester_origin={"channel": 1})
    before = ledger.tasks.list(), ledger.tasks.get_delivery(task.task_id)
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)
    bench.faults.fail("COMMIT")

    with pytest.raises(StoreIOError) as raised:
        _do(ledger, call, task.task_id)

    assert raised.value.outcome == "unchanged"
    assert (ledger.tasks.list(), ledger.tasks.get_delivery(task.task_id)) == before
    assert recorder.events == []
    assert bench.rows("SELECT count FROM ledger_fence") == [(1,)]
    assert not ledger.database.fence_owed
    assert_memory_equals_disk(ledger, bench)


@pytest.mark.parametrize("call", ["create", "start", "finish", "delete", "delivery", "batch"])
def test_a_commit_that_did_its_work_and_then_failed_is_a_success(bench, journal_mode, call):
    ledger = bench.open(journal_mode=journal_mode)
    task = made(ledger, requester_origin={"channel": 1})
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)
    bench.faults.fail("COMMIT", when="after")

    _do(ledger, call, task.task_id)

    assert bench.faults.fired == 1
    assert bench.rows("SELECT count FROM ledger_fence") == [(1,)]
    kinds = [event[0] for event in recorder.events]
    expected = {"delete": ["deleted"], "delivery": [], "batch": ["upserted", "upserted"]}
    assert kinds == expected.get(call, ["upserted"])
    assert_memory_equals_disk(ledger, bench)


def _do(ledger, call, task_id):
    if call == "create":
        made(ledger, task="second")
    elif call == "start":
        ledger.tasks.start(task_id)
    elif call == "finish":
        ledger.tasks.finish(task_id, "failed", error="no water")
    elif call == "delete":
        ledger.tasks.delete(task_id)
    elif call == "delivery":
        ledger.tasks.set_delivery_state(task_id, last_notified_event_at=5)
    else:
        with ledger.batch():
            ledger.tasks.start(task_id)
            made(ledger, task="third")


@pytest.mark.parametrize("when", ["before", "after"])
def test_without_a_fence_the_outcome_is_unknown_and_memory_shows_what_disk_shows(bench, journal_mode, when):
    ledger = bench.open(journal_mode=journal_mode)
    task = made(ledger)
    bench.faults.fail("COMMIT", when=when)
    bench.faults.fail(FORGET_FENCE, bench_full, times=1000)

    with pytest.raises(StoreIOError) as raised:
        ledger.tasks.start(task.task_id)

    assert raised.value.outcome == "unknown"
    assert "outcome: unknown" in str(raised.value)
    expected = Status.RUNNING if when == "after" else Status.QUEUED
    assert ledger.tasks.get(task.task_id).status is expected
    assert_memory_equals_disk(ledger, bench)
    assert ledger.database.fence_owed

    bench.faults.heal()
    ledger.tasks.get(task.task_id)
    assert not ledger.database.fence_owed
    assert bench.rows("SELECT count FROM ledger_fence") == [(1,)]


def bench_full():
    error = sqlite3.OperationalError("full")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    return error


def test_any_later_commit_settles_an_owed_fence(bench):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("COMMIT")
    bench.faults.fail(FORGET_FENCE, times=2)
    with pytest.raises(StoreIOError):
        ledger.tasks.start(task.task_id)
    ledger.tasks.start(task.task_id)
    assert bench.faults.fired == 3
    assert not ledger.database.fence_owed
    assert bench.rows("SELECT count FROM ledger_fence") == [(0,)]


def test_closing_lays_an_owed_fence(bench):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("COMMIT")
    bench.faults.fail(FORGET_FENCE)
    with pytest.raises(StoreIOError):
        ledger.tasks.start(task.task_id)
    ledger.close()
    assert bench.rows("SELECT count FROM ledger_fence") == [(1,)]


def test_rows_that_another_process_changed_meanwhile_are_adopted_and_unknown(bench):
    ledger = bench.open()
    task = made(ledger)
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)

    def interfere():
        # Runs when COMMIT fails, after a rollback of ours has let go of the lock.
        return bench_full()

    bench.faults.fail("COMMIT", interfere, instead="ROLLBACK")
    original = ledger.database._read_again

    def read_after_the_other(changed):
        other = bench.raw()
        other.execute("UPDATE tasks SET status = 'cancelled', ended_at = 1700000000009")
        other.close()
        return original(changed)

    ledger.database._read_again = read_after_the_other
    with pytest.raises(StoreFull) as raised:
        ledger.tasks.start(task.task_id)

    assert raised.value.outcome == "unknown"
    assert recorder.events[0][1].status is Status.CANCELLED
    assert ledger.tasks.get(task.task_id).status is Status.CANCELLED
    assert_memory_equals_disk(ledger, bench)


@pytest.mark.parametrize("when", ["before", "after"])
def test_without_a_second_look_the_ledger_is_suspect_until_it_is_healed(bench, journal_mode, when):
    ledger = bench.open(journal_mode=journal_mode)
    task = made(ledger)
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)
    bench.faults.fail("COMMIT", when=when)
    bench.faults.fail("CONNECT", times=1000)

    with pytest.raises(StoreError) as raised:
        ledger.tasks.start(task.task_id)
    assert raised.value.outcome == "unknown"
    for read in (
        lambda: ledger.tasks.get(task.task_id),
        ledger.tasks.list,
        lambda: ledger.tasks.list_fresh_for_owner("owner"),
        lambda: ledger.tasks.find(task.task_id),
        lambda: made(ledger),
    ):
        with pytest.raises(StoreUnavailable):
            read()
    assert recorder.events == []

    bench.faults.heal()
    expected = Status.RUNNING if when == "after" else Status.QUEUED
    assert ledger.tasks.get(task.task_id).status is expected
    assert [event[0] for event in recorder.events] == ["restored"]
    assert not ledger.database.fence_owed
    assert_memory_equals_disk(ledger, bench)


def test_a_reload_that_fails_while_healing_raises_and_the_next_one_may_succeed(bench):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("COMMIT", when="after")
    bench.faults.fail("CONNECT")
    with pytest.raises(StoreError):
        ledger.tasks.start(task.task_id)
    bench.faults.fail('SELECT "task_id"')
    with pytest.raises(StoreUnavailable):
        ledger.tasks.get(task.task_id)
    assert ledger.tasks.get(task.task_id).status is Status.RUNNING


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_at_commit_gets_out_and_memory_equals_disk(bench, journal_mode, when, interrupt):
    ledger = bench.open(journal_mode=journal_mode)
    task = made(ledger)
    bench.faults.fail("COMMIT", interrupt, when=when)
    with pytest.raises(interrupt):
        ledger.tasks.start(task.task_id)
    assert ledger.tasks.get(task.task_id).status is (Status.RUNNING if when == "after" else Status.QUEUED)
    assert_memory_equals_disk(ledger, bench)
    made(ledger)


def test_an_interrupt_while_a_commit_is_being_settled_makes_the_next_read_load_again(bench):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("COMMIT", when="after")
    bench.faults.fail("CONNECT", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger.tasks.start(task.task_id)
    assert ledger.tasks.get(task.task_id).status is Status.RUNNING
    assert_memory_equals_disk(ledger, bench)


def test_an_interrupt_while_memory_adopts_makes_the_next_read_load_again(bench, monkeypatch):
    ledger = bench.open()
    task = made(ledger)

    def interrupted(change):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger.tasks, "_adopt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.tasks.start(task.task_id)
    monkeypatch.undo()
    assert ledger.tasks.get(task.task_id).status is Status.RUNNING


@pytest.mark.parametrize("when", ["before", "after"])
def test_memory_that_runs_out_at_commit_is_a_store_error(bench, when):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("COMMIT", MemoryError, when=when)
    if when == "before":
        with pytest.raises(StoreMemoryError) as raised:
            ledger.tasks.start(task.task_id)
        assert (raised.value.outcome, raised.value.retryable) == ("unchanged", True)
    else:
        ledger.tasks.start(task.task_id)
    assert_memory_equals_disk(ledger, bench)


def test_a_connection_that_cannot_roll_back_is_replaced(bench, journal_mode):
    ledger = bench.open(journal_mode=journal_mode)
    task = made(ledger)
    bench.faults.fail("UPDATE")
    bench.faults.fail("ROLLBACK")
    with pytest.raises(StoreIOError) as raised:
        ledger.tasks.start(task.task_id)
    assert raised.value.outcome == "unchanged"
    assert bench.faults.fired == 2
    assert ledger.tasks.start(task.task_id).status is Status.RUNNING
    assert_memory_equals_disk(ledger, bench)


def test_a_reader_in_the_way_of_a_rollback_journal_commit_is_busy_and_unchanged(bench):
    ledger = bench.open(journal_mode="delete", busy_timeout_ms=1)
    task = made(ledger)
    reader = bench.raw()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM tasks").fetchall()
    with pytest.raises(StoreBusy) as raised:
        ledger.tasks.start(task.task_id)
    assert (raised.value.outcome, raised.value.retryable) == ("unchanged", True)
    assert not ledger.database.fence_owed
    assert ledger.tasks.get(task.task_id) == task
    reader.execute("ROLLBACK")
    reader.close()
    assert ledger.tasks.start(task.task_id).status is Status.RUNNING


def test_a_lock_that_outlasts_the_timeout_is_busy_and_one_that_does_not_is_waited_for(bench):
    ledger = bench.open(busy_timeout_ms=1)
    patient = bench.open()
    task = made(ledger)
    holder = sqlite3.connect(bench.state_dir / "ledger.sqlite", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy) as raised:
        ledger.tasks.start(task.task_id)
    assert raised.value.outcome == "unchanged"
    timer = threading.Timer(0.05, lambda: holder.execute("ROLLBACK"))
    timer.start()
    patient.tasks.start(task.task_id)
    timer.join()
    holder.close()


# Batches


def test_a_batch_is_one_commit_and_reads_inside_it_see_it(bench):
    ledger = bench.open()
    recorder = bench.recorder()
    ledger.tasks.observe(recorder)
    with ledger.batch():
        task = made(ledger, run_id="run")
        assert made(ledger, run_id="run") == task
        ledger.tasks.start(task.task_id)
        assert ledger.tasks.get(task.task_id).status is Status.RUNNING
        assert ledger.tasks.list_for_owner("owner") == ledger.tasks.list_fresh_for_owner("owner")
        other = made(ledger)
        assert {one.task_id for one in ledger.tasks.list()} == {task.task_id, other.task_id}
        ledger.tasks.delete(other.task_id)
        assert ledger.tasks.get(other.task_id) is None
        assert bench.rows() == []
        assert recorder.events == []
    assert bench.rows() == [(task.task_id, "running")]
    assert [event[0] for event in recorder.events] == ["upserted", "upserted", "upserted", "deleted"]
    assert_memory_equals_disk(ledger, bench)


def test_a_store_error_dooms_the_batch_even_if_it_was_swallowed(bench):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("UPDATE")
    with pytest.raises(StoreError, match="nothing of this batch") as raised, ledger.batch():
        made(ledger, task="second")
        with pytest.raises(StoreIOError):
            ledger.tasks.start(task.task_id)
        for refused in (lambda: made(ledger), ledger.tasks.list, lambda: ledger.tasks.get(task.task_id)):
            with pytest.raises(StoreError, match="nothing of this batch"):
                refused()
    assert raised.value.outcome == "unchanged"
    assert ledger.tasks.list() == [task]
    assert_memory_equals_disk(ledger, bench)


def test_after_sqlite_ended_a_batch_by_itself_nothing_more_of_it_is_written(bench):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("UPDATE", instead="ROLLBACK")
    with pytest.raises(StoreError), ledger.batch():
        with pytest.raises(StoreIOError):
            ledger.tasks.start(task.task_id)
        with pytest.raises(StoreError):
            made(ledger, task="would be committed on its own")
    assert bench.rows() == [(task.task_id, "queued")]
    assert_memory_equals_disk(ledger, bench)


def test_a_refused_transition_does_not_spoil_a_batch(bench):
    ledger = bench.open()
    task = made(ledger)
    with ledger.batch():
        ledger.tasks.finish(task.task_id, "succeeded")
        with pytest.raises(IllegalTransition):
            ledger.tasks.start(task.task_id)
        made(ledger)
    assert len(bench.rows()) == 2
    assert ledger.tasks.get(task.task_id).status is Status.SUCCEEDED


def test_an_exception_in_the_body_of_a_batch_undoes_all_of_it(bench):
    ledger = bench.open()
    with pytest.raises(ZeroDivisionError), ledger.batch():
        made(ledger)
        _ = 1 / 0
    assert ledger.tasks.list() == []
    assert bench.rows() == []


def test_batches_nest_as_one(bench):
    ledger = bench.open()
    with pytest.raises(ZeroDivisionError), ledger.batch():
        with ledger.batch():
            made(ledger)
        assert bench.rows() == []
        _ = 1 / 0
    assert bench.rows() == []


def test_a_ledger_cannot_be_closed_inside_a_batch(bench):
    ledger = bench.open()
    with ledger.batch(), pytest.raises(UsageError):
        ledger.close()


def test_an_observer_may_call_the_ledger_and_gets_a_transaction_of_its_own(bench):
    ledger = bench.open()

    class Starter:
        def upserted(self, task, previous):
            if task.status is Status.QUEUED:
                ledger.tasks.start(task.task_id)

    ledger.tasks.observe(Starter())
    with ledger.batch():
        made(ledger)
        made(ledger)
    assert [status for _, status in bench.rows()] == ["running", "running"]
    assert_memory_equals_disk(ledger, bench)


def test_threads_share_a_ledger_without_losing_a_change(bench):
    ledger = bench.open(clock=lambda: 1_700_000_000_000)
    task = made(ledger)
    failures = []

    def work(number):
        try:
            for step in range(25):
                made(ledger, task=f"{number}/{step}")
                ledger.tasks.progress(task.task_id, f"{number}/{step}")
                ledger.tasks.list_for_owner("owner")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below.
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(ledger.tasks.list()) == 101
    assert_memory_equals_disk(ledger, bench)


def test_a_busy_commit_in_wal_mode_is_fenced_like_any_other(bench, error_of):
    ledger = bench.open()
    task = made(ledger)
    bench.faults.fail("COMMIT", lambda: error_of("BUSY"))
    with pytest.raises(StoreBusy):
        ledger.tasks.start(task.task_id)
    assert bench.rows("SELECT count FROM ledger_fence") == [(1,)]


def test_an_inner_block_that_wrote_and_then_raised_dooms_the_batch(bench):
    ledger = bench.open()
    with pytest.raises(StoreError, match="nothing of this batch"), ledger.batch():
        with pytest.raises(ZeroDivisionError), ledger.batch():
            made(ledger)
            _ = 1 / 0
    assert ledger.tasks.list() == []
    assert bench.rows() == []


def test_a_row_that_cannot_be_read_dooms_the_batch(bench):
    ledger = bench.open()
    task = made(ledger)
    raw = bench.raw()
    raw.execute("PRAGMA ignore_check_constraints = 1")
    raw.execute("UPDATE tasks SET status = 'exploded'")
    raw.close()
    with pytest.raises(StoreError, match="nothing of this batch"), ledger.batch():
        made(ledger)
        with pytest.raises(StoreCorrupt):
            ledger.tasks.start(task.task_id)
    assert bench.rows() == [(task.task_id, "exploded")]


def test_a_transaction_that_an_interrupt_left_open_is_rolled_back_by_the_next_call(bench):
    ledger = bench.open()
    task = made(ledger)
    connection = ledger.database.connection
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE tasks SET status = 'lost'")
    assert ledger.tasks.start(task.task_id).status is Status.RUNNING
    assert_memory_equals_disk(ledger, bench)
