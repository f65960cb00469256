"""Boot recovery in one process: what is flagged, what is left alone, and that a failure flags all or none."""

import contextlib
import logging
import os

import msgspec
import pytest

from tornpage import ledger
from tornpage.ledger import RunStatus, Status, StoreBusy, StoreError, StoreUnavailable
from tornpage.ledger.recovery import Recovered, Recovery, _Announcement
from tornpage.ledger.runs import RUNS as RUN_ROWS

RUNS = "SELECT id, status, finished_at, cost_usd, tokens_in, tokens_out, reason FROM task_history ORDER BY insertion"


def queued(opened, **fields):
    return opened.tasks.create(**{"runtime": "cli", "task": "work", "owner_key": "owner", **fields})


def began(opened, run_id, worker_id="w1"):
    run = opened.history.start(queued(opened).task_id, worker_id=worker_id, run_id=run_id)
    opened.history.open_session(run_id, f"session-{run_id}")
    return run


def everything(opened):
    """What a caller can see, through memory and through queries."""
    return (opened.tasks.list(), opened.history.list(), opened.history.list_sessions())


def told(caplog):
    """The beginnings of recovery's own lines."""
    return [text.split(":")[0] for text in caplog.messages if text.startswith("[recovery]")]


@pytest.fixture(autouse=True)
def all_lines(caplog):
    caplog.set_level(logging.DEBUG, logger="ledger.recovery")


@pytest.fixture
def opened(bench):
    return bench.open()


@pytest.fixture
def scene(opened, hold):
    """Worker w1 died with r1 and r2 in flight and r3 finished; w2 lives and has r4 in flight."""
    dead = hold(opened)
    hold(opened, "w2")
    for run_id in ("r1", "r2", "r3"):
        began(opened, run_id)
    began(opened, "r4", "w2")
    opened.history.finish("r3", "success", cost_usd=1.0, tokens_in=5)
    dead.release()
    return opened


def test_runs_in_flight_of_dead_workers_are_interrupted_and_all_others_untouched(scene, bench):
    untouched = {run_id: scene.history.get(run_id) for run_id in ("r3", "r4")}
    done = scene.recover()
    assert [run.id for run in done.interrupted] == ["r1", "r2"]
    assert (done.sessions_invalidated, done.left_running, done.quarantined) == (2, 1, ())
    for run in done.interrupted:
        assert scene.history.get(run.id) == run
        assert run.status is RunStatus.INTERRUPTED
        assert run.finished_at > run.started_at
        assert (run.cost_usd, run.tokens_in, run.tokens_out, run.turns, run.artifacts) == (None,) * 5
        task = scene.tasks.get(run.task_id)
        assert (task.status, task.error) == (Status.LOST, f"worker w1 died while run {run.id} was in flight")
        assert (task.ended_at, task.cleanup_after) == (run.finished_at, run.finished_at + 24 * 3_600_000)
        session = scene.history.get_session(f"session-{run.id}")
        assert (session.valid, session.invalidated_at, session.reason) == (False, run.finished_at, task.error)
    for run_id, run in untouched.items():
        assert scene.history.get(run_id) == run
        assert scene.history.get_session(f"session-{run_id}").valid
    assert scene.tasks.get(untouched["r3"].task_id).status is Status.SUCCEEDED
    assert scene.tasks.get(untouched["r4"].task_id).status is Status.RUNNING
    assert len(bench.rows(RUNS)) == 4
    assert scene.tasks.list_for_owner("owner") == scene.tasks.list_fresh_for_owner("owner")


def test_the_second_time_nothing_is_left_to_flag(scene):
    scene.recover()
    before = everything(scene)
    assert scene.recover() == Recovered(left_running=1)
    assert everything(scene) == before


def test_each_interrupted_run_is_one_line_of_the_log(bench, hold, caplog):
    opened = bench.open(clock=lambda: 1_700_000_000_000)
    worker = hold(opened)
    for run_id in ("r1", "two\nlines"):
        began(opened, run_id)
    opened.recover()
    assert caplog.messages == []
    worker.release()
    opened.recover()
    opened.recover()
    tasks = {run.id: run.task_id for run in opened.history.list()}
    assert caplog.messages == [
        f"[recovery] run r1 interrupted: task {tasks['r1']}, started 2023-11-14T22:13:20+00:00, worker w1",
        f"[recovery] run two lines interrupted: task {tasks[chr(10).join(['two', 'lines'])]}, "
        "started 2023-11-14T22:13:20+00:00, worker w1",
    ]


def test_the_lines_come_after_the_commit_and_never_without_it(scene, caplog):
    with scene.batch():
        assert len(scene.recover().interrupted) == 2
        assert caplog.messages == []
    assert len(caplog.messages) == 2


def test_in_a_batch_that_is_given_up_nobody_was_flagged(scene, caplog):
    before = everything(scene)

    def give_up():
        with scene.batch():
            scene.recover()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    assert (everything(scene), caplog.messages) == (before, [])
    assert len(scene.recover().interrupted) == 2


