"""Auditing a whole ledger, open or as a file: what is read, what is left alone, what counts as lost."""

import json
import logging
import os
import tracemalloc

import pytest
from ledger_samples import T0

from tornpage import ledger
from tornpage.ledger.errors import StoreBusy, StoreCorrupt, StoreError, StoreSchemaNewer, StoreUnavailable, UsageError
from tornpage.ledger.records import Runtime, Status
from tornpage.ledger.stores.json_snapshot import JsonSnapshotStore
from tornpage.ledger.stores.memory import MemoryStore
from tornpage.ledger.upkeep.audit import AuditCode
from tornpage.ledger.upkeep.upkeep import audit_file, preview_file

HOUR = 3_600_000


def made(opened, **fields):
    return opened.tasks.create(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields})


def codes(report):
    return [(one.task_id, one.code.value) for one in report.findings]


def dump(bench):
    connection = bench.raw()
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_an_open_ledger_and_its_file_are_audited_alike(bench, time):
    opened = bench.open(clock=time)
    stale, over = made(opened), made(opened, status="succeeded")
    opened.tasks.set_delivery_status(over.task_id, "failed")
    time.now += HOUR
    report = opened.audit()
    assert codes(report) == [(stale.task_id, "stale_queued"), (over.task_id, "delivery_failed")]
    assert report.findings[0].age_ms == HOUR
    assert audit_file(bench.state_dir, clock=time) == report


def test_the_summary_counts_the_whole_ledger_whatever_the_filters(bench, time):
    opened = bench.open(clock=time)
    for status in ("queued", "queued", "running", "lost"):
        made(opened, status=status)
    time.now += 48 * HOUR
    whole = opened.audit()
    assert (whole.summary.total, whole.summary.errors, whole.summary.warnings) == (4, 2, 2)
    for filters in ({"severity": "warn"}, {"code": "lost"}, {"limit": 1}, {"code": "missing_cleanup"}):
        assert opened.audit(**filters).summary == whole.summary
        assert opened.audit(**filters).count == 4
    assert opened.audit(severity="warn", limit=1).filtered_count == 2
    assert opened.audit(severity="warn", limit=1).displayed == 1


def test_contradictions_are_read_from_the_rows_which_every_normal_read_hides(bench, time):
    opened = bench.open(clock=time)
    tasks = [made(opened, status=status) for status in ("succeeded", "failed", "running")]
    connection = bench.raw()
    change = "UPDATE tasks SET started_at = ?, ended_at = ? WHERE task_id = ?"
    connection.execute(change, (T0 - 5, T0, tasks[0].task_id))
    connection.execute(change, (T0 + 9, T0 + 3, tasks[1].task_id))
    connection.execute(change, (T0, T0, tasks[2].task_id))
    connection.close()
    report = opened.audit(code=AuditCode.INCONSISTENT_TIMESTAMPS)
    assert [(one.task_id, one.detail, one.age_ms) for one in report.findings] == [
        (tasks[0].task_id, "started_at is earlier than created_at", None),
        (tasks[1].task_id, "ended_at is earlier than started_at", None),
        (tasks[2].task_id, "running, but it has an ended_at", None),
    ]
    shown = {task.task_id: task for task in opened.tasks.list()}
    assert shown[tasks[0].task_id].created_at == shown[tasks[0].task_id].started_at
    assert shown[tasks[1].task_id].ended_at == shown[tasks[1].task_id].started_at


def test_a_clock_that_jumps_back_an_hour_makes_no_noise(bench, time):
    opened = bench.open(clock=time)
    task = made(opened)
    time.now -= HOUR
    opened.tasks.start(task.task_id)
    time.now -= HOUR
    opened.tasks.finish(task.task_id, "succeeded")
    assert opened.audit().count == 0


def test_an_audit_writes_nothing_at_all(bench, time):
    opened = bench.open(clock=time)
    worker = opened.workers.hold()
    task = made(opened)
    opened.history.start(task.task_id, worker_id=worker.id)
    worker.release()
    opened.close()
    before, size = dump(bench), (bench.state_dir / "ledger.sqlite").read_bytes()
    time.now += HOUR
    assert codes(audit_file(bench.state_dir, clock=time)) == [(task.task_id, "lost")]
    assert preview_file(bench.state_dir, clock=time).reconciled == 1
    assert dump(bench) == before
    assert (bench.state_dir / "ledger.sqlite").read_bytes() == size


