"""Another SQLite beneath Python's own `sqlite3`: it is really used, faults reach it, and what is in the way is said."""

import importlib.util
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tornpage import faults

linux = pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("pysqlite3") is None,
    reason="needs pysqlite3 and a linker that binds by name alone",
)


def run(code: str, chosen: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(faults.__file__).parents[2]), "TORNPAGE_SQLITE": chosen}
    return subprocess.run(
        # Isolated from what this environment loads at the start: the order of imports is what is tested.
        [sys.executable, "-S", "-c", textwrap.dedent(code).replace("SITE", repr(sys.path))],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@linux
def test_sqlite3_runs_on_the_chosen_sqlite_with_all_of_its_error_codes_and_faults_reach_it(tmp_path: Path) -> None:
    done = run(
        f"""
        import sys; sys.path[:] = SITE
        from tornpage import faults; import sqlite3
        with faults.install(), faults.arm("sync:wal@1=IOERR_FSYNC"):
            connection = sqlite3.connect({str(tmp_path / "a.db")!r}, isolation_level=None)
            connection.execute("PRAGMA journal_mode=wal")
            try:
                connection.execute("CREATE TABLE t(a)")
            except sqlite3.OperationalError as error:
                print(error.sqlite_errorname)
            connection.close()
        with faults.exact_allocations(), faults.FailedAllocation(1).in_force():
            try:
                sqlite3.connect(":memory:")
            except MemoryError:
                print("NOMEM")
        from tornpage.scenarios.run.reproduce.replay_file import origin
        print(sqlite3.sqlite_version, origin().sqlite)
        import pysqlite3
        print(pysqlite3.sqlite_version)
        """,
        "pysqlite3",
    )
    assert done.stderr == ""
    name, memory, version, told, other = done.stdout.split()
    assert (name, memory) == ("SQLITE_IOERR_FSYNC", "NOMEM")
    assert version == told == other


@linux
@pytest.mark.skipif(bool(os.environ.get("TORNPAGE_SQLITE")), reason="sqlite3 is bound already")
def test_the_chosen_sqlite_is_another_one_than_pythons_own() -> None:
    """By version and options: a new Python may have the very version that the package brings."""
    build = """
        import sqlite3
        connection = sqlite3.connect(":memory:")
        print([sqlite3.sqlite_version, *sorted(option for (option,) in connection.execute("PRAGMA compile_options"))])
        connection.close()
        """
    imports = """
        import sys; sys.path[:] = SITE
        from tornpage import faults
        """
    chosen, own = run(imports + build, "pysqlite3"), run(imports + build, "")
    assert chosen.stdout.startswith("['3.")
    assert own.stdout.startswith(f"['{sqlite3.sqlite_version}'")
    assert chosen.stdout != own.stdout


@linux
def test_it_is_too_late_once_sqlite3_has_been_imported() -> None:
    done = run("import sys; sys.path[:] = SITE\nimport sqlite3; from tornpage import faults", "pysqlite3")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: TORNPAGE_SQLITE is 'pysqlite3', and sqlite3 was imported before it could be heeded: "
        "import tornpage.faults first"
    )


@pytest.mark.parametrize("name", ["no_such_package", "json"])
def test_a_package_without_a_sqlite_of_its_own_is_named(name: str) -> None:
    done = run("import sys; sys.path[:] = SITE\nfrom tornpage import faults", name)
    assert f"TORNPAGE_SQLITE is {name!r}: no package of this name" in done.stderr.splitlines()[-1]


def test_without_the_variable_nothing_is_chosen() -> None:
    done = run(
        "import sys; sys.path[:] = SITE\nimport sqlite3; from tornpage import faults; print(sqlite3.sqlite_version)", ""
    )
    assert done.stderr == ""
