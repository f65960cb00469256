"""Reading SQL: what a statement does to a transaction, and what ``sqlite3`` makes of a result code."""

import ctypes
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornpage import faults
from tornpage.faults import Fault
from tornpage.faults.result_codes import error_for, rolls_back
from tornpage.faults.statement.sql import (
    begin_takes_locks,
    certainly_writes,
    leading_words,
    opens_implicitly,
    split_script,
    transaction_kind,
)

_BLANKS = st.lists(
    st.sampled_from([" ", "\n", "\t", "-- BEGIN; COMMIT\n", "/* ROLLBACK; */", "/* a * b / c **/"]), max_size=4
).map("".join)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("BEGIN", "begin"),
        ("begin immediate transaction", "begin"),
        ("COMMIT", "commit"),
        ("End Transaction;", "commit"),
        ("ROLLBACK", "rollback"),
        ("ROLLBACK TRANSACTION;", "rollback"),
        ("ROLLBACK TO s", "statement"),
        ("ROLLBACK TRANSACTION TO SAVEPOINT s", "statement"),
        ("ROLLBACK /* not */ TO s", "statement"),
        ("SAVEPOINT begin_s", "statement"),
        ("RELEASE s", "statement"),
        ("EXPLAIN COMMIT", "statement"),
        ("BEGINNING", "statement"),
        ("COMMITTED", "statement"),
        ("ENDED", "statement"),
        ("", "statement"),
        ("-- COMMIT", "statement"),
        ("/* COMMIT", "statement"),
        (";;COMMIT", "commit"),
        ("/**/COMMIT", "commit"),
        ("--\nCOMMIT", "commit"),
        ("COMMIT--", "commit"),
        ("COMMIT/**/", "commit"),
    ],
)
def test_the_kind_follows_from_the_first_words(sql: str, kind: str) -> None:
    assert transaction_kind(leading_words(sql)) == kind


@given(_BLANKS, st.sampled_from(["BEGIN", "COMMIT", "END", "ROLLBACK"]), _BLANKS, st.booleans())
def test_what_is_read_is_what_sqlite_does(before: str, keyword: str, after: str, lower: bool) -> None:
    """SQLite itself is the judge: BEGIN opens a transaction, the others end one."""
    sql = before + (keyword.lower() if lower else keyword) + after
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if keyword != "BEGIN":
        connection.execute("BEGIN")
    connection.execute(sql)
    opened = connection.in_transaction
    connection.close()
    assert opened == (keyword == "BEGIN")
    assert transaction_kind(leading_words(sql)) == {"END": "commit"}.get(keyword, keyword.lower())


@given(
    _BLANKS,
    st.sampled_from(["INSERT INTO", "insert into", "REPLACE INTO", "WITH x AS (SELECT 1) INSERT INTO", ";INSERT INTO"]),
)
def test_an_implicit_begin_is_seen_exactly_where_python_makes_one(before: str, head: str) -> None:
    sql = f"{before}{head} t SELECT 1"
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t(a)")
    connection.execute(sql)
    began = connection.in_transaction
    connection.close()
    assert opens_implicitly(sql) == began


@pytest.mark.parametrize(
    ("sql", "locks"),
    [("BEGIN", False), ("BEGIN DEFERRED", False), ("BEGIN TRANSACTION", False), ("BEGIN IMMEDIATE", True),
     ("begin /* x */ exclusive transaction", True)],
)  # fmt: skip
def test_a_begin_that_takes_a_lock_says_so(sql: str, locks: bool) -> None:
    assert begin_takes_locks(leading_words(sql)) == locks


def test_the_first_word_tells_writers_from_readers() -> None:
    assert all(certainly_writes((word,)) for word in ("INSERT", "UPDATE", "CREATE", "VACUUM"))
    assert not any(certainly_writes((word,)) for word in ("SELECT", "PRAGMA", "WITH", "VALUES", "EXPLAIN"))
    assert not certainly_writes(())


