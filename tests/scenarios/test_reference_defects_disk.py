"""Realistic defects in files, connections and transactions, one at a time: a script's call differs from the model."""

import contextlib
import os
import sqlite3
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from platformdirs import user_data_path
from put_into_the_ledger import Patch, after, is_seen, put

from tornpage.ledger import ledger as ledger_module
from tornpage.ledger.disk import connections, rows, schema, wal
from tornpage.ledger.disk import database as database_module
from tornpage.ledger.disk import files as files_module
from tornpage.ledger.disk import transaction as transaction_module
from tornpage.ledger.disk.database import Database
from tornpage.ledger.disk.transaction import TouchedRow, Transaction
from tornpage.ledger.errors import StoreReadOnly, StoreTooOld, UsageError
from tornpage.scenarios.targets.reference.scripts import (
    circumstances,
    drivers,
    outside,
    together,
)


def fence_and_owe_it(self: Any, lay: Any = Database.lay_fence, **how: Any) -> bool:
    lay(self, **how)
    self.fence_owed = True
    return False


def run_without_waits_set(
    self: Any, connection: Any, statement: str, *args: Any, run: Any = Database._run, **how: Any
) -> Any:
    return [] if statement == "PRAGMA busy_timeout = 0" else run(self, connection, statement, *args, **how)


def usable_but_at_the_end(database: Database, ensure_usable: Any = Database.ensure_usable) -> None:
    # Not `inspect.stack`, which reads the source of each frame: a call of the script makes this thousands of times.
    frame = sys._getframe(1)
    if "close" not in (frame.f_code.co_name, frame.f_back.f_code.co_name):
        ensure_usable(database)


def close_unless_active(self: Any, close: Any = Database.close) -> None:
    if self.active is not None:
        raise UsageError("the ledger can't be closed inside a batch")
    close(self)


def create_what_is_missing(path: Path) -> None:
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def copy_what_may_be_copied(self: Any, _kind: str = "PASSIVE", checkpoint: Any = Database.checkpoint) -> Any:
    return checkpoint(self)


def refuse_as_too_old(require: Any = connections.require_sqlite) -> None:
    try:
        require()
    except StoreTooOld:
        raise StoreTooOld("SQLite is too old") from None


def resolve_by_variable(given: Any) -> Path:
    variable = os.environ.get(files_module.STATE_DIR_VARIABLE)
    is_by_variable = given is None and variable is not None
    return Path(str(variable)) if is_by_variable else files_module.resolve_state_dir(given)


def add_in_own_order(content: bytes, sums: tuple[int, int], _order: str, add: Any = wal._add) -> Any:
    return add(content, sums, sys.byteorder)


