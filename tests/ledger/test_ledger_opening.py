"""Opening the database: who may read it, what is refused and left as it was, and how schemas move on."""

import hashlib
import itertools
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tornpage import ledger
from tornpage.ledger import (
    DeliveryStatus,
    Ledger,
    NotifyPolicy,
    Runtime,
    ScopeKind,
    Status,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreIOError,
    StoreReadOnly,
    StoreSchemaNewer,
    StoreTooOld,
    StoreUnavailable,
    TerminalOutcome,
    UsageError,
)
from tornpage.ledger.disk.rows import DELIVERIES, TASKS
from tornpage.ledger.upkeep.upkeep import audit_file, preview_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def prints(directory: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), mode_of(path))
        for path in sorted(directory.iterdir())
        if path.is_file()
    }


def made(opened):
    return opened.tasks.create(runtime="cli", task="water", owner_key="owner")


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777 & ~0o700])
def test_everything_is_private_whatever_the_umask(bench, journal_mode, mask):
    before = os.umask(mask)
    try:
        opened = bench.open(journal_mode=journal_mode)
        made(opened)
        assert mode_of(bench.state_dir) == 0o700
        files = [path.name for path in bench.state_dir.iterdir()]
        assert {mode_of(bench.state_dir / name) for name in files} == {0o600}
        if journal_mode == "wal":
            assert sorted(files) == ["ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal"]
    finally:
        os.umask(before)


def test_what_already_existed_is_made_private(bench):
    bench.state_dir.mkdir(mode=0o755)
    raw = bench.raw()
    raw.execute("PRAGMA journal_mode = wal")
    raw.execute("CREATE TABLE strangers (x)")
    for path in bench.state_dir.iterdir():
        path.chmod(0o644)
    bench.state_dir.chmod(0o755)
    bench.open()
    assert {mode_of(path) for path in bench.state_dir.iterdir()} == {0o600}
    assert len(list(bench.state_dir.iterdir())) == 3
    assert mode_of(bench.state_dir) == 0o700
    raw.close()


def test_a_chmod_that_is_refused_is_a_warning(bench, monkeypatch, caplog):
    bench.state_dir.mkdir(mode=0o755)
    bench.state_dir.chmod(0o755)

    def refuse(self, mode):
        raise PermissionError(1, "Operation not permitted", str(self))

    monkeypatch.setattr(Path, "chmod", refuse)
    with caplog.at_level(logging.WARNING, "ledger.files"):
        made(bench.open())
    assert "could not make" in caplog.text


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_whose_permissions_the_disk_fails_to_tell_is_a_store_error(bench, monkeypatch, suffix):
    bench.open()
    original = Path.lstat
    asked = []

    def fail(self):
        # The first look is at what kind of file it is.
        asked.append(self.name == f"ledger.sqlite{suffix}")
        if sum(asked) > 1 and asked[-1]:
            raise OSError(5, "Input/output error", str(self))
        return original(self)

    monkeypatch.setattr(Path, "lstat", fail)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        bench.open()


@pytest.mark.parametrize("odd", [-1, 2**31, 2**40, 1.5, True, "5", None])
def test_a_time_that_sqlite_can_not_wait_is_refused_and_nothing_is_made(bench, odd):
    for opening in (Ledger.open, audit_file, preview_file):
        with pytest.raises(UsageError, match="busy_timeout_ms must be a whole number"):
            opening(bench.state_dir, busy_timeout_ms=odd)
    assert not bench.state_dir.exists()


def test_the_longest_time_that_sqlite_can_wait_is_passed_on(tmp_path):
    with Ledger.open(tmp_path, busy_timeout_ms=2**31 - 1) as opened:
        assert opened.database.connection.execute("PRAGMA busy_timeout").fetchall() == [(2**31 - 1,)]


