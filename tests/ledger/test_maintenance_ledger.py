"""Maintenance: what is due for a task, what is done, and that what happened meanwhile is kept."""

import logging
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import msgspec
import pytest
from ledger_samples import T0

from tornpage import ledger
from tornpage.ledger import IllegalTransition, Runtime, Status, StoreError, StoreIOError, UsageError
from tornpage.ledger.rules.times import LOST_RETENTION_MS, RETENTION_MS
from tornpage.ledger.stores.json_snapshot import JsonSnapshotStore
from tornpage.ledger.stores.memory import MemoryStore
from tornpage.ledger.upkeep.maintenance import LOST_AFTER_MS, Maintenance, Step, due_step
from tornpage.ledger.upkeep.upkeep import Upkeep, preview_file

DAY = 86_400_000
ROOT = Path(ledger.__file__).parents[2]


def made(opened, **fields):
    return opened.tasks.create(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields})


def counts(report):
    return report.reconciled, report.pruned, report.stamped


def with_dead_worker(opened, **fields):
    task, worker = made(opened, **fields), opened.workers.hold()
    opened.history.start(task.task_id, worker_id=worker.id)
    worker.release()
    return task, worker


def unstamp(bench, task):
    connection = bench.raw()
    connection.execute("UPDATE tasks SET cleanup_after = NULL WHERE task_id = ?", (task.task_id,))
    connection.close()


# What is due


def task_of(status, **times):
    with ledger.Ledger.open(":memory:", clock=lambda: T0) as opened:
        return msgspec.structs.replace(made(opened, status=status), **times)


@pytest.mark.parametrize("status", ["queued", "running"])
def test_an_active_task_is_asked_about_after_five_minutes_of_silence(status):
    task = task_of(status)
    assert LOST_AFTER_MS == 300_000
    assert due_step(task, T0 + LOST_AFTER_MS - 1) is None
    assert due_step(task, T0 + LOST_AFTER_MS) is Step.MARK_LOST
    assert due_step(msgspec.structs.replace(task, cleanup_after=1), T0) is None


@pytest.mark.parametrize("status", ["succeeded", "failed", "timed_out", "cancelled", "lost"])
def test_a_task_that_is_over_is_pruned_from_the_very_millisecond_or_stamped(status):
    task = task_of(status)
    retention = LOST_RETENTION_MS if status == "lost" else RETENTION_MS
    assert due_step(task, T0 + retention - 1) is None
    assert due_step(task, T0 + retention) is Step.PRUNE
    unstamped = msgspec.structs.replace(task, cleanup_after=None)
    assert due_step(unstamped, T0) is Step.STAMP
    assert due_step(unstamped, T0 + 365 * DAY) is Step.STAMP


# What is done


def test_a_preview_counts_what_apply_then_does(bench, time):
    opened = bench.open(clock=time)
    pruned = made(opened, status="succeeded", requester_origin={"channel": 1})
    time.now += RETENTION_MS - 1
    kept, stamped = made(opened, status="failed"), made(opened, status="failed")
    unstamp(bench, stamped)
    time.now += 1
    lost, worker = with_dead_worker(opened)
    time.now += LOST_AFTER_MS
    before = opened.tasks.list()

    preview = opened.maintenance()
    assert (counts(preview), preview.applied, preview.checkpointed) == ((1, 1, 1), False, None)
    assert preview_file(bench.state_dir, clock=time) == preview
    assert opened.tasks.list() == before

    recorder = bench.recorder()
    opened.tasks.observe(recorder)
    done = opened.maintenance(apply=True)
    assert (counts(done), done.applied, done.checkpointed) == ((1, 1, 1), True, True)
    assert [event[:2] for event in recorder.events] == [
        ("deleted", pruned.task_id),
        ("upserted", opened.tasks.get(stamped.task_id)),
        ("upserted", opened.tasks.get(lost.task_id)),
    ]
    assert opened.tasks.get(pruned.task_id) is None
    assert opened.tasks.get_delivery(pruned.task_id) is None
    assert bench.rows("SELECT task_id FROM task_delivery_state") == []
    assert opened.tasks.get(kept.task_id) == kept
    assert opened.tasks.get(stamped.task_id) == stamped
    now_lost = opened.tasks.get(lost.task_id)
    assert (now_lost.status, now_lost.error) == ("lost", f"its worker {worker.id} is gone")
    assert (now_lost.ended_at, now_lost.last_event_at) == (time.now, time.now)
    assert now_lost.cleanup_after == time.now + LOST_RETENTION_MS
    assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")
    assert counts(opened.maintenance(apply=True)) == (0, 0, 0)


