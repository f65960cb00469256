"""With a budget each name of a call is in a schedule of two callers, as far as there are states for it."""

import sqlite3
from pathlib import Path
from random import Random
from typing import Any

from tornpage import Action, Configuration, Environment, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.interleave.states import States
from tornpage.scenarios.targets.reference.environment import far_from_utc

NAMES = "abcdefgh"


class Shelf:
    """One of several, by its name; what is put into the last one is in none of the others'."""

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self.db, self.name = db, name

    def put(self, key: str) -> None:
        row = f"{self.name}/{key}" if self.name == NAMES[-1] else key
        self.db.execute("INSERT OR REPLACE INTO box VALUES (?, ?)", (row, self.name))


class Store:
    """Shelves."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL").fetchall()
        self.db.execute("CREATE TABLE IF NOT EXISTS box (key TEXT PRIMARY KEY, name)")
        for name in NAMES:
            setattr(self, name, Shelf(self.db, name))

    def close(self) -> None:
        self.db.close()


class StoreTarget(SimpleTarget):
    title = "shelves"
    configurations = tuple(Configuration("wal", level) for level in ("FULL", "NORMAL"))
    callers = ("threads",)
    calls = tuple(Action(f"{name}.put", {"key": key}) for key in "123" for name in NAMES)
    beat = Action("a.put", {"key": "heartbeat"})

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Store:
        return Store(path)

    def view(self, store: Store) -> dict[str, Any]:
        return self.rows(store.db)

    def rows(self, connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(connection.execute("SELECT key, name FROM box").fetchall())


def test_the_states_of_each_turn_are_before_calls_of_other_names(tmp_path: Path) -> None:
    target = StoreTarget()
    states = States(target, tmp_path, set(), most_schedules=4 * 24)
    for seed in range(5):
        turns = [states.chosen(Random(f"{seed} {turn}"), Random(seed), turn)[0] for turn in range(3)]  # noqa: S311
        assert [len(turn) for turn in turns] == [4, 4, 4]
        assert 0 in turns[0]
        assert {target.calls[step].name for turn in turns for step in turn} == {f"{name}.put" for name in NAMES}


def test_the_next_call_of_each_state_is_in_a_schedule() -> None:
    plan = Plan(("interleave",), Profile("test", 1, None, 0, 0, schedules=4 * 24), report=None, preemptions=1)
    recorder = campaign.run(StoreTarget(), plan)
    assert not recorder.findings
    assert not [note for ended in recorder.ended for note in ended.notes if "not made by two callers" in note]


def test_two_callers_leave_the_reference_s_time_zone_in_any_order(monkeypatch: Any) -> None:
    monkeypatch.setenv("TZ", "UTC")
    one, other = far_from_utc(), far_from_utc()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    with monkeypatch.context() as inner:
        inner.delenv("TZ")
        with far_from_utc():
            pass
