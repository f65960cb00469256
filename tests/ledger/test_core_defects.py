"""More defects that were once in the ledger's core, each with a test that failed before it was fixed."""

import gc
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
from click.testing import CliRunner

from tornpage import ledger
from tornpage.ledger import Ledger, StoreCorrupt, StoreError, StoreSchemaNewer, StoreUnavailable, UsageError
from tornpage.ledger.command import ledger_group
from tornpage.ledger.disk.connections import Durability
from tornpage.ledger.rules.values import checked_id
from tornpage.ledger.stores.memory import MemoryStore
from tornpage.ledger.upkeep.upkeep import audit_file

ROOT = Path(ledger.__file__).parents[2]
NO_UNICODE = "\ud800"
NEEDS_DESCRIPTORS = pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="the open files are listed in /dev/fd")


def made(opened, **fields):
    return opened.tasks.create(**{"runtime": "cli", "task": "water", "owner_key": "owner", **fields})


def command(state_dir, *words):
    return CliRunner().invoke(ledger_group, ["--state-dir", str(state_dir), *words])


def elsewhere(script, *words):
    """Run a script in another process; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# 1. Closing waits for nobody


@pytest.mark.parametrize("fault", [False, True])
def test_closing_does_not_wait_for_a_reader(bench, fault):
    waits = []

    class Watched(sqlite3.Connection):
        def execute(self, text, *parameters):
            if "wal_checkpoint" in text:
                waits.append(super().execute("PRAGMA busy_timeout").fetchone()[0])
                # Instead of waiting for a day.
                assert waits[-1] == 0
            if fault and text == "PRAGMA busy_timeout = 0":
                raise sqlite3.OperationalError("injected")
            return super().execute(text, *parameters)

    opened = bench.open(
        connect=lambda path, **options: sqlite3.connect(path, factory=Watched, **options), busy_timeout_ms=86_400_000
    )
    made(opened)
    reader = bench.raw()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM tasks").fetchall()
    made(opened)
    opened.close()
    assert waits == ([] if fault else [0])
    assert (bench.state_dir / "ledger.sqlite-wal").stat().st_size > 0
    assert len(reader.execute("SELECT * FROM tasks").fetchall()) == 1
    reader.close()
    assert len(bench.rows()) == 2


# 2. A damaged database is left as it was, its log too


def crashed(bench, tmp_path, *, spoil):
    """A copy of a database and its log as a killed process leaves them, made worse."""
    opened = bench.open()
    with opened.batch():
        for _ in range(200):
            made(opened)
    opened.database.checkpoint("TRUNCATE")
    made(opened)
    place = tmp_path / "copied"
    place.mkdir()
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        shutil.copyfile(bench.state_dir / name, place / name)
    spoil(place)
    return place, contents(place)


def contents(place):
    return {name: (place / name).read_bytes() for name in ("ledger.sqlite", "ledger.sqlite-wal")}


def spoil_pages(place):
    path = place / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    for start in range(4 * 4096, len(content), 4096):
        content[start : start + 100] = b"\xee" * 100
    path.write_bytes(content)


def spoil_index(place):
    """An index that lacks its rows, known from the log only."""
    raw = sqlite3.connect(place / "ledger.sqlite", isolation_level=None)
    raw.execute("PRAGMA writable_schema = 1")
    raw.execute("UPDATE sqlite_schema SET sql = replace(sql, 'owner_key)', 'label)') WHERE name = 'tasks_by_owner'")
    shutil.copytree(place, place.with_name("aside"))
    raw.close()
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        shutil.copyfile(place.with_name("aside") / name, place / name)


@pytest.mark.parametrize("spoil", [spoil_pages, spoil_index])
def test_a_damaged_database_with_a_log_is_refused_and_both_are_left_as_they_were(bench, tmp_path, spoil):
    place, before = crashed(bench, tmp_path, spoil=spoil)
    assert len(before["ledger.sqlite-wal"]) > 4096
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            Ledger.open(place, connect=bench.faults.connect)
        assert contents(place) == before


def test_a_sound_database_with_a_log_is_checked_once_and_opened(bench, tmp_path):
    place, _ = crashed(bench, tmp_path, spoil=lambda _: None)
    asked = []

    class Watched(sqlite3.Connection):
        def execute(self, text, *parameters):
            asked.append(text)
            return super().execute(text, *parameters)

    def connect(path, **options):
        return sqlite3.connect(path, factory=Watched, **options)

    with Ledger.open(place, connect=connect) as opened:
        assert len(opened.tasks.list()) == 201
    assert len([text for text in asked if "integrity_check" in text]) == 1


@pytest.mark.parametrize(
    ("start", "skip"),
    [
        ("CONNECT", 0),
        ("CONNECT", 1),
        ("PRAGMA user_version", 0),
        ("PRAGMA user_version", 1),
        ("PRAGMA integrity_check", 0),
        ("PRAGMA journal_mode", 0),
    ],
)
def test_a_fault_while_a_log_is_looked_at_leaves_nothing_open(bench, tmp_path, start, skip):
    place, _ = crashed(bench, tmp_path, spoil=lambda _: None)
    bench.faults.fail(start, skip=skip)
    with pytest.raises(StoreError):
        Ledger.open(place, connect=bench.faults.connect)
    bench.faults.heal()
    with Ledger.open(place, connect=bench.faults.connect) as opened:
        assert len(opened.tasks.list()) == 201


# 3. A file keeps its journal mode


@pytest.mark.parametrize(("mode", "level"), [("delete", 3), ("wal", 2)])
def test_a_ledger_opened_without_a_mode_keeps_the_one_of_its_file(bench, mode, level):
    made(bench.open(journal_mode=mode))
    bench.ledgers[0].close()
    opened = bench.open()
    made(opened)
    assert opened.database.journal_mode == mode
    assert opened.database.connection.execute("PRAGMA synchronous").fetchall() == [(level,)]
    opened.close()
    assert bench.rows("PRAGMA journal_mode") == [(mode,)]


def test_a_new_ledger_gets_wal(bench):
    assert bench.open().database.journal_mode == "wal"


def test_a_command_keeps_the_journal_mode_unless_another_one_is_asked_for(bench):
    made(bench.open(journal_mode="delete"))
    bench.ledgers[0].close()
    assert command(bench.state_dir, "tasks", "create", "x", "--owner", "me").exit_code == 0
    assert bench.rows("PRAGMA journal_mode") == [("delete",)]
    assert command(bench.state_dir, "--journal-mode", "wal", "tasks", "list").exit_code == 0
    assert bench.rows("PRAGMA journal_mode") == [("wal",)]


def test_a_mode_that_another_process_has_switched_to_is_noticed(bench):
    opened = bench.open(journal_mode="delete")
    made(opened)
    assert bench.rows("PRAGMA journal_mode = wal") == [("wal",)]
    made(opened)
    assert opened.database.journal_mode == "wal"
    opened.close()
    assert bench.rows("SELECT count(*) FROM tasks") == [(2,)]


# 4. The state directory


def foreign(path, monkeypatch):
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)


def shared(path, _):
    path.chmod(0o1777)


@pytest.mark.parametrize("make", [foreign, shared])
def test_who_only_reads_refuses_another_s_directory_too(bench, monkeypatch, make):
    bench.state_dir.mkdir()
    make(bench.state_dir, monkeypatch)
    with pytest.raises(StoreUnavailable, match="of your own"):
        audit_file(bench.state_dir)


def test_an_empty_name_of_the_state_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="state_dir is empty"):
        Ledger.open("")
    with pytest.raises(UsageError, match="state_dir is empty"):
        audit_file("")
    for words in (("tasks", "list"), ("tasks", "audit"), ("tasks", "create", "x", "--owner", "me")):
        done = command("", *words)
        assert (done.exit_code, "the name is empty" in done.output) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_command_keeps_no_ledger_in_memory():
    done = command(":memory:", "tasks", "create", "x", "--owner", "me")
    assert (done.exit_code, "would lose it" in done.output) == (2, True)


def test_every_new_directory_is_synced_into_its_parent_before_the_database_is_made(tmp_path, monkeypatch):
    place = tmp_path / "one" / "two" / "three"
    synced = []
    real = os.fsync

    def record(descriptor):
        found = os.fstat(descriptor)
        names = (path for path in (tmp_path, *place.parents, place) if path.exists())
        synced.extend({path for path in names if os.path.samestat(path.stat(), found)})
        assert not (place / "ledger.sqlite").exists()
        real(descriptor)

    monkeypatch.setattr(ledger.disk.files.os, "fsync", record)
    Ledger.open(place).close()
    assert synced == [tmp_path, tmp_path / "one", tmp_path / "one" / "two"]
    synced.clear()
    Ledger.open(place).close()
    assert synced == []


@pytest.mark.parametrize(("number", "refused"), [(5, True), (22, False), (13, False)])
def test_a_directory_that_cannot_be_synced_is_an_error_unless_it_never_can_be(
    bench, monkeypatch, caplog, number, refused
):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ledger.disk.files.os, "fsync", fail)
    if refused:
        with pytest.raises(StoreUnavailable, match="can't be used"):
            bench.open()
    else:
        made(bench.open())
        assert "could not sync the directory" in caplog.text


# 5. Ids that are no Unicode

CALLS = {
    "get": lambda one: one.tasks.get(NO_UNICODE),
    "get_delivery": lambda one: one.tasks.get_delivery(NO_UNICODE),
    "find": lambda one: one.tasks.find(NO_UNICODE),
    "list_for_owner": lambda one: one.tasks.list_for_owner(NO_UNICODE),
    "list_fresh_for_owner": lambda one: one.tasks.list_fresh_for_owner(NO_UNICODE),
    "list_by_run": lambda one: one.tasks.list_by_run(NO_UNICODE),
    "list_by_parent_flow": lambda one: one.tasks.list_by_parent_flow(NO_UNICODE),
    "list_for_session": lambda one: one.tasks.list_for_session(NO_UNICODE),
    "start": lambda one: one.tasks.start(NO_UNICODE),
    "progress": lambda one: one.tasks.progress(NO_UNICODE, "x"),
    "finish": lambda one: one.tasks.finish(NO_UNICODE, "succeeded"),
    "set_notify_policy": lambda one: one.tasks.set_notify_policy(NO_UNICODE, "silent"),
    "set_delivery_status": lambda one: one.tasks.set_delivery_status(NO_UNICODE, "failed"),
    "set_delivery_state": lambda one: one.tasks.set_delivery_state(NO_UNICODE, requester_origin={}),
    "delete": lambda one: one.tasks.delete(NO_UNICODE),
    "cancel": lambda one: one.tasks.cancel(NO_UNICODE),
    "mark_running_by_run": lambda one: one.tasks.mark_running_by_run(NO_UNICODE),
    "progress_by_run": lambda one: one.tasks.progress_by_run(NO_UNICODE, "x"),
    "finalize_by_run": lambda one: one.tasks.finalize_by_run(NO_UNICODE, "succeeded"),
    "of a session": lambda one: one.tasks.finalize_by_run("run", "succeeded", session_key=NO_UNICODE),
    "history.start": lambda one: one.history.start(NO_UNICODE, worker_id="w1"),
    "history.finish": lambda one: one.history.finish(NO_UNICODE, "success"),
    "history.open_session": lambda one: one.history.open_session(NO_UNICODE),
    "history.invalidate_session": lambda one: one.history.invalidate_session(NO_UNICODE, "x"),
    "history.get": lambda one: one.history.get(NO_UNICODE),
    "history.find": lambda one: one.history.find(NO_UNICODE),
    "history.list of a task": lambda one: one.history.list(task_id=NO_UNICODE),
    "history.list of a worker": lambda one: one.history.list(worker_id=NO_UNICODE),
    "history.get_session": lambda one: one.history.get_session(NO_UNICODE),
    "history.list_sessions": lambda one: one.history.list_sessions(NO_UNICODE),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_id_that_is_no_unicode_is_misuse_and_spoils_no_batch(bench, call):
    opened = bench.open()
    with opened.batch():
        task = made(opened)
        with pytest.raises(UsageError, match="valid Unicode"):
            CALLS[call](opened)
    assert opened.tasks.list() == [task]
    assert len(bench.rows()) == 1


@pytest.mark.parametrize("new_id", [NO_UNICODE, 7])
def test_a_new_id_that_cannot_be_stored_spoils_no_batch(bench, new_id):
    ids = iter(["first", new_id])
    opened = bench.open(new_id=lambda: next(ids))
    with opened.batch():
        task = made(opened)
        with pytest.raises(UsageError, match="the new id must be"):
            made(opened)
    assert opened.tasks.list() == [task]


def test_an_id_is_checked_and_kept_as_it_was_given():
    assert checked_id("task_id", " x\0ä ") == " x\0ä "
    for wrong in (None, 7, b"x"):
        with pytest.raises(UsageError, match="task_id must be text"):
            checked_id("task_id", wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes elsewhere")
def test_a_byte_that_is_no_utf8_is_wrong_usage_on_the_command_line(bench):
    bench.open().close()
    for words in ((b"show", b"\xff"), (b"cancel", b"\xff"), (b"list", b"--owner", b"\xff")):
        start = [sys.executable, "-m", "tornpage.ledger", "--state-dir", str(bench.state_dir), "tasks", *words]
        done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, "must be valid Unicode" in done.stderr) == (2, True), done.stderr


# 6. A log record keeps nothing alive


class Keeping(logging.Handler):
    """Stores records, as many handlers do."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    handler = Keeping()
    logger = logging.getLogger("ledger")
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