def test_a_preview_counts_only_what_nothing_works_on(bench, time):
    answers = {"acp": False, "cron": True}
    hooks = {Runtime(name): lambda task: answers[task.runtime] for name in answers}
    opened = bench.open(clock=time, session_hooks=hooks)
    for runtime in ("acp", "cron", "cli"):
        made(opened, runtime=runtime, status="running")
    assert counts(opened.maintenance()) == (0, 0, 0)
    time.now += LOST_AFTER_MS
    assert counts(opened.maintenance()) == (1, 0, 0)
    # A reader of the file alone can't ask, and what can't be told counts as alive.
    assert counts(preview_file(bench.state_dir, clock=time)) == (0, 0, 0)
    assert counts(opened.maintenance(apply=True)) == (1, 0, 0)
    assert {task.runtime.value: task.status.value for task in opened.tasks.list()} == {
        "acp": "lost",
        "cron": "running",
        "cli": "running",
    }


def test_only_the_first_step_that_fits_is_done_in_one_pass(bench, time):
    opened = bench.open(clock=time)
    task, _ = with_dead_worker(opened)
    time.now += 30 * DAY
    assert counts(opened.maintenance(apply=True)) == (1, 0, 0)
    unstamp(bench, task)
    time.now += 30 * DAY
    assert counts(opened.maintenance(apply=True)) == (0, 0, 1)
    assert counts(opened.maintenance(apply=True)) == (0, 1, 0)
    assert opened.tasks.list() == []


def test_an_error_that_a_lost_task_already_has_stays(bench, time):
    opened = bench.open(clock=time)
    task, _ = with_dead_worker(opened, error="no water")
    time.now += LOST_AFTER_MS
    opened.maintenance(apply=True)
    assert opened.tasks.get(task.task_id).error == "no water"


def test_live_work_is_never_taken_for_lost_by_another_process(bench, time):
    """The known bug offline-marks-live-lost: and the real completion is kept."""
    opened = bench.open(clock=time)
    worker = opened.workers.hold()
    task, unattended = made(opened), made(opened, status="running", runtime="acp")
    run = opened.history.start(task.task_id, worker_id=worker.id)
    time.now += 90 * DAY
    script = "import sys; from tornpage import ledger\n"
    script += "with ledger.Ledger.open(sys.argv[1], clock=lambda: int(sys.argv[2])) as one:\n"
    script += "    print(one.maintenance(apply=True).reconciled)\n"
    child = Popen([sys.executable, "-c", script, str(bench.state_dir), str(time.now)], cwd=ROOT, stdout=PIPE, text=True)
    assert child.communicate(timeout=60)[0] == "0\n"
    opened.history.finish(run.id, "success")
    assert opened.tasks.get(task.task_id).status is Status.SUCCEEDED
    assert opened.tasks.get(unattended.task_id).status is Status.RUNNING
    worker.release()


def test_the_run_of_a_lost_task_may_still_report_its_real_end_and_nobody_else(bench, time):
    opened = bench.open(clock=time, session_hooks={Runtime.CLI: lambda _task: False})
    task = made(opened, run_id="run", status="running")
    time.now += LOST_AFTER_MS
    assert opened.maintenance(apply=True).reconciled == 1
    with pytest.raises(IllegalTransition):
        opened.tasks.finish(task.task_id, "succeeded")
    assert opened.tasks.finalize_by_run("run", "succeeded")[0].status is Status.SUCCEEDED


def test_recovery_still_finds_the_run_of_a_task_that_maintenance_marked_as_lost(bench, time):
    opened = bench.open(clock=time)
    task, _ = with_dead_worker(opened)
    time.now += LOST_AFTER_MS
    assert opened.maintenance(apply=True).reconciled == 1
    lost = opened.tasks.get(task.task_id)
    assert [run.task_id for run in opened.recover().interrupted] == [task.task_id]
    assert opened.tasks.get(task.task_id) == lost


def test_a_task_with_a_living_and_a_dead_worker_is_alive(bench, time):
    opened = bench.open(clock=time)
    task, _ = with_dead_worker(opened)
    living = opened.workers.hold()
    connection = bench.raw()
    connection.execute(
        "INSERT INTO task_history (id, task_id, worker_id, status, started_at) VALUES ('second', ?, ?, 'running', 1)",
        (task.task_id, living.id),
    )
    connection.close()
    time.now += LOST_AFTER_MS
    assert counts(opened.maintenance(apply=True)) == (0, 0, 0)
    living.release()
    assert counts(opened.maintenance(apply=True)) == (1, 0, 0)


