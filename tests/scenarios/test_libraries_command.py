"""`tornpage libraries`: each installed SQLite is tried for real; hidden symbols take away only what needs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tornpage import faults

EVERYTHING = {"vfs", "crash", "contend", "statement", "pages", "heap", "allocation", "seed"}


def _tried(*first_on_path: Path) -> dict[str, set[str]]:
    """What works, by binding, in a process of its own."""
    path = os.pathsep.join(map(str, (*first_on_path, Path(faults.__file__).parents[2])))
    code = "from tornpage.scenarios.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "libraries", "--json"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {row["binding"]: {name for name, works in row["works"].items() if works} for row in json.loads(done.stdout)}


@pytest.mark.slow
def test_each_installed_binding_is_tried_at_every_depth() -> None:
    tried = _tried()
    assert tried.pop("sqlite3") == EVERYTHING
    if "apsw" in tried:
        assert tried.pop("apsw") == {"vfs", "crash", "contend", "heap"}
    for works in tried.values():
        assert works == EVERYTHING - {"allocation"}


@pytest.mark.slow
def test_hidden_symbols_take_away_what_needs_them_and_no_more(hidden_sqlite: Path) -> None:
    assert _tried(hidden_sqlite)["sqlite3"] == {"vfs", "crash", "contend", "statement", "pages"}
