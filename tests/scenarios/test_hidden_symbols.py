"""On a SQLite that shows none of its functions every search says the same as on the ordinary one, with the same counts.

What needs a function by name (failing single allocations, limiting the heap) is named, and makes nothing inconclusive.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults

pytestmark = pytest.mark.slow

_HERE = Path(__file__).parent


def _ran(home: Path, search: str, target: str, *first_on_path: Path) -> dict[str, Any]:
    path = os.pathsep.join(map(str, (*first_on_path, _HERE, Path(faults.__file__).parents[2])))
    command = [search, "--target", f"library_stores:{target}", "--configuration", "wal/FULL", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "from tornpage.scenarios.cli import main; main()", *command],
        cwd=home, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def _said(record: dict[str, Any]) -> tuple[Any, ...]:
    counts = [one["counts"] for one in record["searches"]]
    codes = sorted(one["check"] for one in record["findings"])
    points = [(one["kind"], one["role"], one["tried"], one["fired"]) for one in record["fault_points"]]
    return record["verdict"], counts, codes, points


@pytest.mark.parametrize(
    ("search", "target"),
    [("sweep", "MemoryFirstHere"), ("contend", "SoundHere"), ("crash", "SoundHere"), ("kill", "SoundHere")],
)
def test_a_search_says_the_same_with_hidden_symbols(
    search: str, target: str, hidden_sqlite: Path, tmp_path: Path
) -> None:
    ordinary = _ran(tmp_path, search, target)
    hidden = _ran(tmp_path, search, target, hidden_sqlite)
    assert _said(hidden) == _said(ordinary)
    assert ordinary["libraries"][0]["out_of_reach"] == []
    assert hidden["libraries"][0]["out_of_reach"] == ["failing the nth allocation", "seeding its random generator anew"]


def test_limits_that_need_a_function_by_name_are_named_and_not_missed(hidden_sqlite: Path, tmp_path: Path) -> None:
    record = _ran(tmp_path, "limits", "StatementsHere", hidden_sqlite)
    assert record["verdict"] == "HOLDS"
    assert {one["kind"] for one in record["fault_points"]} == {"pages", "steps"}
    (search,) = record["searches"]
    notes = " ".join(search["notes"])
    assert "allocation: out of reach" in notes
    assert "heap: out of reach" in notes


def test_a_marked_test_says_the_same_with_hidden_symbols(hidden_sqlite: Path, tmp_path: Path) -> None:
    (tmp_path / "test_store.py").write_text(
        "import pytest, sqlite3\n"
        "@pytest.mark.every_fault(retry=True)\n"
        "def test_store(tmp_path):\n"
        "    db = sqlite3.connect(tmp_path / 'a.db', isolation_level=None)\n"
        "    db.execute('PRAGMA journal_mode=wal')\n"
        "    db.execute('CREATE TABLE IF NOT EXISTS t (x)')\n"
        "    db.close()\n"
    )
    lines = []
    for first in ((), (hidden_sqlite,)):
        path = os.pathsep.join(map(str, (*first, Path(faults.__file__).parents[2])))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_store.py"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        lines.append(next(line for line in done.stdout.splitlines() if line.startswith("every_fault: ")))
    assert lines[0] == lines[1]