@pytest.mark.parametrize("answer", [True, None, RuntimeError("no idea")])
def test_a_hook_that_does_not_say_no_keeps_the_task(bench, time, answer, caplog):
    def hook(task):
        if isinstance(answer, Exception):
            raise answer
        return answer

    opened = bench.open(clock=time, session_hooks={Runtime.CLI: hook})
    made(opened, status="running")
    time.now += LOST_AFTER_MS
    with caplog.at_level(logging.CRITICAL):
        assert counts(opened.maintenance(apply=True)) == (0, 0, 0)


# What happens meanwhile


class Interfering(Maintenance):
    """Runs something between the look at all tasks and the change of one."""

    meanwhile = None

    def _mark_lost(self, task_id):
        type(self).meanwhile(task_id)
        return super()._mark_lost(task_id)

    def _prune(self, task_id):
        type(self).meanwhile(task_id)
        return super()._prune(task_id)

    def _stamp(self, task_id):
        type(self).meanwhile(task_id)
        return super()._stamp(task_id)


@pytest.fixture
def interfere():
    def make(meanwhile):
        class Kept(Upkeep):
            maintenance = type("Interferes", (Interfering,), {"meanwhile": staticmethod(meanwhile)})

        return Kept

    return make


def test_each_row_is_read_again_before_it_is_changed(bench, time, interfere):
    def meanwhile(task_id):
        other = bench.open(clock=time)
        task = other.tasks.get(task_id)
        if task.status is Status.RUNNING:
            other.tasks.finish(task_id, "succeeded")
        else:
            other.tasks.delete(task_id)
        other.close()

    opened = bench.open(clock=time, upkeep=interfere(meanwhile))
    lost, _ = with_dead_worker(opened)
    pruned, stamped = made(opened, status="failed"), made(opened, status="failed")
    unstamp(bench, stamped)
    time.now += RETENTION_MS
    assert counts(opened.maintenance()) == (1, 1, 1)
    assert counts(opened.maintenance(apply=True)) == (0, 0, 0)
    assert [task.task_id for task in opened.tasks.list()] == [lost.task_id]
    assert opened.tasks.get(lost.task_id).status is Status.SUCCEEDED
    assert opened.tasks.get(pruned.task_id) is None


@pytest.mark.parametrize("what", ["progress", "worker", "ended", "deleted", "unreadable"])
def test_what_happens_after_the_hook_was_asked_is_kept(bench, time, what):
    asked = []

    def hook(task):
        asked.append(task.task_id)
        other = bench.open(clock=lambda: T0)
        if what == "progress":
            other.tasks.set_delivery_status(task.task_id, "delivered")
        elif what == "worker":
            other.history.start(task.task_id, worker_id=worker.id, started_at=T0)
        elif what == "ended":
            other.tasks.finish(task.task_id, "succeeded")
        elif what == "deleted":
            other.tasks.delete(task.task_id)
        else:
            connection = bench.raw()
            connection.execute("PRAGMA ignore_check_constraints = 1")
            connection.execute("UPDATE tasks SET runtime = 'exploded'")
            connection.close()
        other.close()
        return False

    opened = bench.open(clock=time, session_hooks={Runtime.CLI: hook})
    worker = opened.workers.hold()
    made(opened)
    time.now += LOST_AFTER_MS
    assert counts(opened.maintenance(apply=True)) == (0, 0, 0)
    assert len(asked) == 1
    assert [task.status.value for task in opened.tasks.list()] == {
        "progress": ["queued"],
        "worker": ["running"],
        "ended": ["succeeded"],
    }.get(what, [])
    worker.release()


def test_each_task_is_a_transaction_of_its_own(bench, time, error_of):
    opened = bench.open(clock=time)
    tasks = [made(opened, status="failed") for _ in range(3)]
    time.now += RETENTION_MS
    bench.faults.fail("COMMIT", lambda: error_of("IOERR_WRITE"), skip=1)
    with pytest.raises(StoreIOError) as raised:
        opened.maintenance(apply=True)
    assert raised.value.outcome == "unchanged"
    assert [task.task_id for task in opened.tasks.list()] == [task.task_id for task in tasks[:0:-1]]
    assert [row[0] for row in bench.rows()] == [task.task_id for task in tasks[1:]]
    assert counts(opened.maintenance(apply=True)) == (0, 2, 0)