def test_work_of_a_dead_worker_is_reported_as_lost_and_that_of_a_living_one_is_not(bench, time):
    opened = bench.open(clock=time)
    living, dead = opened.workers.hold(), opened.workers.hold()
    mine, theirs = made(opened), made(opened)
    opened.history.start(mine.task_id, worker_id=living.id)
    opened.history.start(theirs.task_id, worker_id=dead.id)
    dead.release()
    time.now += 5 * 60_000 - 1
    assert opened.audit().count == 0
    time.now += 1
    report = opened.audit()
    assert codes(report) == [(theirs.task_id, "lost")]
    (finding,) = report.findings
    assert (finding.severity, finding.status, finding.age_ms) == ("warn", "lost", 0)
    assert finding.detail == f"its worker {dead.id} is gone"
    assert audit_file(bench.state_dir, clock=time) == report
    assert opened.tasks.get(theirs.task_id).status is Status.RUNNING
    living.release()


@pytest.mark.parametrize("answer", [True, False, None, RuntimeError("no idea")])
def test_without_a_worker_only_a_hook_that_says_no_makes_a_task_lost(bench, time, answer, caplog):
    asked = []

    def hook(task):
        asked.append(task)
        if isinstance(answer, Exception):
            raise answer
        return answer

    opened = bench.open(clock=time, session_hooks={Runtime.ACP: hook})
    task, other = made(opened, runtime="acp", status="running"), made(opened, status="running")
    over = made(opened, runtime="acp", status="succeeded")
    assert opened.audit().count == 0
    assert asked == []
    time.now += 5 * 60_000
    with caplog.at_level(logging.CRITICAL):
        report = opened.audit()
    assert asked == [task]
    assert codes(report) == ([(task.task_id, "lost")] if answer is False else [])
    assert {other.task_id, over.task_id}.isdisjoint(one for one, _ in codes(report))


def test_a_hook_may_use_the_ledger(bench, time):
    def hook(task):
        opened.tasks.progress(task.task_id, "the hook was here")
        return False

    opened = bench.open(clock=time, session_hooks={Runtime.CLI: hook})
    task = made(opened, status="running")
    time.now += HOUR
    # What the hook did is an event, so the task is no longer silent.
    assert opened.audit().count == 0
    assert opened.tasks.get(task.task_id).progress_summary == "the hook was here"


def test_a_stored_session_of_a_dead_worker_is_no_life(bench, time):
    opened = bench.open(clock=time, session_hooks={Runtime.CLI: lambda _task: True})
    worker = opened.workers.hold()
    task = made(opened)
    opened.history.start(task.task_id, worker_id=worker.id)
    worker.release()
    time.now += HOUR
    assert codes(opened.audit()) == [(task.task_id, "lost")]


def test_rows_that_cannot_be_judged_are_named_and_the_others_are_audited(bench, time):
    opened = bench.open(clock=time)
    tasks = [made(opened) for _ in range(5)]
    connection = bench.raw()
    connection.execute("PRAGMA ignore_check_constraints = 1")
    # No rule looks at it, and no list shows a row that has it.
    connection.execute("UPDATE tasks SET runtime = 'shell' WHERE task_id = ?", (tasks.pop().task_id,))
    connection.execute("UPDATE tasks SET status = 'exploded' WHERE task_id = ?", (tasks[0].task_id,))
    connection.execute("UPDATE tasks SET last_event_at = 'soon' WHERE task_id = ?", (tasks[1].task_id,))
    connection.execute("UPDATE tasks SET error = CAST(x'ff' AS TEXT) WHERE task_id = ?", (tasks[2].task_id,))
    connection.close()
    time.now += HOUR
    report = opened.audit()
    assert codes(report) == [(tasks[3].task_id, "stale_queued")]
    assert [one.key for one in report.quarantined][:3] == [task.task_id for task in tasks[:3]]
    assert len(report.quarantined) == 4
    assert report == audit_file(bench.state_dir, clock=time)
    assert {one.key for one in opened.tasks.quarantined()} == {one.key for one in report.quarantined}


