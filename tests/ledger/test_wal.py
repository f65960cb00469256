"""What a write-ahead log says of the schema version, with SQLite's own recovery as the judge."""

import random
import shutil
import sqlite3
from array import array

import pytest

from tornpage.ledger.disk.wal import user_version


def logged(place, page_size, statements):
    """A database directory whose statements after the first lie only in the WAL."""
    source = place / "source"
    source.mkdir()
    connection = sqlite3.connect(source / "one.db", isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = 4")
    connection.execute("CREATE TABLE filling (content)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for statement in statements:
        connection.execute(statement)
    copied = place / "copied"
    shutil.copytree(source, copied, ignore=shutil.ignore_patterns("*-shm"))
    connection.close()
    return copied / "one.db"


def told_by_sqlite(path, place):
    """The version that SQLite finds, on a copy since asking it writes."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(path.parent, place)
    connection = sqlite3.connect(place / path.name)
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def wal_of(path):
    return path.with_name(path.name + "-wal")


FILL = "INSERT INTO filling VALUES (randomblob(3000))"
STATEMENTS = (
    FILL,
    "PRAGMA user_version = 3",
    FILL,
    "BEGIN",
    "PRAGMA user_version = 9",
    *[FILL] * 12,
    "ROLLBACK",
    "BEGIN",
    *[FILL] * 12,
    "PRAGMA user_version = 5",
    "COMMIT",
    FILL,
    "PRAGMA user_version = 4",
    FILL,
    # Left open: the cache is small, so its first frames are in the log without a commit.
    "BEGIN",
    "PRAGMA user_version = 12",
    *[FILL] * 12,
)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_the_version_is_the_one_that_sqlite_recovers(tmp_path, page_size, damage):
    # A row fills two small pages: more of them are more of the same places.
    size = min(3000, page_size)
    path = logged(tmp_path, page_size, [one.replace("3000", str(size)) for one in STATEMENTS])
    wal = wal_of(path)
    content = wal.read_bytes()
    chance = random.Random(page_size)  # noqa: S311 - the same places for the same page size.
    frames = range(32, len(content) + 1, page_size + 24)
    seen = set()
    for at in sorted({*frames, *(chance.randrange(len(content)) for _ in range(12)), len(content)}):
        torn = bytearray(content)
        if damage == "cut":
            del torn[at:]
        elif at < len(torn):
            torn[at] ^= 0x10
        wal.write_bytes(torn)
        expected = told_by_sqlite(path, tmp_path / "asked")
        seen.add(expected)
        for newest in range(6):
            assert user_version(wal, newest) == (expected if expected > newest else None), (at, newest)
    assert {0, 3, 4} <= seen


def test_frames_of_an_earlier_generation_do_not_count(tmp_path):
    restart = "PRAGMA wal_checkpoint(RESTART)"
    path = logged(tmp_path, 4096, [FILL, FILL, "PRAGMA user_version = 8", restart, "PRAGMA user_version = 2"])
    assert wal_of(path).stat().st_size > 32 + 2 * (4096 + 24)
    assert told_by_sqlite(path, tmp_path / "asked") == 2
    assert user_version(wal_of(path), 1) == 2
    # The old frames are still there, behind the new one.
    assert user_version(wal_of(path), 2) is None


@pytest.mark.parametrize("at", range(0, 32, 3))
def test_a_log_with_a_broken_header_counts_as_empty(tmp_path, at):
    path = logged(tmp_path, 4096, ["PRAGMA user_version = 8"])
    content = bytearray(wal_of(path).read_bytes())
    content[at] ^= 0x01
    wal_of(path).write_bytes(content)
    assert told_by_sqlite(path, tmp_path / "asked") == 0
    assert user_version(wal_of(path), 0) is None


def swapped(content, page_size):
    """The same log with checksums of the other byte order, which the magic number announces."""
    swapped_log = bytearray(content)
    swapped_log[3] ^= 1

    def summed(part, sums):
        words = array("I", part)
        words.byteswap()
        first, second = sums
        for one, two in zip(words[::2], words[1::2], strict=True):
            first = (first + one + second) % 2**32
            second = (second + two + first) % 2**32
        return first, second

    def put(at, sums):
        swapped_log[at : at + 8] = b"".join(one.to_bytes(4, "big") for one in sums)

    sums = summed(swapped_log[:24], (0, 0))
    put(24, sums)
    for at in range(32, len(content), page_size + 24):
        sums = summed(swapped_log[at : at + 8] + swapped_log[at + 24 : at + 24 + page_size], sums)
        put(at + 16, sums)
    return bytes(swapped_log)


def test_a_log_of_the_other_byte_order_is_read_too(tmp_path):
    path = logged(tmp_path, 512, STATEMENTS)
    content = wal_of(path).read_bytes()
    wal_of(path).write_bytes(swapped(content, 512))
    assert told_by_sqlite(path, tmp_path / "asked") == 4
    assert user_version(wal_of(path), 3) == 4


def test_where_there_is_no_log_there_is_no_version(tmp_path):
    assert user_version(tmp_path / "none-wal", 0) is None