def test_what_is_logged_about_a_fault_keeps_no_exception_alive(bench, kept, error_of):
    """Neither does the database itself, until it is healed: an exception's frames hold cursors."""
    opened = bench.open()
    task = made(opened)
    raised = []

    class Seen(sqlite3.OperationalError):
        pass

    def remembered():
        known = error_of("IOERR_WRITE")
        error = Seen(str(known))
        error.sqlite_errorcode, error.sqlite_errorname = known.sqlite_errorcode, known.sqlite_errorname
        raised.append(weakref.ref(error))
        return error

    bench.faults.fail("COMMIT", remembered)
    bench.faults.fail("ROLLBACK", remembered)
    bench.faults.fail("CONNECT", remembered)
    with pytest.raises(StoreError):
        opened.tasks.start(task.task_id)
    bench.faults.heal()
    bench.faults.fail("INSERT INTO ledger_fence", remembered)
    opened.tasks.list()
    bench.faults.heal()
    bench.faults.fail("PRAGMA wal_checkpoint", remembered, times=2)
    opened.maintenance(apply=True)
    opened.close()
    gc.collect()
    assert bench.faults.fired == len(raised) >= 5
    assert len(kept) >= 4
    assert not [argument for record in kept for argument in record.args if isinstance(argument, BaseException)]
    assert [reference() for reference in raised if reference() is not None] == []


