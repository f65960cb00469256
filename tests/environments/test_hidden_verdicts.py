"""On a SQLite whose symbols are hidden, tornpage says what it says on the ordinary one, with the same counts.

Method: each command is run twice in a process of its own, with the ordinary ``_sqlite3`` and with the hidden one, which
have the same SQLite, and what they print as JSON is compared, but for times, the run's id and what is said of the
library. ``tox -e hidden`` runs this; elsewhere it would cost more than it shows.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.quality,
    pytest.mark.skipif(os.environ.get("TOX_ENV_NAME") != "hidden", reason="takes minutes: tox -e hidden runs it"),
]

# What is another in each run, whatever SQLite it runs on.
OF_ONE_RUN = {"started_at", "seconds", "run_id", "command", "trend"}
STORE = """
import sqlite3


class Store:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS t(x PRIMARY KEY)")
        self.seen = {x for (x,) in self.db.execute("SELECT x FROM t")}

    def add(self, x):
        if x not in self.seen:
            self.db.execute("INSERT INTO t VALUES(?)", (x,))
            self.seen.add(x)

    def close(self):
        self.db.close()


class MemoryFirst(Store):
    def add(self, x):
        if x not in self.seen:
            self.seen.add(x)
            self.db.execute("INSERT INTO t VALUES(?)", (x,))
"""
TESTS = """
import pytest
import store


@pytest.mark.parametrize("kind", [store.Store, store.MemoryFirst])
@pytest.mark.every_fault(retry=True)
def test_every_fault(kind, tmp_path):
    opened = kind(tmp_path / "a.db")
    opened.add(1)
    opened.close()
    opened = kind(tmp_path / "a.db")
    assert opened.seen == {1}
    opened.close()


@pytest.mark.with_faults("write:journal@1=FULL")
def test_one_fault(tmp_path):
    with pytest.raises(store.sqlite3.OperationalError, match="full"):
        store.Store(tmp_path / "a.db")


def work(directory):
    opened = store.Store(directory / "a.db")
    opened.add(1)
    opened.close()


def test_each_crash_state(crash_states, tmp_path):
    for disk in crash_states(work, tmp_path / "work"):
        store.Store(disk / "a.db").close()
"""


def run(hidden: Path | None, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m`` with the arguments, on the hidden SQLite or on the ordinary one."""
    directory.mkdir()
    for name, text in (("store.py", STORE), ("test_store.py", TESTS)):
        (directory / name).write_text(text)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHONPATH"))}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=directory, env={**environment, **({"PYTHONPATH": str(hidden)} if hidden else {})},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def comparable(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf of a record with its path, but for what is another in each run."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in OF_ONE_RUN:
                yield from comparable(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from comparable(inner, f"{path}[{number}]")
    else:
        yield path, value


def both(hidden: Path, directory: Path, *arguments: str) -> tuple[Any, Any]:
    """The record of the command on the ordinary SQLite, and on the hidden one; both must have ended alike."""
    ordinary, other = (
        run(build, directory / name, "tornpage", *arguments, "--json")
        for name, build in (("ordinary", None), ("hidden", hidden))
    )
    assert ordinary.returncode == other.returncode, other.stdout + other.stderr
    assert ordinary.stdout, ordinary.stderr
    return json.loads(ordinary.stdout), json.loads(other.stdout)


def without_libraries(record: dict[str, Any]) -> dict[str, Any]:
    return dict(comparable({key: value for key, value in record.items() if key != "libraries"}))


@pytest.mark.parametrize("search", ["sweep", "crash", "contend", "kill"])
def test_each_search_of_the_reference_counts_the_same(search: str, hidden_sqlite: Path, tmp_path: Path) -> None:
    ordinary, other = both(hidden_sqlite, tmp_path, search, "--configuration", "wal/FULL")
    assert without_libraries(other) == without_libraries(ordinary)
    assert other["verdict"] == "HOLDS"
    (named,), (hidden,) = ordinary["libraries"], other["libraries"]
    assert (named["way"], named["out_of_reach"]) == ("in place, functions by name", [])
    assert (hidden["way"], "failing the nth allocation" in hidden["out_of_reach"]) == ("in place", True)


def test_the_whole_check_of_the_reference_holds_and_nothing_is_vacuous(hidden_sqlite: Path, tmp_path: Path) -> None:
    """The gate shows that it holds on the ordinary SQLite."""
    checked = ("check", "--jobs", "2", "--configuration", "delete/FULL", "--json")
    done = run(hidden_sqlite, tmp_path / "hidden", "tornpage", *checked)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(done.stdout)
    assert (record["verdict"], record["vacuous"]) == ("HOLDS", [])
    assert {searched["search"] for searched in record["searches"]} >= {"sweep", "crash", "contend", "limits", "kill"}


def test_known_bugs_are_caught_by_the_same_check_after_as_much_work(hidden_sqlite: Path, tmp_path: Path) -> None:
    """One that a sweep finds, and one that a rival shows; more would cost more searches of the reference."""
    names = ("import-into-memory", "no-busy-timeout")
    ordinary, other = both(hidden_sqlite, tmp_path, "bugs", "--jobs", "2", *names)
    assert ordinary["reference"] == other["reference"] == []
    # A fuzz also fails single allocations, where they are in reach: there it tells other scenarios.
    rows = [
        [(row["build"], row["search"], row["check"], row["search"] == "fuzz" or row["work"]) for row in record["bugs"]]
        for record in (ordinary, other)
    ]
    assert rows[0] == rows[1]
    assert all(row["caught"] for row in ordinary["bugs"])


def test_the_markers_and_the_fixture_count_the_same(hidden_sqlite: Path, tmp_path: Path) -> None:
    ordinary, other = (
        run(build, tmp_path / name, "pytest", "-p", "no:cacheprovider", "-rA", "-q")
        for name, build in (("ordinary", None), ("hidden", hidden_sqlite))
    )
    assert ordinary.returncode == other.returncode == 1, other.stdout + other.stderr
    told = re.compile(r"(every_fault|with_faults|crash_states|PASSED|FAILED|\w+(:\w+)?@)")
    lines = [[line for line in done.stdout.splitlines() if told.match(line)] for done in (ordinary, other)]
    assert lines[0] == lines[1]
    assert len(lines[0]) > 3
    assert any("MemoryFirst" in line for line in lines[0])