@pytest.mark.parametrize("make", [lambda place: JsonSnapshotStore(place / "tasks.json"), lambda _place: MemoryStore()])
def test_a_ledger_over_another_store_is_audited_too(tmp_path, time, make):
    hooks = {Runtime.ACP: lambda _task: False}
    store = make(tmp_path)
    with ledger.Ledger.open(store=store, clock=time, session_hooks=hooks) as opened:
        lost, stale = made(opened, runtime="acp", status="running"), made(opened)
        time.now += HOUR
        assert codes(opened.audit()) == [(stale.task_id, "stale_queued"), (lost.task_id, "lost")]
        assert opened.audit().count == 2


def test_a_snapshot_file_is_audited_as_it_is_written_and_what_cannot_be_read_is_named(tmp_path, time):
    path = tmp_path / "tasks.json"
    with ledger.Ledger.open(store=JsonSnapshotStore(path), clock=time) as opened:
        first, second = made(opened, status="succeeded"), made(opened)
    document = json.loads(path.read_text())
    document["tasks"][0]["started_at"] = T0 - 1
    document["tasks"][1]["status"] = "exploded"
    path.write_text(json.dumps(document))
    with ledger.Ledger.open(store=JsonSnapshotStore(path), clock=time) as opened:
        report = opened.audit()
        assert codes(report) == [(first.task_id, "inconsistent_timestamps")]
        assert [one.key for one in report.quarantined] == [second.task_id]


def test_a_ledger_in_memory_is_audited_too(time):
    with ledger.Ledger.open(":memory:", clock=time) as opened:
        task = made(opened)
        time.now += HOUR
        assert codes(opened.audit()) == [(task.task_id, "stale_queued")]


def test_inside_a_batch_the_audit_sees_the_batch(bench, time):
    opened = bench.open(clock=time)
    with opened.batch():
        made(opened, status="lost")
        assert opened.audit().count == 1
        assert audit_file(bench.state_dir, clock=time).count == 0
    assert opened.audit().count == 1


def test_more_tasks_than_one_chunk_are_all_seen_once_and_in_order(bench, time):
    opened = bench.open(clock=time)
    with opened.batch():
        tasks = [made(opened) for _ in range(1001)]
    opened.tasks.delete(tasks[500].task_id)
    time.now += HOUR
    expected = [(task.task_id, "stale_queued") for task in tasks if task is not tasks[500]]
    assert codes(opened.audit()) == expected
    assert codes(opened.audit(limit=3)) == expected[:3]


def test_the_memory_of_an_audit_depends_on_the_page_and_not_on_the_ledger(bench, time):
    opened = bench.open(clock=time)

    def peak():
        tracemalloc.start()
        audit_file(bench.state_dir, clock=time, limit=10)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peaks = []
    for _ in range(2):
        with opened.batch():
            for _ in range(1500):
                made(opened, status="lost")
        audit_file(bench.state_dir, clock=time)
        peaks.append(peak())
    small, large = peaks
    assert large < small * 1.2


def test_an_audit_of_a_directory_without_a_ledger_finds_nothing_and_makes_nothing(tmp_path):
    place = tmp_path / "none"
    assert audit_file(place).count == 0
    assert preview_file(place).pruned == 0
    assert not place.exists()
    place.mkdir()
    (place / "ledger.sqlite").touch()
    assert audit_file(place).count == 0
    assert [one.name for one in place.iterdir()] == ["ledger.sqlite"]
    assert (place / "ledger.sqlite").stat().st_size == 0


def test_a_database_of_the_first_schema_is_audited_without_being_migrated(bench, time, monkeypatch):
    from tornpage.ledger.disk import connections, schema

    with monkeypatch.context() as patch:
        patch.setattr(schema, "SCHEMA_VERSION", 1)
        patch.setattr(connections, "SCHEMA_VERSION", 1)
        opened = bench.open(clock=time)
        task = made(opened)
        opened.close()
    time.now += HOUR
    assert codes(audit_file(bench.state_dir, clock=time)) == [(task.task_id, "stale_queued")]
    assert bench.rows("PRAGMA user_version") == [(1,)]


