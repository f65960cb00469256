"""The built package in a project of somebody else who has packages called scenarios, ledger and faults, as many have.

Method: the wheel is built twice, from the checkout and from an sdist that was built from it; both must hold the same.
It is installed into a virtual environment of its own, next to nothing but its dependencies and pytest, and the project
is worked in as its owner would. ``tox -e package`` has what it takes; without that all this is skipped.
"""

import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("hatchling", "uv")
MISSING = [name for name in TOOLS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; tox -e package has them"),
]

LEDGER = '''
import sqlite3


class Book:
    """Names and sums, in memory and in SQLite; a change is written first."""

    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            self.db.execute("CREATE TABLE IF NOT EXISTS sums (name TEXT PRIMARY KEY, cents INTEGER)")
            self.sums = dict(self.db.execute("SELECT name, cents FROM sums"))
        except BaseException:
            self.db.close()
            raise

    def put(self, name, cents):
        self.db.execute("INSERT OR REPLACE INTO sums VALUES (?, ?)", (name, cents))
        self.sums[name] = cents

    def close(self):
        self.db.close()
'''
FILES = {
    "ledger/__init__.py": LEDGER,
    "faults/__init__.py": "KNOWN = ('the printer jams',)\n",
    "scenarios/__init__.py": "",
    "scenarios/steps.py": "def given_a_book(path):\n    from ledger import Book\n\n    return Book(path)\n",
    "book_target.py": """
from ledger import Book
from tornpage import Action, SimpleTarget


class BookTarget(SimpleTarget):
    title = "a book of sums"
    file = "book.sqlite"
    calls = (Action("put", {"name": "rent", "cents": 1}),)
    beat = Action("put", {"name": "heartbeat", "cents": 0})

    def make(self, path, configuration, environment):
        return Book(path)

    def view(self, store):
        return dict(store.sums)

    def rows(self, connection):
        return dict(connection.execute("SELECT name, cents FROM sums"))
""",
    "tests/test_book.py": """
import pytest

import faults
import scenarios.steps


@pytest.mark.every_fault(operations="write,sync")
def test_a_sum_stays(tmp_path):
    from ledger import Book

    book = Book(tmp_path / "book.sqlite")
    book.put("rent", 1)
    book.close()
    book = scenarios.steps.given_a_book(tmp_path / "book.sqlite")
    assert book.sums == {"rent": 1}
    book.close()


def test_the_names_are_the_projects_own():
    assert faults.KNOWN == ("the printer jams",)
    assert not hasattr(faults, "install")
""",
}


def run(*command: str | Path, cwd: Path, timeout_s: int = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing of this project's own environment in it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHON", "TOX_"))}
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip


def make(*command: str | Path, cwd: Path) -> None:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def built(source: Path, into: Path, *kinds: str) -> None:
    """Build with the backend alone, without an environment for the build; ``tox -e package`` has the backend."""
    make(sys.executable, "-m", "hatchling", "build", *(f"-t{kind}" for kind in kinds), "-d", into, cwd=source)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel of the checkout, and the wheel of its sdist."""
    base = tmp_path_factory.mktemp("built")
    built(ROOT, base / "direct", "wheel", "sdist")
    with tarfile.open(next((base / "direct").glob("*.tar.gz"))) as sdist:
        sdist.extractall(base, filter="data") if hasattr(tarfile, "data_filter") else sdist.extractall(base)  # noqa: S202
    unpacked = next(base.glob("tornpage-*"))
    built(unpacked, base / "from-sdist", "wheel")
    direct, from_sdist = (next((base / name).glob("*.whl")) for name in ("direct", "from-sdist"))
    return direct, from_sdist


@pytest.fixture(scope="module")
def environment(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a virtual environment with the wheel that came from the sdist, and pytest."""
    base = tmp_path_factory.mktemp("fresh")
    uv = (sys.executable, "-m", "uv")
    make(*uv, "venv", "--python", sys.executable, "venv", cwd=base)
    make(*uv, "pip", "install", "--python", "venv", wheels[1], "pytest", cwd=base)
    return base / "venv" / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def contents(wheel: Path) -> dict[str, int]:
    """What is in a wheel, with each file's checksum; the record of the checksums is left out."""
    with zipfile.ZipFile(wheel) as opened:
        return {one.filename: one.CRC for one in opened.infolist() if not one.filename.endswith("/RECORD")}


def test_a_wheel_by_way_of_an_sdist_is_the_same(wheels: tuple[Path, Path]) -> None:
    direct, from_sdist = map(contents, wheels)
    assert direct == from_sdist
    assert "tornpage/__init__.py" in direct
    assert not [name for name in direct if "mutants" in name], "they are of use in a checkout only"


def test_only_tornpage_is_at_the_top_of_site_packages(environment: Path, tmp_path: Path) -> None:
    """Asked of the installation's own record, since dependencies stand beside it."""
    record = next(environment.parent.glob("lib/python*/site-packages/tornpage-*.dist-info/RECORD"))
    installed = [line.split(",")[0] for line in record.read_text().splitlines()]
    tops = {path.split("/")[0] for path in installed if not path.startswith("../")}
    assert tops == {"tornpage", record.parent.name}
    # What is outside site-packages is the command alone.
    assert {Path(path).name for path in installed if path.startswith("../")} == {"tornpage"}
    done = run(environment / "python", "-c", "import ledger", cwd=tmp_path)
    assert "No module named 'ledger'" in done.stderr


@pytest.mark.parametrize("way", ["pytest", "python -m pytest", "PYTHONPATH=. pytest"])
def test_a_project_with_packages_of_those_names_runs_its_tests(environment: Path, project: Path, way: str) -> None:
    command = [environment / "python", "-m", "pytest"] if "-m" in way else [environment / "pytest"]
    # As many write it: without `python -m` or PYTHONPATH, pytest has to be told where the packages are.
    settings = "[pytest]\npythonpath = .\n" if way == "pytest" else "[pytest]\n"
    (project / "pytest.ini").write_text(settings)
    done = run(*command, "-q", cwd=project, **({"PYTHONPATH": "."} if "PYTHONPATH" in way else {}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert "every_fault: 1 test" in done.stdout


def test_the_command_checks_a_target_that_imports_the_projects_own_ledger(environment: Path, project: Path) -> None:
    checked = ("check", "--target", "book_target:BookTarget", "--configuration", "wal/FULL", "--quiet")
    done = run(environment / "tornpage", *checked, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "HOLDS" in done.stdout


@pytest.mark.parametrize("module", ["tornpage", "tornpage.ledger"])
def test_python_dash_m_starts_it(environment: Path, project: Path, module: str) -> None:
    done = run(environment / "python", "-m", module, "--help", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