def test_a_task_that_ended_or_is_gone_does_not_hinder_recovery(scene):
    first, second = (scene.history.get(run_id).task_id for run_id in ("r1", "r2"))
    ended = scene.tasks.finish(first, "cancelled")
    scene.tasks.delete(second)
    assert len(scene.recover().interrupted) == 2
    assert scene.tasks.get(first) == ended
    assert scene.tasks.get(second) is None


def test_rows_that_cannot_be_read_hinder_nobody_elses_recovery(scene, caplog):
    connection = scene.database.connection
    connection.execute("PRAGMA ignore_check_constraints = 1")
    connection.execute("UPDATE task_history SET artifacts = '{' WHERE id = 'r1'")
    connection.execute("UPDATE tasks SET runtime = 'exploded' WHERE task_id = ?", (scene.history.get("r2").task_id,))
    connection.execute("UPDATE agent_sessions SET reason = CAST(x'ff' AS TEXT) WHERE run_id = 'r2'")
    done = scene.recover()
    assert [run.id for run in done.interrupted] == ["r2"]
    assert [one.key for one in done.quarantined] == ["r1"]
    assert not scene.history.get_session("session-r2").valid
    assert scene.history.get_session("session-r1").valid
    assert "run r1 left as it is" in caplog.text
    # It is still there to be recovered once somebody has repaired the row.
    connection.execute("UPDATE task_history SET artifacts = NULL WHERE id = 'r1'")
    assert [run.id for run in scene.recover().interrupted] == ["r1"]


def test_a_worker_about_which_nothing_can_be_told_is_left_alone(scene, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert scene.recover() == Recovered(left_running=3)
    assert len(scene.recover().interrupted) == 2


def test_a_clock_that_jumped_back_interrupts_no_run_before_its_start(bench, hold):
    times = iter([9000] * 4)
    opened = bench.open(clock=lambda: next(times, 100))
    worker = hold(opened)
    began(opened, "r1")
    worker.release()
    (run,) = opened.recover().interrupted
    assert run.finished_at == run.started_at
    assert opened.tasks.get(run.task_id).ended_at == run.finished_at


def test_observers_hear_of_each_lost_task_once_and_after_the_commit(scene, bench):
    recorder = bench.recorder()
    scene.tasks.observe(recorder)
    done = scene.recover()
    scene.recover()
    heard = [(event, task.task_id, task.status, previous.status) for event, task, previous in recorder.events]
    assert heard == [("upserted", run.task_id, "lost", "running") for run in done.interrupted]


# A write that fails in the middle


@pytest.mark.parametrize("when", ["before", "after"])
def test_whichever_statement_fails_all_are_flagged_or_none(bench, hold, when, journal_mode, caplog):
    """A sweep: the nth statement of recovery fails, for every n until nothing fires."""
    flagged = set()
    for skip in range(80):
        bench.state_dir = bench.state_dir.with_name(f"state-{skip}")
        opened = bench.open(journal_mode=journal_mode)
        worker = hold(opened)
        for run_id in ("r1", "r2"):
            began(opened, run_id)
        worker.release()
        fired = bench.faults.fired
        caplog.clear()
        bench.faults.fail("", skip=skip, when=when)
        with contextlib.suppress(StoreError):
            opened.recover()
        bench.faults.heal()
        states = [run.status.value for run in opened.history.list()]
        flagged.add(tuple(states))
        assert len(set(states)) == 1
        assert len({opened.tasks.get(run.task_id).status for run in opened.history.list()}) == 1
        assert len({session.valid for session in opened.history.list_sessions()}) == 1
        # Said once for each run that is flagged, and not said otherwise.
        assert len([text for text in caplog.messages if "interrupted:" in text]) == states.count("interrupted")
        with ledger.Ledger.open(bench.state_dir, journal_mode=journal_mode) as fresh:
            assert everything(fresh) == everything(opened)
        assert len(opened.recover().interrupted) == states.count("running")
        if bench.faults.fired == fired:
            break
    else:
        pytest.fail("the sweep never came to its end")
    assert flagged == {("running", "running"), ("interrupted", "interrupted")}
    assert skip >= 10


def test_where_the_commit_is_unclear_the_error_says_so_and_the_next_pass_settles_it(scene, bench, error_of):
    # COMMIT fails without having happened, and neither can the fence be laid.
    bench.faults.fail("COMMIT", lambda: error_of("IOERR_WRITE"), instead="ROLLBACK")
    bench.faults.fail("INSERT INTO ledger_fence", lambda: error_of("IOERR_WRITE"), times=10)
    with pytest.raises(StoreError) as raised:
        scene.recover()
    assert raised.value.outcome == "unknown"
    bench.faults.heal()
    assert len(scene.recover().interrupted) == 2


def test_a_pass_that_cannot_secure_what_it_rests_on_names_what_the_disk_said(scene, bench, error_of):
    """The COMMIT happened and raised; the next pass finds nothing to write, and the fence still can't be laid."""
    bench.faults.fail("COMMIT", lambda: error_of("IOERR_FSYNC"), instead="COMMIT")
    bench.faults.fail("INSERT INTO ledger_fence", lambda: error_of("IOERR_WRITE"), times=10)
    with pytest.raises(StoreError):
        scene.recover()
    with pytest.raises(StoreError, match="can't be secured yet") as raised:
        scene.recover()
    assert raised.value.outcome == "unknown"
    assert raised.value.__cause__.sqlite_errorname == "SQLITE_IOERR_WRITE"
    bench.faults.heal()


@pytest.mark.parametrize("happened", [True, False])
def test_where_the_commit_is_unclear_the_lines_are_those_of_the_rows_that_are_there(
    scene, bench, error_of, caplog, happened
):
    """No later pass would flag those rows again, so nobody else would ever say it."""
    bench.faults.fail("COMMIT", lambda: error_of("IOERR_FSYNC"), instead="COMMIT" if happened else "ROLLBACK")
    bench.faults.fail("INSERT INTO ledger_fence", lambda: error_of("IOERR_WRITE"), times=10)
    with pytest.raises(StoreError) as raised:
        scene.recover()
    assert raised.value.outcome == "unknown"
    bench.faults.heal()
    assert told(caplog) == (["[recovery] run r1 interrupted", "[recovery] run r2 interrupted"] if happened else [])
    caplog.clear()
    assert len(scene.recover().interrupted) == (0 if happened else 2)
    assert len(told(caplog)) == (0 if happened else 2)


def test_runs_that_another_process_flagged_meanwhile_are_that_ones_to_tell(scene, caplog):
    done = scene.recover()
    caplog.clear()
    first, second = done.interrupted
    elsewhere = msgspec.structs.replace(second, finished_at=second.finished_at + 1)
    found = {("task_history", run.id): RUN_ROWS.encode(run) for run in (first, elsewhere)}
    _Announcement(Recovery(scene.history), done).settled(found)
    assert told(caplog) == ["[recovery] run r1 interrupted"]


def test_where_the_rows_cannot_be_read_again_the_log_names_the_runs_in_doubt(scene, bench, error_of, caplog):
    bench.faults.fail("COMMIT", lambda: error_of("IOERR_FSYNC"), instead="COMMIT")
    bench.faults.fail("CONNECT", lambda: error_of("CANTOPEN"), times=10)
    with pytest.raises(StoreError) as raised:
        scene.recover()
    assert raised.value.outcome == "unknown"
    bench.faults.heal()
    assert "it is unknown whether these runs were marked as interrupted: r1, r2" in caplog.messages[-1]


def test_a_ledger_that_is_locked_says_busy_and_flags_nothing(bench, hold):
    opened = bench.open(busy_timeout_ms=10)
    worker = hold(opened)
    began(opened, "r1")
    worker.release()
    other = bench.raw()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy) as raised:
        opened.recover()
    assert (raised.value.outcome, raised.value.retryable) == ("unchanged", True)
    other.close()
    assert opened.history.get("r1").status is RunStatus.RUNNING
    assert len(opened.recover().interrupted) == 1