def test_what_is_no_name_of_a_directory_is_refused(tmp_path):
    with pytest.raises(UsageError, match="can't be the name of a directory"):
        Ledger.open(f"{tmp_path}/a\0b")


def test_a_side_file_that_vanishes_before_its_chmod_is_no_error(bench, monkeypatch):
    bench.state_dir.mkdir()
    raw = bench.raw()
    raw.execute("PRAGMA journal_mode = wal")
    raw.execute("CREATE TABLE strangers (x)")
    for path in bench.state_dir.iterdir():
        path.chmod(0o644)
    original = Path.chmod
    vanished = []

    def vanish(self, mode, **options):
        if self.name.endswith("-wal"):
            vanished.append(self)
            raise FileNotFoundError(2, "No such file or directory", str(self))
        original(self, mode, **options)

    monkeypatch.setattr(Path, "chmod", vanish)
    made(bench.open())
    assert vanished
    raw.close()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_symlink_is_refused_and_its_target_left_alone(bench, tmp_path, suffix):
    target = tmp_path / "target"
    target.write_bytes(b"")
    target.chmod(0o644)
    bench.state_dir.mkdir()
    (bench.state_dir / f"ledger.sqlite{suffix}").symlink_to(target)
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        bench.open()
    assert (target.read_bytes(), mode_of(target)) == (b"", 0o644)


def test_a_database_of_another_user_is_refused(bench, monkeypatch):
    made(bench.open())
    bench.ledgers[0].close()
    before = prints(bench.state_dir)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StoreUnavailable, match="belongs to user"):
        bench.open()
    assert prints(bench.state_dir) == before


def test_a_state_directory_that_is_a_file_is_named_in_the_error(tmp_path):
    place = tmp_path / "file"
    place.write_text("not a directory")
    with pytest.raises(StoreUnavailable, match="is not a directory"):
        Ledger.open(place)
    with pytest.raises(StoreUnavailable, match="is not a directory"):
        Ledger.open(place / "below")
    assert place.read_text() == "not a directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_that_cannot_be_written_to_is_a_clear_error_for_an_ordinary_user(mode):
    script = (
        "import os, sys; from tornpage import ledger\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: ledger.Ledger.open(sys.argv[1])\n"
        "except ledger.StoreReadOnly as error: print('refused:', error)\n"
    )
    # Not tmp_path: its parents are closed to other users, and the directory itself is what is tested.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(mode)
        result = subprocess.run(
            [sys.executable, "-c", script, directory],
            cwd=Path(ledger.__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"refused: the state directory {directory} can't be" in result.stdout, result.stderr
        assert list(Path(directory).iterdir()) == []


def test_a_directory_without_write_permission_is_refused(bench, monkeypatch):
    bench.state_dir.mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreReadOnly, match="can't be written"):
        bench.open()
    assert list(bench.state_dir.iterdir()) == []


def test_a_read_only_database_is_refused_and_stays_read_only(bench):
    made(bench.open())
    bench.ledgers[0].close()
    path = bench.state_dir / "ledger.sqlite"
    path.chmod(0o400)
    before = prints(bench.state_dir)
    with pytest.raises(StoreReadOnly, match="read-only"):
        bench.open()
    assert prints(bench.state_dir) == before


@pytest.mark.parametrize("content", [b"not a database", b"x" * 5000, b"SQLite format 3\x00 and then nothing"])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(bench, content):
    bench.state_dir.mkdir(mode=0o755)
    path = bench.state_dir / "ledger.sqlite"
    path.write_bytes(content)
    path.chmod(0o644)
    before = prints(bench.state_dir)
    with pytest.raises(StoreCorrupt):
        bench.open()
    assert prints(bench.state_dir) == before


def test_a_damaged_database_is_refused(bench):
    opened = bench.open()
    with opened.batch():
        for _ in range(200):
            made(opened)
    opened.close()
    path = bench.state_dir / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 3 * 4096 + 2048] = b"\xee" * 2048
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        bench.open()
    assert path.read_bytes() == bytes(content)