# 8. What is promised


@pytest.mark.parametrize(
    ("mode", "level", "promised"),
    [
        ("wal", None, "power_cut"),
        ("wal", "normal", "loses_newest"),
        ("wal", "off", "may_corrupt"),
        ("delete", None, "power_cut"),
        ("delete", "full", "loses_newest"),
        ("delete", "normal", "may_corrupt"),
        ("truncate", "full", "power_cut"),
        ("persist", "extra", "power_cut"),
        ("persist", "off", "may_corrupt"),
    ],
)
def test_a_ledger_says_what_it_promises(bench, mode, level, promised):
    opened = bench.open(journal_mode=mode, synchronous=level)
    assert opened.durability is Durability(promised)
    opened.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        opened.durability  # noqa: B018 - asking is the test.


def test_what_is_in_memory_or_in_another_store_promises_nothing():
    with Ledger.open(":memory:") as opened:
        assert opened.durability is Durability.NONE
    with Ledger.open(store=MemoryStore()) as opened, pytest.raises(UsageError, match="another store"):
        opened.durability  # noqa: B018 - asking is the test.


# 9. The header is read without taking away this process's locks

_ONE_MORE = (
    "import sys; from tornpage import ledger\n"
    "with ledger.Ledger.open(sys.argv[1]) as opened:\n"
    "    opened.tasks.create(runtime='cli', task=sys.argv[2], owner_key='owner')\n"
    "    print(sorted(one.task for one in opened.tasks.list()))\n"
)