# Lock files


def test_the_ids_of_dead_workers_become_free_once_nothing_refers_to_them(scene, bench):
    locks = bench.state_dir / "workers"
    assert (locks / "w1.lock").exists()
    scene.recover()
    assert sorted(path.name for path in locks.glob("w*.lock")) == ["w2.lock"]
    with scene.workers.hold("w1"):
        began(scene, "r5")
        assert scene.recover().left_running == 2


def test_an_id_stays_taken_while_a_run_of_its_dead_worker_is_still_running(scene):
    """Otherwise the new worker would make the old one's runs look alive for ever."""
    with pytest.raises(ledger.IllegalTransition):
        scene.workers.hold("w1")
    connection = scene.database.connection
    connection.execute("UPDATE task_history SET artifacts = '{' WHERE id = 'r1'")
    scene.recover()
    with pytest.raises(ledger.IllegalTransition):
        scene.workers.hold("w1")


def test_a_worker_that_other_rows_refer_to_keeps_its_id(scene):
    scene.history.worker_references.append(lambda _: {"w1"})
    scene.recover()
    with pytest.raises(ledger.IllegalTransition):
        scene.workers.hold("w1")


def test_inside_a_batch_no_lock_file_is_removed(scene, bench):
    with scene.batch():
        scene.recover()
    assert (bench.state_dir / "workers" / "w1.lock").exists()


def test_lock_files_that_cannot_be_removed_are_no_failed_recovery(scene, monkeypatch, caplog):
    def refuse(_):
        raise StoreUnavailable("no")

    monkeypatch.setattr(scene.workers, "clean", refuse)
    assert len(scene.recover().interrupted) == 2
    assert "stay until the next recovery" in caplog.text