def test_an_index_that_lacks_rows_counts_as_damage(bench):
    opened = bench.open()
    opened.tasks.create(runtime="cli", task="water", owner_key="owner", run_id="run")
    opened.close()
    raw = bench.raw()
    raw.execute("PRAGMA writable_schema = 1")
    raw.execute("UPDATE sqlite_schema SET sql = replace(sql, 'owner_key)', 'label)') WHERE name = 'tasks_by_owner'")
    raw.close()
    with pytest.raises(StoreCorrupt, match="tasks_by_owner"):
        bench.open()


@pytest.mark.parametrize("in_wal", [False, True])
def test_a_newer_schema_is_refused_by_name_and_nothing_is_written(bench, in_wal):
    made(bench.open())
    bench.ledgers[0].close()
    raw = bench.raw()
    raw.execute("PRAGMA journal_mode = " + ("wal" if in_wal else "delete"))
    raw.execute("PRAGMA user_version = 4711")
    if not in_wal:
        raw.close()
    for path in bench.state_dir.iterdir():
        path.chmod(0o644)
    bench.state_dir.chmod(0o755)
    before = prints(bench.state_dir)
    with pytest.raises(StoreSchemaNewer, match="4711"):
        bench.open()
    after = prints(bench.state_dir)
    if in_wal:
        # The header can't show what is only in the log: SQLite has to be asked, modes may be tightened.
        assert {name: digest for name, (digest, _) in after.items()}.keys() == before.keys()
        assert after["ledger.sqlite"][0] == before["ledger.sqlite"][0]
        raw.close()
    else:
        assert after == before
        assert mode_of(bench.state_dir) == 0o755


def test_a_locked_database_is_a_busy_error(bench):
    made(bench.open())
    bench.ledgers[0].close()
    holder = bench.raw()
    holder.execute("PRAGMA journal_mode = delete")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreBusy) as raised:
        bench.open(busy_timeout_ms=1)
    assert raised.value.retryable
    holder.execute("ROLLBACK")
    holder.close()
    assert len(bench.open().tasks.list()) == 1


def test_a_journal_mode_that_sqlite_does_not_take_is_refused(bench, monkeypatch):
    class Stubborn(sqlite3.Connection):
        def execute(self, text, *parameters):
            return super().execute("SELECT 'delete'" if "journal_mode" in text else text, *parameters)

    with pytest.raises(StoreUnavailable, match="stays with delete"):
        bench.open(connect=lambda path, **options: sqlite3.connect(path, factory=Stubborn, **options))


@pytest.mark.parametrize("start", ["CONNECT", "PRAGMA", "BEGIN", "CREATE", "COMMIT", "SELECT"])
def test_a_fault_while_opening_leaves_nothing_open_and_the_next_open_works(bench, start):
    """Fails the first, second, third … such statement of an opening, until an opening has fewer."""
    for skip in itertools.count():
        bench.state_dir = bench.state_dir.with_name(f"state-{skip}")
        bench.faults.heal()
        bench.faults.fail(start, skip=skip)
        fired = bench.faults.fired
        opened_before = len(bench.faults.opened)
        try:
            bench.open()
        except StoreIOError:
            pass
        else:
            # Only the last round, in which nothing was left to fail, may succeed.
            assert bench.faults.fired == fired
            break
        assert bench.faults.fired == fired + 1
        for connection in bench.faults.opened[opened_before:]:
            with pytest.raises(sqlite3.ProgrammingError):
                connection.in_transaction  # noqa: B018 - asking is the check.
        bench.faults.heal()
        made(bench.open())
        assert len(bench.rows()) == 1
    assert skip > 0


