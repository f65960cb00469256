"""The statement depth: what is raised, and that the real connection is left as SQLite would leave it."""

import contextlib
import functools
import gc
import itertools
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults import StatementDepth


@pytest.fixture
def depth() -> StatementDepth:
    return StatementDepth()


@pytest.fixture
def connection(depth: StatementDepth, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A legacy-mode connection (Python's default: an implicit deferred BEGIN) with an empty table."""
    opened = depth.connect(tmp_path / "a.db")
    opened.execute("CREATE TABLE t(a)")
    yield opened
    opened.close()


def _rows(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT a FROM t")]


def _insert(connection: sqlite3.Connection, value: int = 1) -> None:
    connection.execute("INSERT INTO t VALUES(?)", (value,))


# -- what is left behind -------------------------------------------------------------------------------------------

_STATEMENT_EFFECTS = [effect for timing, effect in faults.effects_of("statement", "any") if timing == "before"]
_OPEN_AFTERWARDS = {
    "BUSY", "BUSY_SNAPSHOT", "LOCKED", "CORRUPT", "CANTOPEN", "READONLY", "READONLY_DBMOVED", "READONLY_DIRECTORY",
}  # fmt: skip


def test_a_file_that_was_moved_leaves_the_transaction_open_in_sqlite_itself(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("BEGIN IMMEDIATE")
        (tmp_path / "a.db").rename(tmp_path / "b.db")
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.execute("INSERT INTO t VALUES (1)")
        assert raised.value.sqlite_errorname == "SQLITE_READONLY_DBMOVED"
        assert connection.in_transaction


@pytest.mark.parametrize("effect", [effect for effect in _STATEMENT_EFFECTS if effect != "BUSY_SNAPSHOT"])
def test_a_failed_write_leaves_the_transaction_as_sqlite_would(
    effect: str, depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    _insert(connection, 1)
    with depth.arm(f"statement@1={effect}") as armed:
        with pytest.raises((sqlite3.Error, MemoryError)) as raised:
            _insert(connection, 2)
        assert armed.saw(raised.value)
    assert (armed.armed, armed.fired, armed.surfaced) == (1, 1, 1)
    if effect in _OPEN_AFTERWARDS:
        assert connection.in_transaction
        assert _rows(connection) == [1]
        connection.execute("ROLLBACK")
    else:
        assert not connection.in_transaction
        with pytest.raises(sqlite3.OperationalError, match="cannot rollback - no transaction is active"):
            connection.execute("ROLLBACK")
    assert _rows(connection) == []


_READ, _WRITE = "SELECT count(*) FROM t", "INSERT INTO t VALUES (2)"
_RIVALS = (
    ("BEGIN", _READ),
    ("BEGIN IMMEDIATE", _WRITE),
    ("BEGIN EXCLUSIVE",),
    (_WRITE,),
)


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
@pytest.mark.parametrize("statements", list(itertools.product((_READ, _WRITE), repeat=2)))
def test_a_statement_is_busy_only_where_a_rival_can_make_it_so(
    journal_mode: str, begin: str, statements: tuple[str, ...], depth: StatementDepth, tmp_path: Path
) -> None:
    path = tmp_path / "busy.db"
    for index, statement in enumerate(statements):
        real = {_refused_by(rival, path, journal_mode, begin, statements[: index + 1]) for rival in _RIVALS} - {""}
        ours = set()
        for effect in ("BUSY", "BUSY_SNAPSHOT"):
            connection = depth.connect(_fresh(path, journal_mode), isolation_level=None)
            with depth.arm(f"statement@1..={effect}"):
                connection.execute(begin)
                for earlier in statements[:index]:
                    # What was refused has not been made: the lock is still to be taken.
                    _made(connection, earlier, depth)
                try:
                    connection.execute(statement).fetchall()
                except sqlite3.OperationalError as error:
                    ours.add(error.sqlite_errorname)
            connection.close()
        if (journal_mode, begin, index, statement) == ("wal", "BEGIN", 0, _READ):
            # A rival that recovers the log, or has the file to itself, refuses a reader, too.
            real.add("SQLITE_BUSY")
        assert ours == real


def _fresh(path: Path, journal_mode: str) -> Path:
    for name in path.parent.glob("busy.db*"):
        name.unlink()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("CREATE TABLE t (a)")
    return path


def _made(connection: sqlite3.Connection, statement: str, depth: StatementDepth) -> None:
    """Run a statement that no watcher refuses, and that the connection still sees."""
    watchers, depth._watchers = depth._watchers, ()
    try:
        connection.execute(statement).fetchall()
    finally:
        depth._watchers = watchers


def _refused_by(rival: tuple[str, ...], path: Path, journal_mode: str, begin: str, statements: tuple[str, ...]) -> str:
    """What SQLite says of the last of these statements where a rival comes just before it; "" where it succeeds."""
    _fresh(path, journal_mode)
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as store,
        contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
    ):
        store.execute(begin)
        for statement in statements[:-1]:
            store.execute(statement).fetchall()
        with contextlib.suppress(sqlite3.OperationalError):
            for statement in rival:
                other.execute(statement).fetchall()
        try:
            store.execute(statements[-1]).fetchall()
        except sqlite3.OperationalError as error:
            return error.sqlite_errorname
        return ""


def test_an_interrupted_read_leaves_the_transaction_open(depth: StatementDepth, connection: sqlite3.Connection) -> None:
    for sql in ("SELECT * FROM t", "WITH x AS (SELECT 1) SELECT * FROM x, t", "PRAGMA user_version"):
        _insert(connection)
        with depth.arm("statement@1=INTERRUPT"), pytest.raises(sqlite3.OperationalError, match="interrupted"):
            connection.execute(sql)
        assert connection.in_transaction
        connection.rollback()


@pytest.mark.parametrize(
    "sql", ["UPDATE t SET a = 2", "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "DROP TABLE t"]
)
def test_an_interrupted_write_has_rolled_back(sql: str, depth: StatementDepth, connection: sqlite3.Connection) -> None:
    _insert(connection)
    with depth.arm("statement@1=INTERRUPT"), pytest.raises(sqlite3.OperationalError, match="interrupted"):
        connection.execute(sql)
    assert not connection.in_transaction


_NUMBERS = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"


@pytest.mark.parametrize(
    ("beneath", "above", "before", "fails"),
    [
        ("write:db@1=FULL", "statement@1=FULL", "UPDATE t SET a = 0 WHERE a = 1", "UPDATE t SET b = zeroblob(4001)"),
        ("write@1=IOERR_WRITE", "statement@1=IOERR_WRITE", "SELECT 1", "UPDATE t SET b = zeroblob(4001)"),
        ("read:db@1=IOERR_READ", "statement@1=IOERR_READ", "UPDATE t SET a = 0 WHERE a = 1", "SELECT sum(a) FROM t"),
        ("open:journal@1=CANTOPEN", "statement@1=CANTOPEN", "SELECT 1", "UPDATE t SET a = 2"),
        ("lock@1..=BUSY", "statement@1=BUSY", "SELECT 1", "UPDATE t SET a = 2"),
        ("sync@1=IOERR_FSYNC", "commit@1=IOERR_FSYNC", "UPDATE t SET a = 2", "COMMIT"),
        ("write@1=FULL", "commit@1=FULL", "UPDATE t SET a = 2 WHERE a = 3", "COMMIT"),
        ("lock@1..=BUSY", "commit@1=BUSY", "INSERT INTO t VALUES(51, 0)", "COMMIT"),
        ("delete:journal@1=IOERR_DELETE", "commit@1=IOERR_DELETE", "UPDATE t SET a = 2 WHERE a = 3", "COMMIT"),
        ("delete:journal@1/after=IOERR_DELETE", "commit@1/after=IOERR_DELETE", "INSERT INTO t VALUES(51, 0)", "COMMIT"),
        ("lock@1..=BUSY", "begin@1=BUSY", "COMMIT", "BEGIN IMMEDIATE"),
        ("interrupt", "statement@1=INTERRUPT", "UPDATE t SET a = 0 WHERE a = 1", "UPDATE t SET a = 3"),
        ("interrupt", "statement@1=INTERRUPT", "UPDATE t SET a = 0 WHERE a = 1", "SELECT sum(a) FROM t"),
    ],
)  # fmt: skip
def test_the_model_equals_the_truth(beneath: str, above: str, before: str, fails: str, tmp_path: Path) -> None:
    """The same failure made by SQLite, and made by this depth: the exception, the transaction, the rows."""
    depth = StatementDepth()
    states = []
    for plan in (beneath, above):
        path = tmp_path / f"{len(states)}.db"
        with faults.install():
            connection = depth.connect(path, isolation_level=None, timeout=0)
            connection.execute("CREATE TABLE t(a, b)")
            connection.execute(f"{_NUMBERS} INSERT INTO t SELECT i, zeroblob(4000) FROM n")
            # Far more pages than the cache holds: reads and writes come in the statement.
            connection.execute("PRAGMA cache_size=1")
            connection.execute("BEGIN")
            connection.execute(before).fetchall()
            if plan == "interrupt":
                connection.set_progress_handler(lambda: 1, 1)
            arm = (
                contextlib.nullcontext() if plan == "interrupt" else (depth.arm if plan == above else faults.arm)(plan)
            )
            with arm, pytest.raises(sqlite3.OperationalError) as raised:
                connection.execute(fails).fetchall()
            connection.set_progress_handler(None, 1)
            told = type(raised.value), str(raised.value), raised.value.sqlite_errorname
            rows = connection.execute("SELECT a, length(b) FROM t ORDER BY rowid").fetchall()
            states.append((told, connection.in_transaction, rows))
            # A statement that the traceback still holds would keep a closed connection's lock.
            connection.rollback()
            connection.close()
        fresh = sqlite3.connect(path)
        states[-1] = (*states[-1], fresh.execute("SELECT a FROM t ORDER BY rowid").fetchall())
        fresh.close()
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("effect", "is_open"),
    [
        ("BUSY", True),
        ("FULL", False),
        ("IOERR", False),
        ("IOERR_FSYNC", False),
        ("IOERR_DELETE", False),
        ("NOMEM", False),
    ],
)
@pytest.mark.parametrize("how", ["method", "sql", "end"])
def test_a_commit_that_failed_before_has_changed_nothing(
    effect: str, is_open: bool, how: str, depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    commit: dict[str, Callable[[], object]] = {
        "method": connection.commit,
        "sql": lambda: connection.execute("COMMIT"),
        "end": lambda: connection.execute("/* x */ end transaction"),
    }
    _insert(connection)
    with depth.arm(f"commit@1={effect}") as armed, pytest.raises((sqlite3.Error, MemoryError)):
        commit[how]()
    assert armed.fired == 1
    assert connection.in_transaction == is_open
    connection.rollback()
    assert _rows(connection) == []


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
@pytest.mark.parametrize(
    "effect", [effect for timing, effect in faults.effects_of("commit", "any") if timing == "after"]
)
def test_a_commit_that_failed_after_has_really_committed(
    mode: str, effect: str, depth: StatementDepth, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    connection.execute(f"PRAGMA journal_mode={mode}")
    _insert(connection)
    with depth.arm(f"commit@1/after={effect}") as armed:
        with pytest.raises(sqlite3.OperationalError) as raised:
            connection.commit()
        assert armed.saw(raised.value)
    assert raised.value.sqlite_errorname == f"SQLITE_{effect}"
    assert not connection.in_transaction
    fresh = sqlite3.connect(tmp_path / "a.db")
    assert _rows(fresh) == [1]
    fresh.close()


@pytest.mark.parametrize("mode", ["wal", "memory", "off"])
def test_an_ambiguous_commit_matches_nothing_where_no_journal_is_ended(
    mode: str, depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    connection.execute(f"PRAGMA journal_mode={mode}")
    with depth.arm("commit@1..3/after=IOERR_DELETE") as armed:
        _insert(connection)
        connection.commit()
        assert armed.injector.matches == [0]
        connection.execute("PRAGMA journal_mode=delete")
        _insert(connection)
        with pytest.raises(sqlite3.OperationalError):
            connection.commit()
        assert armed.injector.matches == [1]
    assert _rows(connection) == [1, 1]


def test_the_journal_mode_is_asked_for_only_when_an_ambiguous_commit_is_watched(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    with depth.arm("commit@5=FULL"):
        _insert(connection)
        connection.commit()
    assert not any("journal_mode" in sql for sql in seen)
    with depth.arm("commit@5/after=IOERR"):
        _insert(connection)
        connection.commit()
    assert any("journal_mode" in sql for sql in seen)
    connection.set_trace_callback(None)


# -- what counts as what -------------------------------------------------------------------------------------------


def _count(depth: StatementDepth, run: Callable[[], object]) -> dict[str, int]:
    with depth.count_operations() as counter:
        run()
    return {kind: count for (kind, role), count in counter.counts.items() if role == "any"}


def test_the_legacy_control_begins_before_dml_and_only_there(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    assert _count(depth, lambda: connection.execute("SELECT 1").fetchall()) == {}
    assert _count(depth, lambda: _insert(connection)) == {"begin": 1, "statement": 1, "statementlock": 1}
    assert _count(depth, lambda: _insert(connection)) == {"statement": 1}
    assert _count(depth, lambda: connection.execute("SELECT 1").fetchall()) == {"statement": 1}
    assert _count(depth, lambda: connection.execute("ROLLBACK TO nowhere") if False else None) == {}
    assert _count(depth, connection.commit) == {"commit": 1, "commitlock": 1, "commitend": 1}
    assert _count(depth, connection.commit) == {}
    assert _count(depth, connection.rollback) == {}


@pytest.mark.parametrize(
    ("level", "kinds"),
    [
        ("IMMEDIATE", {"begin", "beginlock", "statement"}),
        ("exclusive", {"begin", "beginlock", "statement"}),
        ("DEFERRED", {"begin", "statement", "statementlock"}),
    ],
)
def test_the_implicit_begin_takes_locks_as_its_isolation_level_says(
    level: str, kinds: set[str], depth: StatementDepth, tmp_path: Path
) -> None:
    connection = depth.connect(tmp_path / "b.db", isolation_level=level)
    connection.execute("CREATE TABLE t(a)")
    assert set(_count(depth, lambda: _insert(connection))) == kinds
    connection.close()


def test_without_isolation_level_a_lone_write_is_a_commit_and_a_lone_read_nothing(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    connection.isolation_level = None
    lone = {"commit": 1, "commitlock": 1, "commitend": 1}
    assert _count(depth, lambda: _insert(connection)) == lone
    assert _count(depth, lambda: connection.execute("WITH x AS (SELECT 5) INSERT INTO t SELECT * FROM x")) == lone
    assert _count(depth, lambda: connection.execute("WITH x AS (SELECT 5) SELECT * FROM x").fetchall()) == {}
    assert _count(depth, lambda: connection.execute("CREATE TABLE u(a)")) == lone
    assert _count(depth, lambda: connection.executemany("INSERT INTO t VALUES(?)", [(1,), (2,)])) == {
        "commit": 2,
        "commitlock": 2,
        "commitend": 2,
    }
    assert _count(depth, lambda: connection.execute("BEGIN IMMEDIATE")) == {"begin": 1, "beginlock": 1}
    assert _count(depth, lambda: connection.execute("ROLLBACK")) == {"rollback": 1}
    assert _count(depth, lambda: connection.execute("BEGIN")) == {"begin": 1}
    assert _count(depth, lambda: connection.execute("SAVEPOINT s")) == {"statement": 1}
    assert _count(depth, lambda: connection.execute("ROLLBACK TO s")) == {"statement": 1}
    assert _count(depth, lambda: connection.execute("-- nothing")) == {}
    assert _count(depth, lambda: connection.execute("END")) == lone


def test_what_sqlite_refuses_is_no_operation(depth: StatementDepth, connection: sqlite3.Connection) -> None:
    def refused(sql: str) -> dict[str, int]:
        def run() -> None:
            with pytest.raises(sqlite3.OperationalError):
                connection.execute(sql)

        return _count(depth, run)

    assert refused("COMMIT") == {}
    assert refused("ROLLBACK") == {}
    connection.execute("BEGIN")
    assert refused("BEGIN") == {}
    connection.rollback()


def test_executemany_fails_at_its_nth_row_with_the_earlier_ones_written(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    with depth.arm("statement@3=LOCKED") as armed, pytest.raises(sqlite3.OperationalError, match="locked"):
        connection.executemany("INSERT INTO t VALUES(?)", ((number,) for number in range(9)))
    assert armed.fired == 1
    assert connection.in_transaction
    assert _rows(connection) == [0, 1]
    connection.rollback()
    with depth.arm("statement@3=FULL"), pytest.raises(sqlite3.OperationalError, match="full"):
        connection.executemany("INSERT INTO t VALUES(?)", ((number,) for number in range(9)))
    assert not connection.in_transaction
    assert _rows(connection) == []
    # Nothing is stuck in the cursor.
    connection.executemany("INSERT INTO t VALUES(?)", [(7,)])
    connection.commit()
    assert _rows(connection) == [7]


def test_a_lone_executemany_commits_row_by_row(depth: StatementDepth, connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    rows = [(number,) for number in range(5)]
    with depth.arm("commit@3/after=IOERR_UNLOCK"), pytest.raises(sqlite3.OperationalError):
        connection.executemany("INSERT INTO t VALUES(?)", rows)
    assert _rows(connection) == [0, 1, 2]
    with depth.arm("commit@2=FULL"), pytest.raises(sqlite3.OperationalError):
        connection.executemany("INSERT INTO t VALUES(?)", rows)
    assert _rows(connection) == [0, 1, 2, 0]


def test_a_script_is_run_statement_by_statement_after_pythons_commit(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    script = "BEGIN IMMEDIATE; INSERT INTO t VALUES(1); INSERT INTO t VALUES(2); COMMIT; INSERT INTO t VALUES(3);"
    assert _count(depth, lambda: connection.executescript(script)) == {
        "begin": 1, "beginlock": 1, "statement": 2, "commit": 2, "commitlock": 2, "commitend": 2,
    }  # fmt: skip
    assert _rows(connection) == [1, 2, 3]
    _insert(connection, 4)
    with depth.arm("commit@1=FULL"), pytest.raises(sqlite3.OperationalError):
        connection.executescript(script)  # Python commits what was open.
    assert _rows(connection) == [1, 2, 3]
    with depth.arm("statement@2=LOCKED"), pytest.raises(sqlite3.OperationalError):
        connection.executescript(script)
    assert connection.in_transaction
    connection.rollback()
    assert _rows(connection) == [1, 2, 3]


@pytest.mark.parametrize(
    "script",
    [
        "",
        ";",
        "SELECT 1",
        "-- only\n",
        "INSERT INTO t VALUES(1); SELECT * FROM t; -- end",
        "BEGIN; INSERT INTO t VALUES(1)",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT ';'; END; INSERT INTO t VALUES(1);",
        "INSERT INTO nowhere VALUES(1)",
        "INSERT INTO t VALUES(1); NONSENSE; INSERT INTO t VALUES(2)",
        "SELECT 'unterminated",
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_watched_script_does_what_an_unwatched_one_does(script: str, inside: bool, tmp_path: Path) -> None:
    outcomes = []
    for name, watched in (("plain.db", False), ("watched.db", True)):
        depth = StatementDepth()
        connection = depth.connect(tmp_path / name)
        connection.execute("CREATE TABLE t(a)")
        if inside:
            _insert(connection, 0)
        error = None
        with depth.arm("any@1000=IOERR") if watched else contextlib.nullcontext():
            try:
                connection.executescript(script)
            except sqlite3.Error as raised:
                error = type(raised), str(raised)
        outcomes.append((error, connection.in_transaction, _rows(connection)))
        connection.close()
    assert outcomes[0] == outcomes[1]


def test_a_with_block_commits_or_rolls_back_and_both_are_operations(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    def committed() -> None:
        with connection:
            _insert(connection)

    def failed() -> None:
        with contextlib.suppress(KeyError), connection:
            _insert(connection)
            raise KeyError

    begun = {"begin": 1, "statement": 1, "statementlock": 1}
    assert _count(depth, committed) == begun | {"commit": 1, "commitlock": 1, "commitend": 1}
    assert _count(depth, failed) == begun | {"rollback": 1}
    with depth.arm("commit@1=BUSY"), pytest.raises(sqlite3.OperationalError, match="locked"):
        committed()
    # As in C, a COMMIT that failed is followed by a ROLLBACK.
    assert not connection.in_transaction
    assert _rows(connection) == [1]
    with depth.arm("commit@1/after=IOERR_DELETE"), pytest.raises(sqlite3.OperationalError):
        committed()
    assert _rows(connection) == [1, 1]


def test_a_rollback_that_found_no_memory_leaves_the_transaction_open(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    for rollback in (connection.rollback, lambda: connection.execute("ROLLBACK")):
        _insert(connection)
        with depth.arm("rollback@1=NOMEM"), pytest.raises(MemoryError):
            rollback()
        assert connection.in_transaction
        connection.rollback()


def test_a_begin_that_failed_has_begun_nothing(depth: StatementDepth, connection: sqlite3.Connection) -> None:
    with depth.arm("begin@1=BUSY"), pytest.raises(sqlite3.OperationalError, match="locked"):
        connection.execute("BEGIN IMMEDIATE")
    assert not connection.in_transaction
    with depth.arm("begin@1=NOMEM"), pytest.raises(MemoryError):
        _insert(connection)
    assert not connection.in_transaction
    # A deferred BEGIN touches no file, so it can't be told that the database is locked.
    with depth.arm("begin@1..=BUSY") as armed:
        connection.execute("BEGIN DEFERRED")
    assert armed.fired == 0
    connection.rollback()


def test_the_first_statement_of_an_implicit_transaction_fails_inside_it(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    """As with a real SQLITE_BUSY: Python has begun, and the INSERT is what is refused."""
    with depth.arm("statement@1=BUSY"), pytest.raises(sqlite3.OperationalError, match="locked"):
        _insert(connection)
    assert connection.in_transaction
    connection.rollback()


def test_to_leave_the_legacy_control_is_to_commit(depth: StatementDepth, connection: sqlite3.Connection) -> None:
    _insert(connection)
    with depth.arm("commit@1=FULL"), pytest.raises(sqlite3.OperationalError, match="full"):
        connection.isolation_level = None
    assert connection.isolation_level == ""
    assert _rows(connection) == []
    connection.isolation_level = "IMMEDIATE"
    assert connection.isolation_level == "IMMEDIATE"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the autocommit attribute came with Python 3.12")
def test_autocommit_true_and_false_are_understood(depth: StatementDepth, tmp_path: Path) -> None:
    connection = depth.connect(tmp_path / "c.db", autocommit=False)
    assert connection.in_transaction
    assert _count(depth, lambda: connection.execute("CREATE TABLE t(a)")) == {"statement": 1, "statementlock": 1}
    assert _count(depth, connection.commit) == {"commit": 1, "commitlock": 1, "commitend": 1}
    assert connection.in_transaction
    _insert(connection)
    with depth.arm("commit@1/after=IOERR"), pytest.raises(sqlite3.OperationalError):
        connection.commit()
    # The COMMIT raised, so Python does not go on to the next BEGIN.
    assert not connection.in_transaction
    connection.autocommit = True
    assert _count(depth, connection.commit) == {}
    assert _count(depth, lambda: connection.execute("BEGIN")) == {"begin": 1}
    _insert(connection)
    assert _count(depth, connection.commit) == {}  # It does nothing.
    assert _count(depth, connection.rollback) == {}
    connection.execute("COMMIT")
    assert _rows(connection) == [1, 1]
    connection.autocommit = False
    _insert(connection)
    with depth.arm("commit@1=FULL"), pytest.raises(sqlite3.OperationalError):
        connection.autocommit = True
    connection.close()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="before Python 3.12 there is no autocommit attribute")
def test_no_autocommit_attribute_appears_where_python_has_none(connection: sqlite3.Connection) -> None:
    assert not hasattr(connection, "autocommit")


# -- the plumbing --------------------------------------------------------------------------------------------------


def test_surfacing_is_recognised_by_identity_even_through_other_exceptions(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:

    def store() -> None:
        try:
            _insert(connection)
        except sqlite3.OperationalError:
            # The injected one is the context only: the store names another cause.
            raise RuntimeError("the store's own") from KeyError("in the handler")

    with depth.arm("statement@1..2=BUSY") as armed:
        with pytest.raises(RuntimeError) as raised:
            store()
        assert not armed.saw(sqlite3.OperationalError("database is locked"))  # One like it, but not it.
        assert armed.saw(raised.value)
        assert not armed.saw(raised.value)  # Trace once.
        assert armed.surfaced == 1
        with contextlib.suppress(sqlite3.OperationalError):
            _insert(connection)
        assert (armed.fired, len(armed.firings), armed.surfaced) == (1, 2, 1)
    connection.rollback()


def test_what_leaves_the_arm_scope_has_surfaced(depth: StatementDepth, connection: sqlite3.Connection) -> None:
    def store() -> None:
        try:
            _insert(connection)
        except sqlite3.OperationalError as error:
            raise ExceptionGroup("several", [ValueError(), error]) from None

    with pytest.raises(ExceptionGroup), depth.arm("statement@1=FULL") as armed:
        store()
    assert armed.surfaced == 1


def test_an_injected_exception_keeps_no_connection_alive(depth: StatementDepth, tmp_path: Path) -> None:
    def run() -> weakref.ref[sqlite3.Connection]:
        connection = depth.connect(tmp_path / "d.db")
        with contextlib.suppress(MemoryError):
            connection.execute("BEGIN")
        connection.close()
        return weakref.ref(connection)

    with depth.arm("begin@1=NOMEM") as armed:
        gone = run()
        gc.collect()
        assert gone() is None
    assert armed.fired == 1


def test_one_long_lived_connection_has_plans_armed_and_cleared(
    depth: StatementDepth, connection: sqlite3.Connection
) -> None:
    for effect in ("FULL", "BUSY", "IOERR"):
        with depth.arm(f"statement@1={effect}") as armed, pytest.raises(sqlite3.OperationalError):
            _insert(connection)
        assert armed.surfaced == 0
        connection.rollback()
        assert depth.kinds == frozenset()
        _insert(connection)
        connection.commit()
    assert _rows(connection) == [1, 1, 1]


def test_two_depths_and_two_databases_are_apart(
    depth: StatementDepth, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    other = depth.connect(f"file:{tmp_path / 'other.db'}?mode=rwc", uri=True)
    other.execute("CREATE TABLE t(a)")
    memory = depth.connect(":memory:")
    memory.execute("CREATE TABLE t(a)")
    with depth.arm("statement@1=FULL", tmp_path / "other.db") as armed:
        _insert(connection)
        _insert(memory)
        assert armed.injector.matches == [0]
        with pytest.raises(sqlite3.OperationalError):
            _insert(other)
    apart = StatementDepth().connect(":memory:")
    with depth.arm("any@*=IOERR"):
        apart.execute("CREATE TABLE t(a)")
    for each in (other, memory, apart):
        each.close()
    connection.rollback()


def test_the_factory_and_the_connect_function_follow_a_plan_for_good(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db", factory=faults.faulting_connection("commit@2=FULL"))
    connection.execute("CREATE TABLE t(a)")
    _insert(connection)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        connection.commit()
    connection.close()
    injector = faults.PlanInjector(faults.FaultPlan.parse("begin@1=NOMEM"))
    connect = faults.faulting_connect(injector)
    connection = connect(tmp_path / "a.db", 1.0, 0, "IMMEDIATE", True)  # noqa: FBT003 - the signature is sqlite3.connect's
    with pytest.raises(MemoryError):
        _insert(connection)
    assert injector.matches == [1]
    connection.close()
    with pytest.raises(faults.ImpossibleFaultError):
        faults.faulting_connect("commit@1=MISUSE")


def test_the_class_of_a_watched_connection_is_a_factory_for_another_depth(tmp_path: Path) -> None:
    first, second = faults.StatementDepth(), faults.StatementDepth()
    with contextlib.closing(first.connect(tmp_path / "a.db")) as one:
        for factory in (type(one), type("Mine", (type(one),), {})):
            with contextlib.closing(second.connect(tmp_path / "b.db", factory=factory)) as two:
                assert isinstance(two, factory)
                with second.arm("begin@1=BUSY") as armed, pytest.raises(sqlite3.OperationalError):
                    two.execute("BEGIN IMMEDIATE")
                assert armed.firings
                one.execute("BEGIN")
                one.rollback()


def test_a_connection_class_and_a_cursor_class_of_the_callers_own_are_watched_too(
    depth: StatementDepth, tmp_path: Path
) -> None:
    class Own(sqlite3.Connection):
        def twice(self) -> int:
            self.execute("INSERT INTO t VALUES(1)")
            return 2

    class OwnCursor(sqlite3.Cursor):
        pass

    connection = depth.connect(tmp_path / "e.db", factory=Own)
    assert isinstance(connection, Own)
    connection.execute("CREATE TABLE t(a)")
    with depth.arm("statement@1..2=BUSY") as armed:
        with pytest.raises(sqlite3.OperationalError):
            connection.twice()
        connection.rollback()
        cursor = connection.cursor(OwnCursor)
        assert isinstance(cursor, OwnCursor)
        with pytest.raises(sqlite3.OperationalError):
            cursor.execute("INSERT INTO t VALUES(1)")
        assert len(armed.firings) == 2
    connection.rollback()
    with pytest.raises(TypeError, match="pass a class"):
        connection.cursor(functools.partial(OwnCursor))
    connection.close()


def test_rows_text_and_cursors_are_the_callers_own(depth: StatementDepth, connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda raw: f"<{raw.decode()}>"
    with depth.arm("any@1000/after=IOERR"):
        cursor = connection.cursor()
        assert cursor.execute("INSERT INTO t VALUES('x') RETURNING a").fetchone()["a"] == "<x>"
        assert cursor.lastrowid == 1
        connection.commit()
        assert connection.execute("SELECT a AS b FROM t").fetchone()["b"] == "<x>"
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(TypeError):
            connection.execute(5)  # type: ignore[call-overload] # what C says of it is what is wanted
    assert connection.text_factory is not bytes


def test_a_lone_insert_with_returning_has_committed_when_the_answer_is_lost(
    depth: StatementDepth, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    connection.isolation_level = None
    # The cursor stays alive: what it had not stepped to its end would not be committed.
    cursor = connection.cursor()
    with depth.arm("commit@1/after=IOERR_UNLOCK"), pytest.raises(sqlite3.OperationalError):
        cursor.execute("INSERT INTO t VALUES(1) RETURNING a")
    assert not connection.in_transaction
    fresh = sqlite3.connect(tmp_path / "a.db")
    assert _rows(fresh) == [1]
    fresh.close()
    cursor.close()


def test_a_closed_connection_says_so(depth: StatementDepth, tmp_path: Path) -> None:
    connection = depth.connect(tmp_path / "f.db")
    connection.close()
    with depth.arm("any@1=IOERR") as armed:
        for call in (connection.commit, connection.rollback, lambda: connection.execute("SELECT 1")):
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                call()
    assert armed.fired == 0


def test_an_injector_of_ones_own_is_asked_and_what_it_raises_is_raised(
    depth: StatementDepth, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    asked: list[tuple[str, str, str | None]] = []

    class Own:
        kinds = frozenset({"statement"})

        def decide(self, kind: str, role: str, path: str | None) -> None:
            asked.append((kind, role, path))
            raise LookupError("of its own")

    with depth.watching(Own()), pytest.raises(LookupError, match="of its own"):
        _insert(connection)
    assert asked == [("statement", "any", str((tmp_path / "a.db").resolve()))]
    connection.rollback()


def test_two_threads_with_connections_of_one_depth(depth: StatementDepth, tmp_path: Path) -> None:
    counts: list[int] = []

    def run(name: str) -> None:
        connection = depth.connect(tmp_path / name)
        connection.execute("CREATE TABLE t(a)")
        failed = 0
        for _ in range(200):
            try:
                _insert(connection)
            except sqlite3.OperationalError:
                failed += 1
        counts.append(failed)
        connection.close()

    with depth.arm("statement@100..149=LOCKED") as armed:
        threads = [threading.Thread(target=run, args=(name,)) for name in ("one.db", "two.db")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(counts) == len(armed.firings) == 50
    assert armed.injector.matches == [400]


def test_the_second_sqlite_has_a_statement_depth_too(tmp_path: Path) -> None:
    other = pytest.importorskip("pysqlite3")
    depth = StatementDepth(other)
    connection = depth.connect(str(tmp_path / "a.db"))
    connection.execute("CREATE TABLE t(a)")
    for plan, kind in (
        ("statement@1=FULL", other.OperationalError),
        ("commit@1/after=IOERR_DELETE", other.OperationalError),
        ("commit@1=NOMEM", MemoryError),
    ):
        with depth.arm(plan) as armed, pytest.raises(kind), connection:
            _insert(connection)
        assert armed.fired == 1
        assert not connection.in_transaction
    assert _rows(connection) == [1]
    connection.close()


@pytest.mark.parametrize(
    ("plan", "rows"),
    [
        ("begin@1=KILL", []), ("begin@1/after=KILL", []), ("statement@2=KILL", []), ("statement@2/after=KILL", []),
        ("commit@1=KILL", []), ("commit@1/after=KILL", [1, 2]), ("rollback@1=KILL", []), ("any@4=KILL", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_killed_at_a_statement_leaves_what_had_been_committed(
    plan: str, rows: list[int], mode: str, child: Callable[..., object], tmp_path: Path
) -> None:
    code = """
        import sys; from tornpage import faults
        depth = faults.StatementDepth()
        connection = depth.connect("a.db")
        connection.execute("PRAGMA journal_mode=" + sys.argv[2])
        connection.execute("CREATE TABLE t(a)")
        with depth.arm(sys.argv[1]):
            connection.execute("INSERT INTO t VALUES(1)")
            connection.execute("INSERT INTO t VALUES(2)")
            connection.rollback() if "rollback" in sys.argv[1] else connection.commit()
        print("survived")
    """
    ended = child(code, plan, mode)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-9, "", "")
    fresh = sqlite3.connect(tmp_path / "a.db")
    assert _rows(fresh) == rows
    fresh.close()


@pytest.mark.parametrize(
    ("journal_mode", "begin", "takes"),
    [
        ("delete", "BEGIN", True),
        ("truncate", "BEGIN IMMEDIATE", True),
        ("persist", "BEGIN EXCLUSIVE", False),
        ("wal", "BEGIN", False),
        ("wal", "BEGIN IMMEDIATE", False),
        ("wal", None, True),
        ("delete", None, True),
    ],
)
def test_a_commit_is_busy_only_where_it_takes_a_lock(
    journal_mode: str, begin: str | None, takes: bool, depth: StatementDepth, tmp_path: Path
) -> None:
    with contextlib.closing(depth.connect(tmp_path / "b.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal_mode}").fetchall()
        connection.execute("CREATE TABLE t(a, b)")
        with depth.arm("commit@1=BUSY") as armed, contextlib.suppress(sqlite3.OperationalError):
            if begin is not None:
                connection.execute(begin)
            connection.execute("INSERT INTO t VALUES(1, 2)")
            if begin is not None:
                connection.execute("COMMIT")
        assert armed.fired == takes
        # A COMMIT that was refused a lock has left its transaction open; one statement by itself has none.
        assert connection.in_transaction == (takes and begin is not None)