def migrate_as_first_seen(connection: Any) -> int:
    """As an older version did it: the version is read before the lock is taken, and not again."""
    version = schema.read_version(connection)
    for number in range(version, schema.SCHEMA_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.MIGRATIONS[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
    return version


def open_again_at_sqlites_level(
    settings: Any, *, check_content: bool, opening: Any = connections.open_connection
) -> Any:
    connection = opening(settings, check_content=check_content)
    if not check_content and settings.synchronous is None:
        connection.execute("PRAGMA synchronous = full")
    return connection


def select_anew(self: Any, table: Any, where: str, parameters: Any = (), select: Any = Transaction.select) -> Any:
    found = select(self, table, where, parameters)
    for row in found:
        key = row[table.key_index]
        self._touched[table.name, key] = TouchedRow(table, key, row)
    return found


def execute_without_doom(self: Any, statement: str, parameters: Any, execute: Any = Transaction._execute) -> Any:
    try:
        return execute(self, statement, parameters)
    except KeyboardInterrupt:
        self._doom = None
        raise


def settle_without_an_interrupt(self: Any, error: Any, settle: Any = Transaction._settle) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        settle(self, error)


def migrate_in_two_steps(connection: Any) -> None:
    version = schema.read_version(connection)
    for number in range(version, schema.SCHEMA_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.MIGRATIONS[number]:
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA user_version = {number + 1}")


def tighten_what_is_there(path: Path, mode: int) -> None:
    if path.exists() and path.lstat().st_mode & 0o777 != mode:
        path.chmod(mode)


def judge_as_undone(changed: Any, found: Any, *, fenced: bool, judge: Any = database_module.judge) -> Any:
    settled = judge(changed, found, fenced=fenced)
    if settled.explanation.startswith("the rows were changed by another"):
        settled.verdict = "unchanged"
    return settled


def need_the_permissions(path: Path, mode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.chmod(mode)


def without_a_check(patch: pytest.MonkeyPatch) -> None:
    check = " CHECK (error_class IN ('transient', 'permanent'))"
    steps = tuple(tuple(one.replace(check, "") for one in step) for step in schema.MIGRATIONS)
    patch.setattr(schema, "MIGRATIONS", steps)


def with_one_more_scope(patch: pytest.MonkeyPatch) -> None:
    steps = tuple(tuple(one.replace("'system')", "'system', 'global')") for one in step) for step in schema.MIGRATIONS)
    patch.setattr(schema, "MIGRATIONS", steps)


def refuse_the_database_alone(path: Path, refuse: Any = files_module._refuse_foreign_files) -> None:
    try:
        refuse(path)
    except StoreReadOnly as error:
        if f"{path} is read-only" in str(error):
            raise


def tighten_all_but_the_index(path: Path) -> None:
    for suffix in ("", "-wal", "-journal"):
        files_module._tighten_one(path.with_name(path.name + suffix), 0o600)


def require_by_text(version: str = sqlite3.sqlite_version) -> None:
    needed = ".".join(map(str, connections.NEEDED_SQLITE))
    if version < needed:
        raise StoreTooOld(f"SQLite {version} is too old: the ledger needs {needed} or newer")


def settings_by_a_part(state_dir: Path, settings: Any = database_module.settings_for, **more: Any) -> Any:
    return settings(connections.MEMORY if connections.MEMORY in str(state_dir) else state_dir, **more)


def commit_at_an_exit(self: Any, kind: Any, error: Any, trace: Any, leave: Any = Transaction.__exit__) -> Any:
    return leave(self, *((None,) * 3 if isinstance(error, SystemExit) else (kind, error, trace)))


def forget_a_bad_row(self: Any, kind: Any, error: Any, trace: Any, leave: Any = Transaction.__exit__) -> Any:
    is_forgotten = isinstance(error, rows.Unreadable) and self.is_joined
    return leave(self, *((None,) * 3 if is_forgotten else (kind, error, trace)))


def settle_and_owe_nothing(self: Any, changed: Any, error: Any, settle: Any = Database.settle) -> Any:
    settled = settle(self, changed, error)
    if "locked" in str(error) and self.journal_mode != "wal":
        self.fence_owed = False
    return settled


def check_and_ignore(connection: Any, settings: Any, check: Any = connections._check_content) -> None:
    check(connection, settings)
    connection.execute("PRAGMA ignore_check_constraints = ON")


class Whole(list[Any]):
    """A list of which each part is the whole."""

    def __getitem__(self, place: Any) -> Any:
        return self if isinstance(place, slice) else super().__getitem__(place)


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    "a lock at a COMMIT settles an earlier one": (put(Database, "settle", settle_and_owe_nothing), drivers.unfenced),
    "a batch goes on after a row that can't be read": (
        put(Transaction, "__exit__", forget_a_bad_row), together.unreadable_in_batches),
    "the schema's checks are left out": (put(connections, "_check_content", check_and_ignore), outside.openings),
    "rows before a text that is no UTF-8 are read twice": (
        put(rows, "fetch", lambda *query, fetch=rows.fetch: Whole(fetch(*query))), circumstances.many_rows),
    "a log may be read-only": (
        put(files_module, "_refuse_foreign_files", refuse_the_database_alone), outside.openings),
    "the user's data are the place of the states": (
        put(files_module, "user_state_path", user_data_path), outside.typed_options),
    "a journal that has ended hides what is no database": (
        put(files_module, "_has_hot_journal", lambda path: path.with_name(f"{path.name}-journal").exists()),
        outside.openings),
    "an id is no UUID's text": (
        put(ledger_module, "uuid", SimpleNamespace(uuid4=lambda: uuid.uuid4().hex)), outside.openings),
    "an old SQLite is refused without the version that is needed": (
        put(connections, "require_sqlite", refuse_as_too_old), outside.openings),
    "an empty variable is the current directory": (
        put(ledger_module, "resolve_state_dir", resolve_by_variable), outside.typed_options),
    "a log of the other byte order is none": (put(wal, "_add", add_in_own_order), outside.typed_options),
    "a row of another's hand is not put in order": (
        lambda patch: patch.setattr(rows.TASKS, "_normalise", None), circumstances.contradicting_rows),
    "what is wide stays wide": (put(files_module, "tighten", lambda _: None), outside.openings),
    "delete runs at full": (put(connections, "default_synchronous", lambda _: "full"), outside.openings),
    "what another has committed is not seen after a fault": (
        after(Database, "version", lambda version: (0, version[1])), drivers.two_faults),
    "a fence that is owed is forgotten at the end": (
        put(Database, "ensure_usable", usable_but_at_the_end), drivers.two_faults),
    "another's migration is made again": (put(connections, "migrate", migrate_as_first_seen), drivers.two_openers),
    "a later connection has SQLite's own level": (
        put(database_module, "open_connection", open_again_at_sqlites_level), drivers.two_faults),
    "an interrupt of a commit that was made is dropped": (
        put(Transaction, "_settle", settle_without_an_interrupt), drivers.interrupts),
    "a row that is read again was always so": (put(Transaction, "select", select_anew), drivers.two_faults),
    "an interrupt that is dropped leaves a batch in parts": (
        put(Transaction, "_execute", execute_without_doom), drivers.interrupts),
    "a switch of the mode is tried once": (put(connections, "BUSY", -1), drivers.locked_switches),
    "a migration forgets a column": (
        put(connections, "migrate", lambda connection: (
            schema.migrate(connection), connection.execute("UPDATE tasks SET label = NULL"))), outside.openings),
    "a migration is two transactions": (put(connections, "migrate", migrate_in_two_steps), drivers.broken_openings),
    "a fence that was laid is still owed": (put(Database, "lay_fence", fence_and_owe_it), drivers.two_faults),
    "what is not secured is answered": (
        put(Transaction, "_secure_what_was_read", lambda _: None), drivers.unfenced),
    "a journal is left as wide as it was": (
        put(files_module, "_SIDE_SUFFIXES", ("-wal", "-shm")), outside.openings),
    "the end waits for other processes": (
        put(Database, "_run", run_without_waits_set), drivers.unfenced),
    "a new directory is not synced": (put(files_module, "_sync_directory", lambda _: None), outside.openings),
    "who is later to create the file is refused": (
        put(files_module, "_create_private", create_what_is_missing), drivers.two_openers),
    "a log stays where another one has the file open": (
        put(Database, "checkpoint", copy_what_may_be_copied), outside.openings),
    "a side file that vanishes is an error": (
        put(files_module, "_tighten_one", tighten_what_is_there), drivers.two_openers),
    "a read that failed is made again, whatever has become of its transaction": (
        put(rows, "_is_undecodable", lambda _: True), drivers.two_faults),
    "a change that another process has replaced was not made": (
        put(database_module, "judge", judge_as_undone), drivers.two_faults),
    "permissions that can't be set keep a ledger from opening": (
        put(files_module, "_tighten_one", need_the_permissions), drivers.refused_files),
    "an enumeration is not checked": (without_a_check, drivers.schemas),
    "an enumeration has one more member": (with_one_more_scope, drivers.schemas),
    "an index is left as wide as it was": (put(files_module, "tighten", tighten_all_but_the_index), outside.openings),
    "permissions that can't be set are said to no one": (
        lambda patch: patch.setattr(files_module._log, "warning", files_module._log.debug), drivers.refused_files),
    "versions are compared as texts": (put(connections, "require_sqlite", require_by_text), outside.openings),
    "a part of its name puts a ledger into memory": (
        put(database_module, "settings_for", settings_by_a_part), outside.openings),
    "a ledger is closed, or not, without its lock": (put(Database, "close", close_unless_active), drivers.two_threads),
    "only the errors of Python's own driver are known": (
        put(transaction_module, "is_database_error", lambda error: isinstance(error, sqlite3.Error)),
        drivers.two_faults),
    "an exit commits a batch": (put(Transaction, "__exit__", commit_at_an_exit), drivers.scopes),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_seen(DEFECTS[name], tmp_path, monkeypatch)