def test_the_defaults_are_wal_and_full_and_the_others_are_by_choice(bench):
    for mode, level, asked in (("wal", 2, None), ("delete", 3, None), ("truncate", 2, None), ("wal", 1, "normal")):
        opened = bench.open(journal_mode=mode, synchronous=asked)
        ask = opened.database.connection.execute
        assert ask("PRAGMA journal_mode").fetchall() == [(mode,)]
        assert ask("PRAGMA synchronous").fetchall() == [(level,)]
        assert ask("PRAGMA foreign_keys").fetchall() == [(1,)]
        assert ask("PRAGMA busy_timeout").fetchall() == [(5000,)]
        assert ask("PRAGMA wal_autocheckpoint").fetchall() == [(1000,)]
        opened.close()


@pytest.mark.parametrize("options", [{"journal_mode": "off"}, {"synchronous": "maybe"}])
def test_an_unknown_mode_is_a_usage_error_that_names_the_valid_ones(bench, options):
    with pytest.raises(UsageError, match="allowed are"):
        bench.open(**options)
    assert not bench.state_dir.exists()


def test_an_old_sqlite_is_named_with_the_version_needed():
    with pytest.raises(StoreTooOld, match=r"3\.7\.17 .* 3\.31\.0"):
        ledger.disk.connections.require_sqlite("3.7.17")
    ledger.disk.connections.require_sqlite("3.31.0")


def test_memory_only_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Ledger.open(":memory:") as opened:
        task = made(opened)
        assert opened.tasks.list_fresh_for_owner("owner") == [task]
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_the_state_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TORNPAGE_STATE_DIR", str(tmp_path / "from-environment"))
    with Ledger.open():
        assert (tmp_path / "from-environment" / "ledger.sqlite").is_file()


def test_an_empty_variable_names_no_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TORNPAGE_STATE_DIR", "")
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Ledger.open().close()
    assert [one.name for one in tmp_path.iterdir()] == ["home"]


def test_closing_does_not_wait_for_a_reader(bench):
    opened = bench.open(busy_timeout_ms=60_000)
    reader = bench.raw()
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM tasks").fetchall()
    made(opened)
    began = time.monotonic()
    opened.close()
    assert time.monotonic() - began < 30
    reader.close()


def test_closing_truncates_the_wal_and_using_a_closed_ledger_says_so(bench):
    opened = bench.open()
    made(opened)
    reader = bench.raw()
    reader.execute("SELECT 1").fetchall()
    opened.close()
    opened.close()
    wal = bench.state_dir / "ledger.sqlite-wal"
    assert not wal.exists() or wal.stat().st_size == 0
    for call in (opened.tasks.list, lambda: made(opened), lambda: opened.tasks.list_fresh_for_owner("owner")):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()
    reader.close()


def test_the_wal_does_not_grow_without_end(bench):
    opened = bench.open(synchronous="off")
    task = made(opened)
    for step in range(2500):
        opened.tasks.progress(task.task_id, f"step {step}")
    assert (bench.state_dir / "ledger.sqlite-wal").stat().st_size < 1100 * (4096 + 24)


def test_the_same_calls_make_the_same_bytes(tmp_path):
    def run(directory):
        ids, now = iter(f"task-{number}" for number in range(100)), iter(range(1_700_000_000_000, 10**13))
        with Ledger.open(directory, clock=lambda: next(now), new_id=lambda: next(ids), journal_mode="delete") as opened:
            task = opened.tasks.create(runtime="acp", task="x", owner_key="o", requester_origin={"b": 1, "a": [2]})
            opened.tasks.start(task.task_id)
            opened.tasks.create(runtime="cli", task="y", owner_key="o")
            opened.tasks.delete(task.task_id)
        return (directory / "ledger.sqlite").read_bytes()

    assert run(tmp_path / "one") == run(tmp_path / "two")


# Schema