def test_maintenance_inside_a_batch_is_refused_and_spoils_nothing(bench, time):
    opened = bench.open(clock=time)
    with opened.batch():
        task = made(opened)
        with pytest.raises(UsageError, match="batch"):
            opened.maintenance(apply=True)
        with pytest.raises(UsageError, match="batch"):
            opened.maintenance()
    assert opened.tasks.get(task.task_id) == task


@pytest.mark.parametrize("make", [lambda place: JsonSnapshotStore(place / "tasks.json"), lambda _place: MemoryStore()])
def test_a_ledger_over_another_store_is_maintained_too(tmp_path, time, make):
    hooks = {Runtime.ACP: lambda _task: False}
    store = make(tmp_path)
    with ledger.Ledger.open(store=store, clock=time, session_hooks=hooks) as opened:
        lost, gone = made(opened, runtime="acp", status="running"), made(opened, status="failed")
        time.now += RETENTION_MS
        report = opened.maintenance(apply=True)
        assert (counts(report), report.checkpointed) == ((1, 1, 0), None)
        assert opened.tasks.get(gone.task_id) is None
        assert store.load_snapshot().tasks[lost.task_id].status is Status.LOST


# The checkpoint


def wal_pages(bench):
    path = bench.state_dir / "ledger.sqlite-wal"
    return path.stat().st_size // 4096 if path.exists() else 0


def test_maintenance_copies_the_wal_into_the_database_so_that_it_is_used_again(bench, time):
    opened = bench.open(clock=time)
    sizes = []
    for _ in range(5):
        for _ in range(40):
            made(opened)
        assert opened.maintenance(apply=True).checkpointed
        sizes.append(wal_pages(bench))
    assert max(sizes) <= sizes[0] * 1.5
    opened.close()
    assert wal_pages(bench) == 0


def test_a_reader_in_the_way_is_not_waited_for_and_is_reported(bench, time):
    opened = bench.open(clock=time)
    made(opened)
    reader = bench.raw()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM tasks").fetchall()
    made(opened)
    assert opened.maintenance(apply=True).checkpointed is False
    reader.execute("ROLLBACK")
    reader.close()
    assert opened.maintenance(apply=True).checkpointed is True


def test_a_checkpoint_that_fails_does_not_undo_the_work(bench, time, error_of, caplog):
    opened = bench.open(clock=time)
    made(opened, status="failed")
    time.now += RETENTION_MS
    bench.faults.fail("PRAGMA wal_checkpoint(PASSIVE)", lambda: error_of("IOERR_WRITE"))
    report = opened.maintenance(apply=True)
    assert (counts(report), report.checkpointed) == ((0, 1, 0), False)
    assert "could not be copied" in caplog.text
    assert opened.tasks.list() == []


@pytest.mark.parametrize("statement", ["BEGIN", "SELECT", "UPDATE", "COMMIT"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fault_at_any_statement_leaves_memory_and_disk_equal_and_the_next_pass_finishes(
    bench, time, journal_mode, statement, when, error_of
):
    hooks = {Runtime.ACP: lambda _task: False}
    fired, skip = True, 0
    while fired:
        opened = bench.open(clock=time, journal_mode=journal_mode, session_hooks=hooks)
        lost, gone = made(opened, runtime="acp", status="running"), made(opened, status="failed")
        time.now += RETENTION_MS
        stamped = made(opened, status="failed")
        unstamp(bench, stamped)
        opened.tasks.list()
        bench.faults.fired = 0
        bench.faults.fail(statement, lambda: error_of("IOERR_READ"), when=when, skip=skip)
        try:
            opened.maintenance(apply=True)
        except StoreError as error:
            assert error.outcome == "unchanged"  # noqa: PT017 - whether it raises depends on the statement.
        fired, skip = bench.faults.fired > 0, skip + 1
        bench.faults.heal()
        assert opened.tasks.list_for_owner("owner") == opened.tasks.list_fresh_for_owner("owner")
        opened.maintenance(apply=True)
        assert {task.task_id: task.status.value for task in opened.tasks.list()} == {
            lost.task_id: "lost",
            stamped.task_id: "failed",
        }
        assert None not in {task.cleanup_after for task in opened.tasks.list()}
        for task in opened.tasks.list():
            opened.tasks.delete(task.task_id)
        assert opened.tasks.get(gone.task_id) is None
        opened.close()
    assert skip > 1