_TRIGGER = "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO u VALUES(';'); DELETE FROM u; END;"


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        ("  \n", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;", ["SELECT 1;"]),
        ("SELECT 1; SELECT ';' ;SELECT 3", ["SELECT 1;", " SELECT ';' ;", "SELECT 3"]),
        (f"{_TRIGGER}SELECT 1;", [_TRIGGER, "SELECT 1;"]),
        ("-- a; b\nSELECT 1; /* c; d */ SELECT 2;", ["-- a; b\nSELECT 1;", " /* c; d */ SELECT 2;"]),
    ],
)
def test_a_script_is_cut_where_sqlite_says_a_statement_is_complete(script: str, statements: list[str]) -> None:
    assert list(split_script(script)) == statements


@given(st.lists(st.sampled_from(["SELECT 1", ";", " ", "'", '"', "--", "\n", "/*", "*/", _TRIGGER, "BEGIN", "END"])))
def test_cutting_a_script_loses_nothing_but_blanks_at_the_end(parts: list[str]) -> None:
    script = "".join(parts)
    assert script.startswith("".join(split_script(script)))
    assert not script[len("".join(split_script(script))) :].strip()


@pytest.mark.parametrize("effect", sorted(faults.RESULT_CODES))
def test_the_injected_exception_is_what_sqlite3_makes_of_the_code(effect: str, tmp_path_factory: object) -> None:
    """The message is SQLite's own, asked of the library; class and attributes as the module sets them."""
    error = error_for(Fault("statement", effect))
    if effect.startswith("NOMEM"):
        assert type(error) is MemoryError
        assert not error.args
        return
    assert isinstance(error, sqlite3.Error)
    assert error.sqlite_errorcode == faults.RESULT_CODES[effect]
    assert error.sqlite_errorname == f"SQLITE_{effect}"
    text = faults.shim_for().library._handle.sqlite3_errstr
    text.restype, text.argtypes = ctypes.c_char_p, (ctypes.c_int,)
    assert str(error) == text(faults.RESULT_CODES[effect]).decode()


@pytest.mark.parametrize(
    "plan",
    [
        "write@1=FULL",
        "write@1=IOERR_WRITE",
        "open:journal@1=CANTOPEN",
        "lock@3..=BUSY",
        "read@2=IOERR_CORRUPTFS",
        "open:journal@1=READONLY_DIRECTORY",
        "lock@2=PERM",
    ],
)
def test_the_injected_exception_equals_the_one_that_sqlite_really_raises(
    plan: str, shim: faults.Shim, tmp_path: object
) -> None:
    connection = sqlite3.connect(f"{tmp_path}/a.db", timeout=0, isolation_level=None)
    connection.execute("PRAGMA journal_mode=delete")
    with faults.arm(plan) as armed, pytest.raises(sqlite3.DatabaseError) as raised:
        connection.execute("CREATE TABLE t(a)")
    connection.close()
    assert armed.fired
    real = raised.value
    made = error_for(Fault("statement", real.sqlite_errorname.removeprefix("SQLITE_")))
    assert type(made) is type(real)
    assert made.args == real.args
    assert vars(made) == vars(real)


def test_a_module_without_extended_names_is_given_primary_codes() -> None:
    other = pytest.importorskip("pysqlite3")
    error = error_for(Fault("commit", "IOERR_FSYNC"), other)
    assert isinstance(error, other.OperationalError)
    assert vars(error) == {"sqlite_errorcode": 10, "sqlite_errorname": "SQLITE_IOERR"}


def test_what_rolls_back_by_itself() -> None:
    assert all(rolls_back(effect, writes=False) for effect in ("IOERR", "IOERR_FSYNC", "FULL", "NOMEM"))
    assert not any(
        rolls_back(effect, writes=True) for effect in ("BUSY", "BUSY_SNAPSHOT", "LOCKED", "CANTOPEN", "CORRUPT")
    )
    assert rolls_back("INTERRUPT", writes=True)
    assert not rolls_back("INTERRUPT", writes=False)
