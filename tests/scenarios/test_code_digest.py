"""FIXED is said of code that has changed; of the very same code a replay that shows nothing is NOT REPRODUCED."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import tiny_stores

from tornpage.scenarios.run.reproduce import program_digest
from tornpage.scenarios.run.reproduce.code_digest import code_of, is_unchanged
from tornpage.scenarios.run.reproduce.program_digest import files_of
from tornpage.scenarios.targets.registry import find

STORE = """
import os
import sqlite3


class Store:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, text TEXT)")
            self.known = dict(self.db.execute("SELECT name, text FROM note").fetchall())
        except BaseException:
            self.db.close()
            raise

    def put(self, name, text):
        if os.environ.get("NOTES_EARLY"):
            self.known[name] = text
        self.db.execute("REPLACE INTO note VALUES (?, ?)", (name, text))
        self.known[name] = text

    def close(self):
        self.db.close()
"""
TARGET = """
from tornpage import Action, Configuration, SimpleTarget


class Notes(SimpleTarget):
    title = "notes"
    callers = ()
    configurations = (Configuration("wal", "FULL"),)
    calls = (Action("put", {"name": "a", "text": "1"}), Action("put", {"name": "a", "text": "2"}))
    beat = Action("put", {"name": "heartbeat", "text": "x"})

    def make(self, path, configuration, environment):
        from digested_store import Store  # when it is needed, as many a target does

        return Store(path)

    def view(self, store):
        return dict(store.known)

    def rows(self, connection):
        return dict(connection.execute("SELECT name, text FROM note").fetchall())
"""


@pytest.mark.slow
def test_a_finding_that_goes_away_by_itself_is_not_fixed_and_one_that_is_corrected_is(tmp_path: Path) -> None:
    (tmp_path / "digested_store.py").write_text(STORE)
    (tmp_path / "digested_target.py").write_text(TARGET)

    def tornpage(*words: str, early: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tornpage", *words, "--target", "digested_target:Notes"],
            cwd=tmp_path, env=os.environ | {"NOTES_EARLY": early}, timeout=120, check=False,
            capture_output=True, text=True,
        )  # fmt: skip

    assert tornpage("sweep", "--jobs", "1", "--quiet", early="1").returncode == 1
    file = str(next((tmp_path / ".tornpage").glob("*memory-equals-disk*.json")))
    again = tornpage("replay", file, early="1")
    assert (again.returncode, "FAILED: memory-equals-disk" in again.stdout) == (1, True), again.stdout
    gone = tornpage("replay", file, early="")
    assert gone.returncode == 2
    assert "NOT REPRODUCED: memory-equals-disk (nothing of the target's code has changed since it was" in gone.stdout
    (tmp_path / "digested_store.py").write_text(STORE.replace('os.environ.get("NOTES_EARLY")', "False"))
    corrected = tornpage("replay", file, early="1")
    assert (corrected.returncode, "FIXED: memory-equals-disk" in corrected.stdout) == (0, True), corrected.stdout


def test_a_changed_module_a_changed_statement_and_one_that_has_gone_are_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module, schema = tmp_path / "digested_module.py", tmp_path / "schema.sql"
    module.write_text("ONE = 1\n")
    schema.write_text("CREATE TABLE t (a);\n")
    importlib.import_module("digested_module")
    target = tiny_stores.Tiny()
    target.name = "tiny_stores:Tiny"
    try:
        before = code_of(target)
        assert before["digested_module"]
        assert before["msgspec=="] == msgspec.__version__
        assert is_unchanged(before, target)
        assert not is_unchanged({}, target)
        schema.write_text("CREATE TABLE t (a, b);\n")
        assert not is_unchanged(before, target)
        schema.unlink()
        before = code_of(target)
        module.write_text("ONE = 2\n")
        assert not is_unchanged(before, target)
        module.write_text("ONE = 1\n")
        assert is_unchanged(before, target)
    finally:
        sys.modules.pop("digested_module", None)
    assert not is_unchanged(before, target)
    assert not is_unchanged(before | {"msgspec==": "0"}, target)


def test_of_this_harness_only_what_ships_as_a_target_counts() -> None:
    target = tiny_stores.Tiny()
    target.name = "tiny_stores:Tiny"
    assert not [name for name in code_of(target) if name.startswith("tornpage")]
    assert "tornpage.scenarios.targets.libraries.json_file" in code_of(find("json-file"))


def test_of_a_program_the_files_of_its_directory_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"app/notes.mjs": "", "lib/store.mjs": "", "lib/.cache/store": "", ".git/HEAD": "", "lib/__pycache__/a": ""}
    packages = ".venv/lib/python3.11/site-packages"
    files |= {".venv/pyvenv.cfg": "", f"{packages}/a-1.dist-info/RECORD": "1", f"{packages}/a.py": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    target = tiny_stores.Tiny()
    target.name = "command:sh app/notes.mjs --fast"
    before = code_of(target)
    assert sorted(before) == [f"{packages}/a-1.dist-info/RECORD", "app/notes.mjs", "lib/store.mjs", "sh"]
    (tmp_path / "report.html").write_text("a run writes one")
    assert is_unchanged(before, target)
    for name in ("lib/store.mjs", f"{packages}/a-1.dist-info/RECORD"):
        (tmp_path / name).write_text("another")
        assert not is_unchanged(before, target)
        before = code_of(target)
    (tmp_path / "lib/store.mjs").unlink()
    assert not is_unchanged(before, target)


def test_a_script_elsewhere_counts_with_what_stands_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "mine.txt").touch()
    for name in ("store.pl", "Rows.pm"):
        (tmp_path / "there" / name).touch()
    script = str(tmp_path / "there" / "store.pl")
    found = sorted([script, "../there/Rows.pm", "../there/store.pl", "mine.txt", "perl"])
    assert sorted(files_of(("perl", script))) == found
    assert sorted(files_of(("sh", "-c", "exec ./notes"))) == ["mine.txt", "sh"]


def test_nothing_is_recorded_of_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.sh", "b.sh", "c.sh"):
        (tmp_path / name).touch()
    assert files_of(("sh", "a.sh"))
    monkeypatch.setattr(program_digest, "_MOST_FILES", 3)
    target = tiny_stores.Tiny()
    target.name = "command:sh a.sh"
    assert code_of(target) == {}
    assert not is_unchanged({}, target)