def test_the_schema_has_the_columns_and_enumerations_of_the_records(bench):
    bench.open()
    for table in (TASKS, DELIVERIES):
        columns = [row[1] for row in bench.rows(f'PRAGMA table_info("{table.name}")')]
        assert columns == ["insertion", *table.columns]
    sql = " ".join(bench.rows("SELECT sql FROM sqlite_schema WHERE name = 'tasks'")[0][0].split())
    for column, kind in (
        ("runtime", Runtime),
        ("scope_kind", ScopeKind),
        ("status", Status),
        ("delivery_status", DeliveryStatus),
        ("notify_policy", NotifyPolicy),
        ("terminal_outcome", TerminalOutcome),
    ):
        values = ", ".join(f"'{one}'" for one in kind)
        assert f"{column} IN ({values})" in sql.replace("( ", "(").replace(" )", ")")


def test_blanks_in_the_schema_are_exactly_those_that_python_strips():
    listed = {int(code) for code in ledger.disk.schema._BLANKS.removeprefix("char(").removesuffix(")").split(",")}
    assert listed == {code for code in range(sys.maxunicode + 1) if chr(code).isspace()}


def test_indexes_are_created_once(bench):
    bench.open()
    roots = bench.rows("SELECT name, rootpage FROM sqlite_schema WHERE type = 'index' ORDER BY name")
    bench.open()
    assert bench.rows("SELECT name, rootpage FROM sqlite_schema WHERE type = 'index' ORDER BY name") == roots


def test_a_migration_that_fails_half_way_leaves_the_old_version(bench, monkeypatch):
    made(bench.open())
    bench.ledgers[0].close()
    known = ledger.disk.schema.MIGRATIONS
    broken = ("CREATE TABLE later (x)", "CREATE TABLE later (x)")
    monkeypatch.setattr(ledger.disk.schema, "MIGRATIONS", (*known, broken))
    monkeypatch.setattr(ledger.disk.schema, "SCHEMA_VERSION", len(known) + 1)
    monkeypatch.setattr(ledger.disk.connections, "SCHEMA_VERSION", len(known) + 1)
    with pytest.raises(StoreError, match="already exists"):
        bench.open()
    assert bench.rows("PRAGMA user_version") == [(len(known),)]
    assert bench.rows("SELECT name FROM sqlite_schema WHERE name = 'later'") == []
    monkeypatch.setattr(ledger.disk.schema, "MIGRATIONS", (*known, broken[:1]))
    assert len(bench.open().tasks.list()) == 1
    assert bench.rows("PRAGMA user_version") == [(len(known) + 1,)]


def test_importing_the_ledger_loads_no_test_tool():
    script = (
        "import sys; from tornpage import ledger; import tornpage.ledger.command\n"
        "unwanted = {'pytest', 'hypothesis', 'tornpage.faults', 'tornpage.scenarios'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {unwanted}' if unwanted else 0)\n"
    )
    root = Path(ledger.__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_an_opener_that_meets_another_one_switching_to_wal_tries_again(bench, error_of):
    bench.faults.fail("PRAGMA journal_mode", lambda: error_of("BUSY"), times=2)
    made(bench.open())
    assert bench.faults.fired == 2


def test_a_header_that_a_rollback_will_restore_is_not_judged(tmp_path: Path) -> None:
    """A power cut while the first page was written: its journal says that there was no page before."""
    magic, none, page = bytes.fromhex("d9d505f920a163d7"), bytes(4), 4096
    header = magic + none + none + none + (512).to_bytes(4, "big") + page.to_bytes(4, "big")
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(bytes(page))
    path.with_name("ledger.sqlite-journal").write_bytes(header.ljust(512, b"\0"))
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.tasks.list() == []


def test_a_file_that_is_no_database_is_refused_also_beside_a_journal_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database, but a letter" * 10)
    (tmp_path / "ledger.sqlite-journal").write_bytes(b"nothing")
    with pytest.raises(StoreCorrupt, match="not a SQLite database"):
        Ledger.open(tmp_path)
    assert (tmp_path / "ledger.sqlite").read_bytes().startswith(b"no database")
