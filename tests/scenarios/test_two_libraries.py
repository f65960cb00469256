"""One file that two SQLite libraries of the process have open at once is a set-up error, not a finding."""

import contextlib
import importlib
import importlib.util
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
import tornpage.scenarios.pytest_plugin.session  # noqa: F401
from tornpage import Action, Configuration, SimpleTarget, faults
from tornpage.scenarios.execution.preflight.contract import require_contract
from tornpage.scenarios.model.target import SetUpError

pytest_plugins = ["pytester"]

MODES = (Configuration("wal", "FULL"), Configuration("delete", "FULL"))
PAIRS = (("pysqlite3", "sqlite3"), ("apsw", "sqlite3"), ("sqlean", "pysqlite3"), ("sqlite3", "apsw"))


def needs(*bindings: str) -> None:
    for binding in bindings:
        if importlib.util.find_spec(binding) is None:
            pytest.skip(f"{binding} is not installed")


def opened(binding: str, path: Path) -> Any:
    module = importlib.import_module(binding)
    if binding == "apsw":
        return module.Connection(str(path))
    return module.connect(str(path), isolation_level=None)


class Words:
    def __init__(self, binding: str, path: Path, configuration: Configuration) -> None:
        self.path = path
        self.db = opened(binding, path)
        self.db.execute(f"PRAGMA journal_mode = {configuration.journal_mode}")
        self.db.execute("CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY)")

    def add(self, word: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO words VALUES (?)", (word,))

    def close(self) -> None:
        self.db.close()


class WordsTarget(SimpleTarget):
    title = "words on one library, looked at with another"
    file = "words.sqlite"
    configurations = MODES
    calls = (Action("add", {"word": "a"}), Action("add", {"word": "b"}))
    beat = Action("add", {"word": "beat"})
    stores, shows, reads, beats = "sqlite3", "", "", ""

    def make(self, path: Path, configuration: Configuration, environment: Any) -> Words:
        store = Words(self.stores, path, configuration)
        if self.beats:

            def add(word: str) -> None:
                with contextlib.closing(opened(self.beats if word == "beat" else self.stores, path)) as connection:
                    connection.execute("INSERT OR IGNORE INTO words VALUES (?)", (word,))

            store.add = add  # type: ignore[method-assign]
        return store

    def view(self, store: Words) -> dict[str, int]:
        return self._read(store.db, store.path, self.shows)

    def rows(self, connection: Any) -> dict[str, int]:
        ((_, _, file),) = connection.execute("PRAGMA database_list")
        return self._read(connection, Path(file), self.reads)

    def _read(self, connection: Any, path: Path, binding: str) -> dict[str, int]:
        with contextlib.closing(opened(binding, path)) if binding else contextlib.nullcontext(connection) as reader:
            return {word: 1 for (word,) in reader.execute("SELECT word FROM words")}


@pytest.mark.parametrize("configuration", MODES, ids=str)
@pytest.mark.parametrize("where", ["shows", "reads", "beats"])
@pytest.mark.parametrize(("holder", "other"), PAIRS)
def test_a_file_that_two_libraries_have_open_is_a_set_up_error(
    holder: str, other: str, where: str, configuration: Configuration, tmp_path: Path
) -> None:
    needs(holder, other)
    target = type("Looked", (WordsTarget,), {"stores": holder, where: other})()
    what = {"shows": "`view`", "reads": "`rows`", "beats": r"add\(word='beat'\)"}[where]
    with (
        faults.install(),
        pytest.raises(SetUpError, match=rf"{what}: words.sqlite was opened with {other} \(SQLite .* while {holder} "),
    ):
        require_contract(target, configuration, tmp_path)


@pytest.mark.parametrize("binding", ["sqlite3", "pysqlite3", "sqlean", "apsw"])
def test_one_library_may_open_a_file_as_often_as_it_likes(binding: str, tmp_path: Path) -> None:
    needs(binding)
    target = type("Alike", (WordsTarget,), {"stores": binding, "shows": binding, "reads": binding, "beats": binding})()
    for configuration in MODES:
        with faults.install():
            require_contract(target, configuration, tmp_path / configuration.journal_mode)


@pytest.mark.parametrize(("closes_first", "outcome"), [(True, {"passed": 1}), (False, {"failed": 1})])
def test_a_marked_test_that_looks_with_another_library_is_not_judged(
    closes_first: bool, outcome: dict[str, int], pytester: pytest.Pytester
) -> None:
    needs("pysqlite3")
    pytester.makepyfile(f"""
        import sqlite3, pysqlite3, pytest

        @pytest.mark.every_fault(max_points=5)
        def test_words(tmp_path):
            db = pysqlite3.connect(str(tmp_path / "a.db"), isolation_level=None)
            db.execute("CREATE TABLE words (word)")
            if {closes_first}:
                db.close()
            other = sqlite3.connect(tmp_path / "a.db")
            assert other.execute("SELECT * FROM words").fetchall() == []
            other.close()
            db.close()
    """)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(**outcome)
    if not closes_first:
        result.stdout.fnmatch_lines(["*every_fault can't judge this test: a.db was opened with sqlite3 *pysqlite3 *"])


MARKED = {
    "interleave": """
        @pytest.mark.interleave
        def test_words(tmp_path, callers):
            with both(tmp_path) as (db, other):
                callers(lambda: add(db, "a"), lambda: add(other, "b"))
                assert len(db.execute("SELECT * FROM words").fetchall()) == 2
    """,
    "every_cancel": """
        @pytest.mark.every_cancel
        def test_words(tmp_path, cancelled):
            with both(tmp_path) as (db, other):
                cancelled(lambda: add(db, "a"))
                add(other, "b")
    """,
    "crash_states": """
        def work(directory):
            with both(directory) as (db, other):
                add(db, "a")
                add(other, "b")

        def test_words(tmp_path, crash_states):
            for disk in crash_states(work, tmp_path / "work", most=3):
                pass
    """,
}


@pytest.mark.parametrize("other", ["pysqlite3", "sqlite3"])
@pytest.mark.parametrize("name", MARKED)
def test_the_other_markers_do_not_judge_two_libraries_either(name: str, other: str, pytester: pytest.Pytester) -> None:
    needs("pysqlite3")
    helpers = f"""
        import contextlib, sqlite3, pysqlite3, pytest
        import {other} as second

        @contextlib.contextmanager
        def both(directory):
            with contextlib.ExitStack() as opened:
                path = str(directory / "words.db")
                made = [one.connect(path, isolation_level=None, timeout=5) for one in (sqlite3, second)]
                for one in made:
                    opened.callback(one.close)
                made[0].execute("CREATE TABLE words (word)")
                yield made

        def add(db, word):
            db.execute("INSERT INTO words VALUES (?)", (word,))
    """
    pytester.makepyfile(textwrap.dedent(helpers) + textwrap.dedent(MARKED[name]))
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(**({"passed": 1} if other == "sqlite3" else {"failed": 1}))
    if other != "sqlite3":
        what = "work" if name == "crash_states" else "test"
        line = f"*{name} can't judge this {what}: words.db was opened with pysqlite3 * while sqlite3 *"
        result.stdout.fnmatch_lines([line])


HIDDEN = """
{imports}

class Hidden:
    def __init__(self, path):
        db = {opened}
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE IF NOT EXISTS words (word TEXT PRIMARY KEY, times INTEGER)")
        # No attribute leads to the connection.
        self.write = lambda *row: db.execute("INSERT OR REPLACE INTO words VALUES (?, ?)", row)
        self.end = lambda: db.close()

    def add(self, word: str, times: int):
        self.write(word, times)

    def close(self):
        self.end()
"""


@pytest.mark.parametrize("binding", ["pysqlite3", "sqlean", "apsw"])
@pytest.mark.usefixtures("quick_is_small")
def test_a_first_target_reads_the_file_with_the_store_s_own_library(
    binding: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    needs(binding)
    call = "apsw.Connection(str(path))" if binding == "apsw" else f"{binding}.connect(str(path), isolation_level=None)"
    (tmp_path / f"hidden_{binding}.py").write_text(HIDDEN.format(imports=f"import {binding}", opened=call))
    wrote = command("new", "target", "--from", f"hidden_{binding}:Hidden")
    assert wrote.code == 0, wrote
    assert "view: words, from the file" in wrote.out
    assert f"import {binding}\n" in (tmp_path / f"hidden_{binding}_target.py").read_text()
    swept = command("sweep", "--target", f"hidden_{binding}_target:HiddenTarget", "--quiet", "--jobs", 1)
    assert swept.code == 0, swept
