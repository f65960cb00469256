"""Crash copies: equal ones are opened once, damaged ones are found, and files are put down exactly."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tornpage import Action, SimpleTarget, faults
from tornpage.scenarios.execution.reopen import Reopened, contents_of, view_of
from tornpage.scenarios.execution.snapshots import Files, Holder, place
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.run.campaign import run

CONFIGURATION = Configuration("delete", "FULL")


class Notes:
    """As much of a target as a crash copy needs: a view of one table, by a session that checks nothing."""

    view_fails = False

    def __init__(self) -> None:
        self.opened_at: list[int] = []

    def database(self, directory: Path) -> Path:
        return directory / "notes.db"

    def open(self, directory: Path, configuration: Configuration, environment: Any) -> "Notes":
        self.opened_at.append(environment.now_ms)
        self.connection = environment.connect(self.database(directory))
        return self

    def live_view(self) -> dict[str, Any]:
        if self.view_fails:
            raise KeyError("nothing to see")
        return dict(self.connection.execute("SELECT key, value FROM notes"))

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def notes(tmp_path: Path) -> Files:
    path = tmp_path / "made" / "notes.db"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (key TEXT PRIMARY KEY, value)")
        connection.execute("INSERT INTO notes VALUES ('a', 1)")
        connection.commit()
    return {"notes.db": path.read_bytes()}


def reopened(target: Notes, tmp_path: Path) -> Reopened:
    return Reopened(target, CONFIGURATION, tmp_path / "crash")  # type: ignore[arg-type]


def with_a_lost_page(content: bytes) -> bytes:
    """The database with one page more than anything refers to: it reads well, and SQLite's check says no."""
    pages = int.from_bytes(content[28:32], "big") + 1
    return content[:28] + pages.to_bytes(4, "big") + content[32:] + bytes(4096)


def test_equal_copies_at_the_same_time_are_opened_once(notes: Files, tmp_path: Path) -> None:
    target = Notes()
    with faults.install():
        look = reopened(target, tmp_path)
        assert [look.view_of(dict(notes), 5), look.view_of(dict(notes), 5)] == [{"a": 1}, {"a": 1}]
    assert (look.opened, target.opened_at) == (1, [5])


def test_another_byte_or_another_time_is_another_state(notes: Files, tmp_path: Path) -> None:
    target = Notes()
    with faults.install():
        look = reopened(target, tmp_path)
        look.view_of(notes, 5)
        look.view_of(notes, 6)
        look.view_of({**notes, "beside.txt": b"x"}, 5)
        look.view_of({**notes, "beside.txt": b"y"}, 5)
    assert look.opened == 4


def test_damage_that_the_target_does_not_notice_is_found(notes: Files, tmp_path: Path) -> None:
    damaged = {"notes.db": with_a_lost_page(notes["notes.db"])}
    with faults.install(), pytest.raises(Violation, match="never used") as found:
        reopened(Notes(), tmp_path).view_of(damaged, 5)
    assert found.value.code == "integrity"


def test_a_copy_that_failed_is_not_remembered_as_good(notes: Files, tmp_path: Path) -> None:
    damaged = {"notes.db": with_a_lost_page(notes["notes.db"])}
    with faults.install():
        look = reopened(Notes(), tmp_path)
        for _ in range(2):
            with pytest.raises(Violation):
                look.view_of(damaged, 5)
    assert look.opened == 2


def test_a_view_that_fails_after_a_crash_is_a_violation_and_the_session_is_closed(notes: Files, tmp_path: Path) -> None:
    target = Notes()
    target.view_fails = True
    with faults.install(), pytest.raises(Violation, match="nothing to see") as found:
        reopened(target, tmp_path).view_of(notes, 5)
    assert found.value.code == "still-usable-after-the-fault"
    with pytest.raises(sqlite3.ProgrammingError):
        target.connection.execute("SELECT 1")


def test_only_the_last_few_states_are_remembered(notes: Files, tmp_path: Path) -> None:
    with faults.install():
        look = reopened(Notes(), tmp_path)
        for time_ms in [*range(65), 0]:
            look.view_of(notes, time_ms)
    assert look.opened == 66


def test_a_directory_holds_exactly_what_was_placed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    place({"long": b"x" * 10_000, "gone": b"", "below/deep": b"1"}, home)
    place({"long": b"short", "below/other": b"2"}, home)
    holder = Holder()
    try:
        assert holder.copy(home) == {"long": b"short", "below/other": b"2"}
    finally:
        holder.release()


def test_shared_memory_is_no_part_of_a_copy_and_is_taken_away(tmp_path: Path) -> None:
    place({"notes.db": b"1", "notes.db-shm": b"2"}, tmp_path / "home")
    holder = Holder()
    try:
        copy = holder.copy(tmp_path / "home")
    finally:
        holder.release()
    assert copy == {"notes.db": b"1"}
    place(copy, tmp_path / "home")
    assert not (tmp_path / "home" / "notes.db-shm").exists()


def test_a_view_is_read_under_one_lock_that_is_in_no_statements_way(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE notes (key TEXT, value TEXT)")
        connection.execute("INSERT INTO notes VALUES ('a', 'b')")
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=0)) as other:

        class OwnTransaction:
            breaks_constraints = False

            def fresh_view(self, connection: sqlite3.Connection) -> dict[str, Any]:
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("DELETE FROM notes")
                connection.execute("BEGIN")
                found = dict(connection.execute("SELECT key, value FROM notes"))
                connection.execute("COMMIT")
                return found

        with faults.install():
            assert view_of(OwnTransaction(), tmp_path / "a.db", integrity=True) == {"a": "b"}
        assert other.execute("DELETE FROM notes").rowcount == 1


@pytest.mark.parametrize("tables", [0, 1])
def test_a_view_of_a_database_with_hardly_anything_in_it(tables: int, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        for number in range(tables):
            connection.execute(f"CREATE TABLE t{number} (a)")

        class Counting:
            breaks_constraints = False

            def fresh_view(self, connection: sqlite3.Connection) -> dict[str, Any]:
                return {"tables": connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]}

    # Without a table the file has no byte yet.
    (tmp_path / "a.db").touch()
    with faults.install():
        assert view_of(Counting(), tmp_path / "a.db", integrity=True) == {"tables": tables}


def test_a_view_may_do_what_a_statement_under_way_forbids(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with contextlib.closing(sqlite3.connect(tmp_path / f"{name}.db", isolation_level=None)) as connection:
            connection.execute("CREATE TABLE t (x)")

    class Attaching:
        def fresh_view(self, connection: sqlite3.Connection) -> dict[str, Any]:
            connection.execute("ATTACH ? AS other", (str(tmp_path / "b.db"),))
            found = connection.execute("SELECT count(*) FROM other.t").fetchone()[0]
            connection.execute("DETACH other")
            return {"rows": found}

    with faults.install():
        assert view_of(Attaching(), tmp_path / "a.db", integrity=False) == {"rows": 0}


def test_a_reader_that_keeps_the_log_sees_what_breaks_a_check_constraint(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    made = tmp_path / "made.db"
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE t (x CHECK (x > 0))")
        connection.execute("PRAGMA ignore_check_constraints = on")
        connection.execute("INSERT INTO t VALUES (-1)")
        for side in ("", "-wal"):
            Path(f"{database}{side}").write_bytes(Path(f"{made}{side}").read_bytes())
    log = Path(f"{database}-wal").read_bytes()

    class Plain:
        breaks_constraints = False

        def fresh_view(self, connection: sqlite3.Connection) -> dict[str, Any]:
            return dict(connection.execute("SELECT 'x', x FROM t"))

    with faults.install():
        assert view_of(Plain(), database, integrity=False) == {"x": -1}
        assert Path(f"{database}-wal").read_bytes() == log
        # A reader that is opened read-only would not look at CHECK constraints at all.
        with pytest.raises(Violation, match="CHECK constraint failed in t"):
            view_of(Plain(), database, integrity=True)


def test_what_is_damaged_is_not_read_a_second_time(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
    asked = []

    class Damaged:
        def fresh_view(self, connection: sqlite3.Connection) -> dict[str, Any]:
            asked.append(connection)
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

    with faults.install(), pytest.raises(sqlite3.DatabaseError, match="malformed"):
        view_of(Damaged(), tmp_path / "a.db", integrity=False)
    assert len(asked) == 1


@pytest.mark.parametrize("has_read", [False, True])
@pytest.mark.usefixtures("shim")
def test_a_reader_leaves_the_log_to_a_store_whose_connection_has_read_nothing_yet(
    tmp_path: Path, *, has_read: bool
) -> None:
    made = tmp_path / "made.db"
    home = tmp_path / "store"
    home.mkdir()
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE notes (key TEXT)")
        for end in ("", "-wal"):
            (home / f"store.db{end}").write_bytes(Path(f"{made}{end}").read_bytes())
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    with contextlib.closing(sqlite3.connect(home / "store.db", isolation_level=None)) as lazy:
        if has_read:
            lazy.execute("SELECT 1 FROM notes").fetchall()
        assert faults.has_log_open(home / "store.db") is has_read
        assert contents_of(home / "store.db") == [('"notes"', [])]
        assert {name: (home / name).read_bytes() for name in before} == before


class Lazy:
    """Opens its connection at once, and its tables with the first call or look."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.is_set_up = False

    def set_up(self) -> sqlite3.Connection:
        if not self.is_set_up:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value)")
            self.is_set_up = True
        return self.db

    def put(self, key: str, value: int) -> None:
        self.set_up().execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, value))

    def close(self) -> None:
        self.db.close()


class LazyTarget(SimpleTarget):
    calls = (Action("put", {"key": "a", "value": 1}), Action("put", {"key": "a", "value": 2}))
    beat = Action("put", {"key": "beat", "value": 0})

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Lazy:
        return Lazy(path)

    def view(self, store: Lazy) -> Any:
        return self.rows(store.set_up())

    def rows(self, connection: sqlite3.Connection) -> Any:
        return dict(connection.execute("SELECT key, value FROM notes"))


def test_recoveries_of_a_store_that_reads_late_are_searched_to_their_end() -> None:
    profile = Profile("test", None, None, 0, 0, crash_states=20)
    recorder = run(LazyTarget(), Plan(("crash",), profile, report=None))
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("states")
