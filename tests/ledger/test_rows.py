"""Rows that are decoded together become the same records, and the same quarantine, as rows decoded one by one."""

import contextlib
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornpage.ledger.disk.rows import DELIVERIES, TASKS, Quarantined, Table, Unreadable, chunks
from tornpage.ledger.outbox.messages import MESSAGES
from tornpage.ledger.records import DeliveryState, DeliveryStatus, NotifyPolicy, Runtime, ScopeKind, Status, Task
from tornpage.ledger.runs import RUNS, SESSIONS

TASK = Task("t", Runtime.CLI, "r", "o", ScopeKind.SESSION, "work", Status.RUNNING, DeliveryStatus.PENDING,
            NotifyPolicy.SILENT, 5, started_at=3)  # fmt: skip
SAMPLES = {
    TASKS: tuple(str(cell) if isinstance(cell, str) else cell for cell in TASKS.encode(TASK)),
    DELIVERIES: ("t", '{"to": [1, null]}', 7),
    RUNS: ("r", "t", "w", "running", 5, "repo", 1, *[None] * 6, 0.5, 1, 2, 3, "[1]", None),
    SESSIONS: ("s", "r", 1, None, None),
    MESSAGES: ("m", None, "c", None, "t", None, "{}", 5, "queued", 0, *[None] * 9),
}
CELLS = st.one_of(
    st.none(),
    st.integers(-2, 10),
    st.just(2**63 - 1),
    st.floats(allow_nan=False),
    st.just(2.0),
    st.sampled_from(["", "queued", "cli", "no such value", "{}", "[1", "null", '"\ud7ff"', "[" * 2_000]),
    st.sampled_from([b"", b"\xff", b"{}", b"cli"]),
)


def one_by_one(table, rows):
    records, quarantined = [], []
    for row in rows:
        try:
            records.append(table.decode(row))
        except Unreadable as error:
            quarantined.append(Quarantined(table.name, str(row[table.key_index]), str(error.__cause__)))
    return records, quarantined


def exactly(records):
    return [(type(record), [(type(cell), cell) for cell in map(record.__getattribute__, record.__struct_fields__)])
            for record in records]  # fmt: skip


@pytest.mark.parametrize("table", SAMPLES, ids=lambda table: table.name)
def test_a_sample_is_a_readable_row_of_its_table(table):
    row = SAMPLES[table]
    assert len(row) == len(table.columns)
    assert one_by_one(table, [row])[1] == []


@pytest.mark.parametrize("table", SAMPLES, ids=lambda table: table.name)
@settings(deadline=None)
@given(data=st.data())
def test_rows_decoded_together_are_what_they_are_one_by_one(table, data):
    damages = st.dictionaries(st.integers(0, len(table.columns) - 1), CELLS, max_size=2)
    rows = []
    for damage in data.draw(st.lists(damages, max_size=4)):
        cells = list(SAMPLES[table])
        for place, cell in damage.items():
            cells[place] = cell
        rows.append(tuple(cells))
    together, bad_together = table.decode_all(rows)
    apart, bad_apart = one_by_one(table, rows)
    assert exactly(together) == exactly(apart)
    assert bad_together == bad_apart
    assert (together, bad_together) == table.decode_chunks([rows[:1], [], rows[1:]])


@pytest.mark.parametrize("table", SAMPLES, ids=lambda table: table.name)
def test_readable_rows_are_never_decoded_one_by_one(table, monkeypatch):
    monkeypatch.setattr(table, "decode", lambda row: pytest.fail(f"decoded by itself: {row}"))
    records, quarantined = table.decode_all([SAMPLES[table]] * 600)
    assert (len(records), len(quarantined)) == (600, 0)


def test_times_are_put_in_order_however_many_rows_are_decoded():
    assert TASK.created_at > TASK.started_at
    for count in (1, 600):
        records, _ = TASKS.decode_all([SAMPLES[TASKS]] * count)
        assert [(record.created_at, record.started_at) for record in records] == [(3, 3)] * count


def test_one_unreadable_row_among_many_costs_no_other():
    rows = [(f"t{number}", "{" if number == 300 else "{}", None) for number in range(1_000)]
    records, quarantined = DELIVERIES.decode_all(rows)
    assert [record.task_id for record in records] == [f"t{number}" for number in range(1_000) if number != 300]
    assert [one.key for one in quarantined] == ["t300"]
    assert records[0] == DeliveryState("t0", {})


@pytest.mark.parametrize("bad", [0, 255, 256, 999])
def test_a_text_that_is_no_utf8_comes_as_bytes_and_every_row_comes_once(bad):
    table = Table("things", ("id", "text"), "id")
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE things (insertion INTEGER PRIMARY KEY, id TEXT, text TEXT)")
        for number in range(1_000):
            text = b"\xff" if number == bad else b"x"
            connection.execute("INSERT INTO things (id, text) VALUES (?, CAST(? AS TEXT))", (str(number), text))
        rows = [row for some in chunks(connection, table.select_all) for row in some]
        assert rows == [(str(number), b"\xff" if number == bad else "x") for number in range(1_000)]
        assert connection.text_factory is str


def test_a_read_that_fails_on_the_way_is_raised_though_another_would_succeed():
    class Result:
        def __init__(self, rows, error):
            self.rows, self.error = rows, error

        def __iter__(self):
            yield from self.rows
            raise self.error

        def fetchall(self):
            return self.rows

    class Connection:
        text_factory = str

        def execute(self, _statement, _parameters=()):
            return Result([("t", None, None)] * 300, sqlite3.OperationalError("disk I/O error"))

    several = chunks(Connection(), DELIVERIES.select_all)
    assert len(next(several)) == 256
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        next(several)
