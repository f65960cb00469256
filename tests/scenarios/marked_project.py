"""Projects with a store and tests that carry the marker `every_fault`, run by pytester within this process."""

import re

import pytest

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
from tornpage.scenarios.pytest_plugin import session  # noqa: F401

# The reported bug, in twenty lines with plain sqlite3; and the same with the write first.
TASKS = """
    import sqlite3

    class Tasks:
        def __init__(self, path):
            self.db = sqlite3.connect(path, isolation_level=None)
            self.db.execute("CREATE TABLE IF NOT EXISTS tasks(name TEXT PRIMARY KEY)")
            self.names = {row[0] for row in self.db.execute("SELECT name FROM tasks")}

        def add(self, name):
            if name not in self.names:
                self.names.add(name)
                self.db.execute("INSERT INTO tasks VALUES(?)", (name,))

        def delete(self, name):
            if name in self.names:
                self.names.remove(name)
                self.db.execute("DELETE FROM tasks WHERE name = ?", (name,))

        def close(self):
            self.db.close()

    class WriteFirst(Tasks):
        def add(self, name):
            if name not in self.names:
                self.db.execute("INSERT INTO tasks VALUES(?)", (name,))
                self.names.add(name)

        def delete(self, name):
            if name in self.names:
                self.db.execute("DELETE FROM tasks WHERE name = ?", (name,))
                self.names.remove(name)

    class Counts(WriteFirst):
        # Right, as long as a deletion is not repeated.
        def delete(self, name):
            if self.db.execute("DELETE FROM tasks WHERE name = ?", (name,)).rowcount != 1:
                raise KeyError(name)
            self.names.remove(name)
"""

TEST_OF_TASKS = """
    import pytest
    from tasks import Counts, Tasks, WriteFirst

    {marker}
    def test_a_deleted_task_stays_away(tmp_path):
        store = {store}(tmp_path / "tasks.db")
        store.add("milk")
        store.delete("milk")
        store.close()
        store = {store}(tmp_path / "tasks.db")
        assert store.names == set()
        store.close()
"""

# A store that is right, small enough for a sweep of some ten points.
STORE = """
    import sqlite3

    class StoreError(Exception):
        pass

    class Store:
        def __init__(self, path):
            self.path = str(path)
            self.db = sqlite3.connect(path, isolation_level=None)

        def add(self, x):
            self.db.execute("CREATE TABLE IF NOT EXISTS t(x PRIMARY KEY)")
            self.db.execute("INSERT INTO t VALUES(?)", (x,))

        def close(self):
            self.db.close()
"""


# The body of a test, and the same where its error is swallowed.
ADD = """
store = Store(tmp_path / "a.db")
store.add(1)
store.close()
"""
SWALLOWS = ADD.replace("store.add(1)", "try:\n    store.add(1)\nexcept sqlite3.Error:\n    store.db = None")


def make(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with the stores in `tasks.py` and `store.py`, and no other plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(tasks=TASKS, store=STORE)
    pytester.syspathinsert()
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    arguments = (
        "-p",
        "tornpage.scenarios.pytest_plugin.plugin",
        "-p",
        "no:cacheprovider",
        "--strict-markers",
        *arguments,
    )
    return project.runpytest_inprocess(*arguments)


def run_test(project: pytest.Pytester, marker: str, body: str, *arguments: str, before: str = "") -> pytest.RunResult:
    """Run one test, of this body, on the small store."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    head = "import sqlite3, time\nimport pytest\nfrom store import Store, StoreError\n"
    source = f"{head}\n{before}\n\n@pytest.mark.{marker}\ndef test_it(tmp_path):\n{indented}\n"
    (project.path / "test_it.py").write_text(source)
    return run(project, *arguments)


def counts(done: pytest.RunResult) -> dict[str, int]:
    """The numbers of the summary's line."""
    line = next(line for line in done.outlines if line.startswith("every_fault: "))
    return {name: int(number.replace(",", "")) for number, name in re.findall(r"([\d,]+) ([a-z ]+)", line)}