def test_a_file_that_cannot_be_audited_is_refused_as_opening_refuses_it(bench, time, tmp_path):
    path = bench.state_dir / "ledger.sqlite"
    bench.open(clock=time).close()
    connection = bench.raw()
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreSchemaNewer):
        audit_file(bench.state_dir)
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreCorrupt):
        audit_file(bench.state_dir)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        audit_file(bench.state_dir)
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="not a directory"):
        audit_file(tmp_path / "file")


def test_a_writer_does_not_keep_an_audit_waiting(bench, time):
    opened = bench.open(clock=time)
    made(opened)
    writer = bench.raw()
    writer.execute("BEGIN IMMEDIATE")
    assert audit_file(bench.state_dir, busy_timeout_ms=0).quarantined == ()
    writer.execute("ROLLBACK")
    writer.close()


def test_a_locked_file_is_busy_and_leaves_no_connection_behind(bench, time):
    bench.open(clock=time, journal_mode="delete").close()
    writer = bench.raw()
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreBusy):
        audit_file(bench.state_dir, busy_timeout_ms=0, connect=bench.faults.connect)
    writer.execute("ROLLBACK")
    writer.close()


@pytest.mark.parametrize("statement", ["CONNECT", "PRAGMA query_only", "BEGIN", "SELECT", "ROLLBACK"])
def test_a_read_that_fails_is_a_store_error_and_leaves_no_connection_behind(bench, time, statement, error_of):
    bench.open(clock=time).close()
    bench.faults.fail(statement, lambda: error_of("IOERR_READ"))
    with pytest.raises(StoreError) as raised:
        audit_file(bench.state_dir, connect=bench.faults.connect)
    assert raised.value.sqlite_errorname == "SQLITE_IOERR_READ"
    assert bench.faults.fired == 1
    assert audit_file(bench.state_dir, connect=bench.faults.connect).count == 0


def test_an_open_ledger_goes_on_after_an_audit_that_failed(bench, time, error_of):
    opened = bench.open(clock=time)
    made(opened, status="lost")
    bench.faults.fail("SELECT", lambda: error_of("IOERR_READ"), skip=3)
    with pytest.raises(StoreError):
        opened.audit()
    assert bench.faults.fired == 1
    assert not opened.database.connection.in_transaction
    assert opened.audit().count == 1


def test_a_batch_in_which_an_audit_failed_commits_nothing(bench, time, error_of):
    opened = bench.open(clock=time)

    def spoiled():
        with opened.batch():
            made(opened)
            bench.faults.fail("SELECT", lambda: error_of("IOERR_READ"), skip=1)
            with pytest.raises(StoreError):
                opened.audit()
            # SQLite may have rolled back by itself: this must not be a commit of its own.
            with pytest.raises(StoreError, match="nothing of this batch"):
                made(opened)

    with pytest.raises(StoreError, match="nothing of this batch"):
        spoiled()
    assert bench.rows() == []
    assert opened.tasks.list() == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes mean nothing here")
def test_side_files_that_an_audit_leaves_are_private(bench, time):
    kept = bench.open(clock=time)
    made(kept)
    old = os.umask(0)
    try:
        audit_file(bench.state_dir)
    finally:
        os.umask(old)
    assert {one.stat().st_mode & 0o777 for one in bench.state_dir.glob("ledger.sqlite*")} == {0o600}


def test_unknown_filters_are_refused_before_anything_is_read(bench, time):
    opened = bench.open(clock=time)
    bench.faults.fail("SELECT")
    for given in ({"severity": "fatal"}, {"code": "stale"}, {"limit": 0}):
        with pytest.raises(UsageError):
            opened.audit(**given)
        with pytest.raises(UsageError):
            audit_file(bench.state_dir, connect=bench.faults.connect, **given)
    assert bench.faults.fired == 0
