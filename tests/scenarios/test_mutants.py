"""The mutants: each operator changes what it says and nothing else, ids stay, and the table of survivors is true."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tornpage.scenarios.selftest.mutants import OPERATORS, SOURCES, all_mutants, chosen_mutants
from tornpage.scenarios.selftest.mutants.catalogue import mutants_of
from tornpage.scenarios.selftest.mutants.equivalent import REVIEWED
from tornpage.scenarios.selftest.mutants.source import Source

PROJECT = Path(__file__).parents[2]

STORE = '''"""A store in miniature, with a … in its docstring."""


class Store:
    def __enter__(self):
        if self.closed:
            raise ValueError("closed")
        self.ensure_usable()
        self.connection.execute("BEGIN IMMEDIATE")

    def _commit(self, change):
        try:
            # It may fail.
            self.connection.execute("COMMIT")
        except OSError as error:
            self.connection.execute("ROLLBACK")
            raise RuntimeError("no") from error
        self.applied = change
        self.observers.committed()

    def fill(self, transaction, unit, file):
        os.fsync(file.fileno())
        task = unit.read_task("a")
        transaction.write("UPDATE t SET x = 1 WHERE id = ? AND x > 0")
        return task
'''


def texts(operator: str, source: str = STORE) -> list[tuple[str, str]]:
    """What an operator makes of a source: the lines that are gone and the lines that are new, one pair a mutant."""
    found = []
    for edit in OPERATORS[operator](Source("ledger/stores/store.py", source)):
        ast.parse(edit.text)
        before, after = source.splitlines(), edit.text.splitlines()
        gone = [line.strip() for line in before if before.count(line) > after.count(line)]
        new = [line.strip() for line in after if after.count(line) > before.count(line)]
        found.append((" ".join(gone), " ".join(new)))
    return found


@pytest.mark.parametrize(
    ("operator", "changes"),
    [
        ("drop-commit", [('self.connection.execute("COMMIT")', "pass")]),
        ("drop-rollback", [('self.connection.execute("ROLLBACK")', "pass")]),
        ("drop-fsync", [("os.fsync(file.fileno())", "pass")]),
        (
            "drop-reread",
            [
                ("self.ensure_usable()", "pass"),
                (
                    'task = unit.read_task("a")',
                    'task = (getattr(unit, "_owner", None) or unit._follower.owner).view().tasks.get("a")',
                ),
            ],
        ),
        ("swallow-except", [('raise RuntimeError("no") from error', "pass")]),
        ("weaken-pragma", [('self.connection.execute("BEGIN IMMEDIATE")', 'self.connection.execute("BEGIN")')]),
        (
            "drop-where-guard",
            [
                (
                    'transaction.write("UPDATE t SET x = 1 WHERE id = ? AND x > 0")',
                    'transaction.write("UPDATE t SET x = 1 WHERE (? IS NULL OR TRUE) AND x > 0")',
                ),
                (
                    'transaction.write("UPDATE t SET x = 1 WHERE id = ? AND x > 0")',
                    'transaction.write("UPDATE t SET x = 1 WHERE id = ? AND TRUE")',
                ),
                ("if self.closed:", "if False:"),
            ],
        ),
    ],
)
def test_an_operator_makes_one_change_at_each_of_its_places(operator: str, changes: list[tuple[str, str]]) -> None:
    assert texts(operator) == changes


LATE = {
    'self.connection.execute("COMMIT")': "commit",
    "self.applied = change": "memory",
    "self.observers.committed()": "observers",
}


def orders(operator: str) -> list[list[str]]:
    """The order of the statements of `_commit` in each mutant."""
    edits = OPERATORS[operator](Source("ledger/stores/store.py", STORE))
    return [[LATE[line.strip()] for line in edit.text.splitlines() if line.strip() in LATE] for edit in edits]


def test_memory_is_moved_before_the_commit() -> None:
    assert orders("swap-commit-and-memory") == [["memory", "commit", "observers"]]


def test_an_observer_is_moved_before_the_commit_and_before_memory() -> None:
    assert orders("observer-before-commit") == [["observers", "commit", "memory"], ["commit", "observers", "memory"]]


def test_nothing_moves_before_what_gives_it_its_names() -> None:
    source = "def work(self):\n    row = self.write()\n    self.known = row\n    self.other = 1\n"
    edits = list(OPERATORS["swap-commit-and-memory"](Source("ledger/stores/store.py", source)))
    assert [edit.text.splitlines()[1].strip() for edit in edits] == ["self.other = 1"]


def test_every_operator_finds_places_and_every_file_has_some() -> None:
    mutants = all_mutants().values()
    assert {one.operator for one in mutants} == set(OPERATORS)
    assert {one.file for one in mutants} == set(SOURCES)
    assert 80 <= len(mutants) <= 220


def test_a_mutant_can_be_compiled_differs_and_is_like_no_other() -> None:
    mutants = all_mutants()
    for one in mutants.values():
        compile(one.text, one.file, "exec", dont_inherit=True)
        assert one.text != one.original
    assert len({(one.file, one.text) for one in mutants.values()}) == len(mutants)


def test_an_id_outlives_a_change_elsewhere_in_the_file() -> None:
    later = STORE.replace('"""A store', '"""Some more lines.\n\nA store')
    ids = [one.id for one in mutants_of(Source("ledger/stores/store.py", STORE))]
    assert ids == [one.id for one in mutants_of(Source("ledger/stores/store.py", later))]
    assert "drop-commit:ledger/stores/store.py:Store._commit:1" in ids


def test_a_diff_shows_the_one_change() -> None:
    diff = all_mutants()["drop-commit:ledger/disk/transaction.py:Transaction._commit:1"].diff
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
    assert changed == ['-            self._connection.execute("COMMIT")', "+            pass"]


def test_mutants_are_chosen_by_operator_file_and_id() -> None:
    some = chosen_mutants(operators=["drop-commit"], files=["ledger/disk/schema.py"])
    assert [one.id for one in some] == ["drop-commit:ledger/disk/schema.py:migrate:1"]
    assert chosen_mutants(["drop-commit:ledger/disk/schema.py:migrate:1"]) == some
    with pytest.raises(ValueError, match="unknown mutant 'nobody'"):
        chosen_mutants(["nobody"])


@pytest.mark.parametrize("name", REVIEWED)
def test_a_reviewed_survivor_exists_and_its_reason_is_a_sentence(name: str) -> None:
    assert name in all_mutants()
    reason = REVIEWED[name].reason
    assert reason[0].isupper()
    assert reason.endswith(".")
    assert len(reason.split()) > 6


# One mutant for each test that is named.
ELSEWHERE = {name: test for test, name in {one.test: name for name, one in REVIEWED.items() if one.test}.items()}

# The child's own way to put a source in place, with pytest in the hunt's.
PYTEST_WITH = """
import json, sys
sys.path[:0] = [{root!r}]
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("child", {child!r})
child = module_from_spec(spec)
spec.loader.exec_module(child)
task = json.load(sys.stdin)
finder = child._Finder(task["module"], task["text"])
sys.meta_path.insert(0, finder)
import pytest
place = ["--rootdir", {root!r}, "-c", {root!r} + "/pyproject.toml"]
code = pytest.main(["-q", "-p", "no:cacheprovider", *place, *task["tests"]])
assert finder.found
sys.exit(int(code))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_killed_elsewhere_is_killed_by_the_test_that_is_named(name: str, tmp_path: Path) -> None:
    mutant = all_mutants()[name]
    path, _, _ = ELSEWHERE[name].partition("::")
    assert (PROJECT / path).is_file()
    code = PYTEST_WITH.format(root=str(PROJECT), child=str(PROJECT / "scenarios" / "selftest" / "mutants" / "child.py"))
    task = {"module": mutant.module, "text": mutant.text, "tests": [str(PROJECT / ELSEWHERE[name])]}
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(task), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr


def test_the_list_names_every_mutant_and_tries_none(command: Callable[..., object]) -> None:
    ran = command("mutants", "--list", "--operator", "drop-commit")
    assert ran.code == 0
    assert "drop-commit:ledger/disk/transaction.py:Transaction._commit:1  without" in ran.out
    assert ran.out.endswith(f"{len(chosen_mutants(operators=['drop-commit']))} mutants\n")