def second_ledger(bench):
    bench.open()


def audited(bench):
    audit_file(bench.state_dir)


def refused_schema(bench):
    """The check sees what is in the log, and refuses."""
    path = bench.state_dir / "ledger.sqlite"
    with pytest.raises(StoreSchemaNewer):
        ledger.disk.files.existing(path.parent, newest_schema=0)


@NEEDS_DESCRIPTORS
@pytest.mark.parametrize("look", [second_ledger, audited, refused_schema])
def test_looking_at_an_open_ledger_lets_no_other_process_remove_its_log(bench, look):
    """Acknowledged changes were lost: the log was unlinked under the first ledger, which went on writing to it."""
    opened = bench.open()
    made(opened, task="one")
    look(bench)
    elsewhere(_ONE_MORE, bench.state_dir, "two")
    assert (bench.state_dir / "ledger.sqlite-wal").exists()
    made(opened, task="three")
    assert elsewhere(_ONE_MORE, bench.state_dir, "four") == "['four', 'one', 'three', 'two']\n"


@NEEDS_DESCRIPTORS
def test_a_connection_that_the_program_itself_has_open_keeps_its_locks(bench):
    bench.open(journal_mode="delete").close()
    raw = bench.raw()
    raw.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ledger.StoreBusy):
        bench.open(busy_timeout_ms=0)
    script = (
        "import sys; from tornpage import ledger\n"
        "try: ledger.Ledger.open(sys.argv[1], busy_timeout_ms=0)\n"
        "except ledger.StoreBusy: print('locked')\n"
    )
    assert elsewhere(script, bench.state_dir) == "locked\n"
    raw.close()


def test_no_thread_opens_a_connection_while_another_one_reads_the_header(bench, monkeypatch):
    bench.open().close()
    seen = []

    def note(what):
        """Whether another thread would have to wait now."""
        tried = []
        other = threading.Thread(target=lambda: tried.append(ledger.disk.files.opening.acquire(blocking=False)))
        other.start()
        other.join()
        seen.append((what, tried == [False]))

    def header(path, real=ledger.disk.files._header):
        note("header")
        return real(path)

    def connect(path, **options):
        note("connect")
        return sqlite3.connect(path, **options)

    monkeypatch.setattr(ledger.disk.files, "_header", header)
    Ledger.open(bench.state_dir, connect=connect).close()
    assert seen == [("header", True), ("connect", True)]


# 10. An answer that can't be written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_answer_that_cannot_be_written_is_one_line_and_exit_code_2(bench):
    bench.open().close()
    start = [sys.executable, "-m", "tornpage.ledger", "--state-dir", str(bench.state_dir), "tasks", "list"]
    # What Python has not written yet it tries again at its end, unless it writes everything at once.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(start, cwd=ROOT, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr
