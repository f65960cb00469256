"""Crash states: which directories a crash can leave by the model, and what SQLite makes of them.

The measured rules of ``docs/sqlite-under-faults.md`` are shown here on a bare workload of twenty transactions.
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tornpage import faults
from tornpage.faults import Crash, CrashStates, Device, Operation, State
from tornpage.faults.crash.states import MOST_SINGLES

TRANSACTIONS = 20


def write(path: str, offset: int, data: bytes) -> Operation:
    return Operation("write", path, offset, data)


def left(operations: Sequence[Operation], base: dict[str, bytes] | None = None, device: Device | None = None) -> list:
    states = CrashStates(base or {}, operations, device)
    return [dict(state.files) for state in states.power(len(operations))]


# -- the model ---------------------------------------------------------------------------------------------


def test_the_death_of_the_process_loses_nothing() -> None:
    operations = [Operation("create", "a"), write("a", 0, b"one"), write("a", 5, b"two"), Operation("delete", "b")]
    states = CrashStates({"b": b"b"}, operations)
    assert dict(states.process(1).files) == {"a": b"", "b": b"b"}
    assert dict(states.process(4).files) == {"a": b"one\0\0two"}


def test_each_unsynced_write_is_kept_or_lost_on_its_own() -> None:
    found = left([write("a", 0, b"1"), write("a", 1, b"2"), write("a", 2, b"3")], {"a": b"..."})
    assert {files["a"] for files in found} >= {b"...", b"1..", b".23", b"1.3", b"12.", b"123"}


def test_a_sync_makes_a_files_content_durable_and_no_other() -> None:
    operations = [write("a", 0, b"1"), write("b", 0, b"2"), Operation("sync", "a")]
    assert left(operations, {"a": b".", "b": b"."}) == [{"a": b"1", "b": b"2"}, {"a": b"1", "b": b"."}]


def test_a_write_beyond_the_end_that_is_kept_alone_leaves_a_hole_of_zeros() -> None:
    found = left([write("a", 0, b"12"), write("a", 2, b"34")], {"a": b""})
    assert b"\0\x0034" in {files["a"] for files in found}


def test_an_unsynced_truncate_may_not_have_happened() -> None:
    found = left([Operation("truncate", "a", size=2), write("a", 0, b"x")], {"a": b"12345"})
    assert {files["a"] for files in found} == {b"12345", b"12", b"x2345", b"x2"}


def test_a_database_is_not_truncated_where_the_deletion_of_its_journal_before_that_is_lost() -> None:
    base = {"a": b"12345", "a-journal": b"j", "b": b"12345"}
    changes = [Operation("delete", "a-journal"), Operation("truncate", "a", size=2), Operation("truncate", "b", size=2)]
    found = [(len(files["a"]), "a-journal" in files, len(files["b"])) for files in left(changes, base)]
    assert set(found) == {(a, j, b) for a in (5, 2) for j in (True, False) for b in (5, 2) if (a, j) != (2, True)}
    # Before the deletion, and of another file, nothing is ordered.
    other = left([Operation("truncate", "a", size=2), Operation("delete", "a-journal")], base)
    assert any(len(files["a"]) == 2 and "a-journal" in files for files in other)


def test_no_crash_after_a_vacuum_damages_a_database_with_a_rollback_journal(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with faults.install(), faults.record(store) as tape:
        with contextlib.closing(sqlite3.connect(store / "a.db", isolation_level=None)) as db:
            db.execute("CREATE TABLE t (k PRIMARY KEY, v)")
            db.execute("INSERT INTO t VALUES (1, ?), (2, ?)", ("x" * 6000, "x" * 6000))
            db.execute("DELETE FROM t")
            db.execute("VACUUM")
        states, end = CrashStates({}, tape.operations), len(tape.operations)
        truncated = [index for index, one in enumerate(tape.operations, 1) if one.kind == "truncate"]
        assert truncated
        for position in range(truncated[-1] - 2, end + 1):
            for state in states.power(position):
                assert integrity(state, tmp_path / "crashed") == "ok", state.crash


def integrity(state: State, directory: Path) -> str:
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for name, content in state.files.items():
        (directory / name).write_bytes(content)
    with contextlib.closing(sqlite3.connect(directory / "a.db")) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])


def test_a_new_name_is_durable_only_after_its_directory_is_synced() -> None:
    create = [Operation("create", "a"), write("a", 0, b"1"), Operation("sync", "a")]
    assert {} in left(create), "the content is on disk, and no name leads to it"
    assert left([*create, Operation("syncdir", "")]) == [{"a": b"1"}]
    assert {} in left([Operation("create", "below/a"), Operation("syncdir", "")]), "another directory's sync"


def test_an_unsynced_delete_may_bring_the_file_back_with_what_was_durable_of_it() -> None:
    operations = [write("a", 0, b"new"), Operation("delete", "a")]
    assert {files.get("a") for files in left(operations, {"a": b"old"})} == {None, b"old", b"new"}
    assert left([*operations, Operation("syncdir", "")], {"a": b"old"}) == [{}]


def test_a_rename_is_done_or_not_and_the_replaced_file_comes_back() -> None:
    operations = [Operation("rename", "new", other="old")]
    base = {"new": b"n", "old": b"o"}
    assert left(operations, base) == [{"old": b"n"}, base]
    assert left([*operations, Operation("syncdir", "")], base) == [{"old": b"n"}]


@pytest.mark.parametrize("kind", ["rename", "link"])
def test_a_name_in_another_directory_is_durable_after_the_sync_of_that_one_and_no_other(kind: str) -> None:
    operations = [Operation(kind, "tmp/a", other="new/a")]
    base = {"tmp/a": b"a", "new/b": b"b"}
    assert any("new/a" not in files for files in left([*operations, Operation("syncdir", "tmp")], base))
    assert all("new/a" in files for files in left([*operations, Operation("syncdir", "new")], base))


def test_a_name_that_is_used_again_after_a_rename_does_not_remove_the_renamed_file() -> None:
    again = [
        Operation("create", "log"),
        write("log", 0, b"new"),
        Operation("rename", "log", other="log.2"),
        Operation("create", "log"),
        Operation("delete", "log"),
    ]
    found = left([Operation("rename", "log", other="log.1"), *again], {"log": b"old"})
    assert all(b"old" in files.values() for files in found)
    assert {"log": b"old"} in found
    assert {"log.1": b"old", "log.2": b"new", "log": b""} in found
    # A copy is not moved: it may be lost, and the name used again all the same.
    assert {"log": b"new"} in left([Operation("link", "log", other="log.1"), Operation("delete", "log"), *again[:2]])


def test_a_name_that_was_used_again_leads_to_the_old_file_or_to_the_new_one() -> None:
    operations = [Operation("delete", "a"), Operation("create", "a"), write("a", 0, b"new")]
    assert {files.get("a") for files in left(operations, {"a": b"old"})} == {None, b"old", b"", b"new", b"\0\0\0"}


def test_what_was_done_to_a_file_before_its_rename_is_lost_with_the_content_and_not_with_the_name() -> None:
    operations = [
        Operation("create", "new"),
        write("new", 0, b"n"),
        Operation("rename", "new", other="a"),
        Operation("syncdir", ""),
    ]
    assert {files["a"] for files in left(operations, {"a": b"o"})} == {b"", b"n", b"\0"}


def test_a_write_tears_at_sectors_of_the_disk_and_not_of_the_write() -> None:
    assert Device(sector_bytes=4).tears(write("a", 2, b"0123456789")) == [2, 6]
    assert Device(sector_bytes=512).tears(write("a", 0, bytes(1536))) == [512, 1024]
    assert Device(sector_bytes=512).tears(write("a", 0, bytes(512))) == []
    found = {files["a"] for files in left([write("a", 2, b"0123456789")], {"a": b""}, Device(sector_bytes=4))}
    longer = {b"\0\x0001" + bytes(8), b"\0\x00012345" + bytes(4), bytes(12)}
    assert found == {b"", b"\0\x0001", b"\0\x00012345", b"\0\x000123456789", *longer}


def test_of_a_long_write_the_first_and_the_last_tear_are_tried() -> None:
    tears = Device(sector_bytes=1).tears(write("a", 0, bytes(4096)))
    assert len(tears) == 8
    assert (tears[0], tears[-1]) == (1, 4095)


def test_an_aligned_atomic_write_does_not_tear_and_others_do() -> None:
    device = Device(sector_bytes=512, atomic_write_bytes=4096)
    assert device.tears(write("a", 8192, bytes(4096))) == []
    assert device.tears(write("a", 8192 + 512, bytes(4096))) != []
    assert device.tears(write("a", 0, bytes(8192))) != []


def test_powersafe_overwrite_leaves_the_rest_of_a_torn_sector_alone() -> None:
    operations, base = [write("a", 0, b"x" * 6)], {"a": b"." * 12}
    torn = Crash(1, torn=(0, 4))
    safe = CrashStates(base, operations, Device(sector_bytes=4))
    assert safe.at(torn).files["a"] == b"xxxx" + b"." * 8
    unsafe = CrashStates(base, operations, Device(sector_bytes=4, powersafe_overwrite=False))
    assert unsafe.at(torn).files["a"] == b"xxxx" + b"\xa5" * 4 + b"." * 4


def test_without_powersafe_overwrite_a_write_inside_one_sector_may_spoil_all_of_it() -> None:
    device = Device(sector_bytes=4, powersafe_overwrite=False)
    found = {files["a"] for files in left([write("a", 5, b"x")], {"a": b"." * 12}, device)}
    assert found == {b"." * 12, b".....x......", b"...." + b"\xa5" * 4 + b"...."}


@pytest.mark.parametrize("device", [{"sector_bytes": 0}, {"atomic_write_bytes": -1}])
def test_a_device_without_sectors_is_refused(device: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sectors of at least one byte"):
        Device(**device)


def test_a_crash_that_cannot_have_happened_is_refused() -> None:
    operations = [write("a", 0, bytes(1024)), Operation("sync", "a"), write("a", 0, bytes(1024))]
    states = CrashStates({"a": b""}, operations)
    for crash, reason in {
        Crash(4): "no position 4",
        Crash(-1): "no position -1",
        Crash(3, (0,)): "not unsynced there: 1",
        Crash(2, (2,)): "not unsynced there: 3",
        Crash(3, (1,)): "not unsynced there: 2",
        Crash(3, torn=(0, 512)): "no write that can be torn",
        Crash(3, torn=(1, 512)): "no write that can be torn",
        Crash(3, (2,), (2, 512)): "no write that can be torn",
        Crash(3, torn=(2, 1024)): "none and all are no tear",
        Crash(3, torn=(2, 0)): "none and all are no tear",
    }.items():
        with pytest.raises(ValueError, match=reason):
            states.at(crash)


def test_a_crash_that_is_enumerated_can_be_asked_for_again_at_any_time(tmp_path: Path) -> None:
    operations = recorded(tmp_path, "delete", "FULL")[0].operations[:120]
    states = CrashStates({}, operations)
    known = {position: [(state.crash, state.identity) for state in states.power(position)] for position in range(121)}
    for position in reversed(range(0, 121, 7)):
        for crash, identity in known[position]:
            assert states.at(crash).identity == identity


def test_equal_directories_are_one_state_and_have_equal_names(tmp_path: Path) -> None:
    tape = recorded(tmp_path, "wal", "FULL")[0]
    states = CrashStates({}, tape.operations)
    by_identity: dict[object, dict[str, bytes]] = {}
    crashes = 0
    for position in range(len(tape) + 1):
        here = list(states.power(position))
        crashes += len(list(states.crashes(position)))
        assert len({state.identity for state in here}) == len(here)
        for state in here:
            assert by_identity.setdefault(state.identity, dict(state.files)) == state.files
    contents = {tuple(sorted(files.items())) for files in by_identity.values()}
    assert len(contents) == len(by_identity) < crashes * 2 / 3


def test_the_shared_memory_file_is_no_part_of_a_state() -> None:
    assert left([], {"a.db": b"", "a.db-shm": b"x"}) == [{"a.db": b""}]


def test_where_very_much_is_unsynced_a_sample_is_taken_and_the_ends_are_in_it() -> None:
    operations = [write("a", number, b"x") for number in range(2000)]
    crashes = list(CrashStates({"a": b""}, operations).crashes(2000))
    singles = [crash.lost[0] for crash in crashes if len(crash.lost) == 1]
    assert crashes[:2] == [Crash(2000), Crash(2000, tuple(range(2000)))]
    assert len(set(singles)) == MOST_SINGLES
    assert set(range(2000 - MOST_SINGLES // 2, 2000)) <= set(singles)
    assert min(singles) < 1000


def test_a_crash_says_what_it_is() -> None:
    assert str(Crash(3, power=False)) == "the process dies after operation 3"
    assert str(Crash(9, (0, 3, 4, 5))) == "the power fails after operation 9, losing 1, 4-6"
    assert str(Crash(9, (), (8, 512))) == "the power fails after operation 9, losing nothing, with 512 bytes of 9"


# -- the same seed, the same states ------------------------------------------------------------------------

IDENTITIES = """
    import hashlib, sqlite3, sys
    from pathlib import Path
    from tornpage import faults
    home = Path(sys.argv[1])
    home.mkdir()
    with faults.install() as shim, shim.deterministic(int(sys.argv[2])), faults.record(home) as tape:
        connection = sqlite3.connect(home / "a.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=" + sys.argv[3])
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE t(a, b)")
        for number in range(4):
            connection.execute("INSERT INTO t VALUES(?, randomblob(900))", (number,))
        connection.close()
    digest = hashlib.sha256()
    states = faults.CrashStates({}, tape.operations, seed=int(sys.argv[2]))
    for position in range(len(tape) + 1):
        for state in states.power(position):
            digest.update(repr((state.crash, state.identity)).encode())
    print(digest.hexdigest())
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_same_seed_gives_the_same_states_in_two_processes(
    child: Callable[..., "object"], tmp_path: Path, mode: str
) -> None:
    def digest(name: str, seed: int) -> str:
        done = child(IDENTITIES, tmp_path / name, seed, mode)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    assert digest("one", 3) == digest("two", 3) != digest("three", 4)


# -- what SQLite makes of them -----------------------------------------------------------------------------


def test_to_record_without_the_shim_is_refused(tmp_path: Path) -> None:
    with pytest.raises(faults.NotInstalledError, match=r"faults\.install"), faults.record(tmp_path):
        pass


def recorded(
    directory: Path,
    mode: str,
    synchronous: str,
    *,
    count: int = TRANSACTIONS,
    page_bytes: int = 4096,
    powersafe_overwrite: int = 1,
) -> tuple[faults.Tape, list[int]]:
    """The tape of so many transactions, and the position at which each was acknowledged: the table's creation first."""
    home = directory / "store"
    home.mkdir()
    acknowledged = []
    with faults.install() as shim, shim.deterministic(), faults.record(home) as tape:
        name = f"file:{home}/a.db?psow={powersafe_overwrite}"
        with contextlib.closing(sqlite3.connect(name, uri=True, isolation_level=None)) as connection:
            for pragma in (
                f"page_size={page_bytes}",
                f"journal_mode={mode}",
                f"synchronous={synchronous}",
                "wal_autocheckpoint=12",
            ):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
            acknowledged.append(len(tape))
            for number in range(count):
                connection.execute("INSERT INTO t VALUES(?, ?)", (number, "x" * 200))
                acknowledged.append(len(tape))
    return tape, acknowledged


class Seen:
    """What was seen in the states of a tape: transactions lost or ahead (-1: the pending one), and damage."""

    def __init__(self) -> None:
        self.power: Counter[int] = Counter()
        self.process: Counter[int] = Counter()
        self.damage: Counter[str] = Counter()


def states_of(tape: faults.Tape, device: Device | None) -> Iterator[State]:
    states = CrashStates({}, tape.operations, device)
    for position in range(len(tape) + 1):
        yield states.process(position)
        yield from states.power(position)


def seen(directory: Path, mode: str, synchronous: str, device: Device | None = None, **sizes: int) -> Seen:
    tape, acknowledged = recorded(directory, mode, synchronous, **sizes)
    found, known, home = Seen(), {}, directory / "crashed"
    home.mkdir()
    for state in states_of(tape, device):
        if state.identity not in known:
            known[state.identity] = read(home, state)
        count = known[state.identity]
        if isinstance(count, str):
            found.damage[count] += 1
            continue
        told = sum(position <= state.crash.position for position in acknowledged) - 1
        (found.power if state.crash.power else found.process)[told - count] += 1
    return found


def read(home: Path, state: State) -> int | str:
    """How many rows there are, -1 where there is no table; or what is wrong. Rows have to be the first so many."""
    for old in home.iterdir():
        old.unlink()
    for name, content in state.files.items():
        (home / name).write_bytes(content)
    with contextlib.closing(sqlite3.connect(home / "a.db")) as connection:
        try:
            problem = connection.execute("PRAGMA integrity_check").fetchone()[0]
            if problem != "ok":
                return str(problem)
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
                return -1
            keys = [key for (key,) in connection.execute("SELECT a FROM t ORDER BY a")]
        except sqlite3.DatabaseError as error:
            return str(error)
    return len(keys) if keys == list(range(len(keys))) else f"not a prefix: {keys}"


@pytest.mark.parametrize(
    ("mode", "synchronous"),
    [
        ("wal", "FULL"),
        ("wal", "EXTRA"),
        ("delete", "EXTRA"),
        ("truncate", "FULL"),
        ("persist", "FULL"),
    ],
)
def test_where_everything_acknowledged_is_promised_it_is_there(tmp_path: Path, mode: str, synchronous: str) -> None:
    found = seen(tmp_path, mode, synchronous)
    assert not found.damage
    assert set(found.power) == {0, -1}, "all that was acknowledged, or that and the pending one"
    assert set(found.process) <= {0, -1}


def test_at_delete_and_full_exactly_the_last_one_can_be_lost(tmp_path: Path) -> None:
    found = seen(tmp_path, "delete", "FULL")
    assert not found.damage
    assert set(found.power) == {0, 1}
    assert set(found.process) == {0}


def test_the_last_one_that_is_lost_at_delete_and_full_may_be_a_create_table(tmp_path: Path) -> None:
    """Shown on SQLite alone: a hard link keeps the journal, as a lost deletion does."""
    path, journal, kept = (tmp_path / name for name in ("a.db", "a.db-journal", "kept"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE earlier(x)")
        db.execute("BEGIN")
        db.execute("CREATE TABLE last(x)")
        kept.hardlink_to(journal)
        db.execute("COMMIT")
        assert not journal.exists()
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("earlier",), ("last",)]
    kept.rename(journal)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("earlier",)]
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_at_wal_and_normal_what_is_there_is_a_prefix_and_many_may_be_lost(tmp_path: Path) -> None:
    found = seen(tmp_path, "wal", "NORMAL")
    assert not found.damage
    assert max(found.power) >= 8
    assert set(found.process) == {0, -1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "synchronous"), [("delete", "NORMAL"), ("truncate", "NORMAL"), ("delete", "OFF"), ("wal", "OFF")]
)
def test_where_nothing_is_promised_a_power_cut_may_damage_the_file_and_a_dead_process_does_not(
    tmp_path: Path, mode: str, synchronous: str
) -> None:
    found = seen(tmp_path, mode, synchronous)
    assert found.damage
    assert set(found.process) <= {0, -1}


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("sector_bytes", [1, 64, 4096])
def test_where_a_write_tears_makes_no_difference(tmp_path: Path, mode: str, sector_bytes: int) -> None:
    found = seen(tmp_path, mode, "EXTRA", Device(sector_bytes), count=8)
    assert not found.damage
    assert set(found.power) == {0, -1}


UNSAFE = Device(sector_bytes=4096, powersafe_overwrite=False)


def test_a_disk_that_spoils_whole_sectors_takes_acknowledged_transactions_from_a_wal(tmp_path: Path) -> None:
    found = seen(tmp_path, "wal", "FULL", UNSAFE)
    assert max(found.power) > 0
    assert set(found.process) == {0, -1}


def test_a_disk_that_spoils_whole_sectors_damages_pages_that_are_smaller(tmp_path: Path) -> None:
    found = seen(tmp_path, "delete", "EXTRA", UNSAFE, page_bytes=1024)
    assert found.damage
    assert set(found.process) == {0, -1}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "synchronous"), [("wal", "FULL"), ("delete", "EXTRA")])
@pytest.mark.parametrize("page_bytes", [1024, 4096])
def test_sqlite_is_safe_on_such_a_disk_once_it_is_told_of_it(
    tmp_path: Path, mode: str, synchronous: str, page_bytes: int
) -> None:
    found = seen(tmp_path, mode, synchronous, UNSAFE, page_bytes=page_bytes, powersafe_overwrite=0)
    assert not found.damage
    assert set(found.power) == {0, -1}


def test_a_disk_with_powersafe_overwrite_and_large_sectors_is_what_sqlite_assumes(tmp_path: Path) -> None:
    found = seen(tmp_path, "delete", "EXTRA", Device(sector_bytes=4096), page_bytes=1024)
    assert not found.damage
    assert set(found.power) == {0, -1}
