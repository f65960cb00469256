"""A ``_sqlite3`` that shows no function of its SQLite, for the Python that runs this.

    python hidden_sqlite.py --into FOLDER

Method: the source of this Python's extension module, from Debian, is compiled against the static ``libsqlite3.a`` of
Debian's own packages and linked with ``--exclude-libs,ALL``. That is how python-build-standalone is linked, which uv,
rye, mise and hatch install. What is printed is the folder to put on PYTHONPATH, before the standard library; `sqlite3`
then runs on it, as a user would find it, with the same SQLite as before, to the commit. It takes some seconds, and
needs a C compiler and apt. What is in the folder already and works is kept.

Where it can't be had, one line on standard error says why, and it exits with 1.

Not covered: an interpreter that has SQLite linked into itself instead of into an extension module. It has no symbols,
either.
"""

import argparse
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import debian

PYTHON = "python{}.{}".format(*sys.version_info)
FLAGS = ("-DPy_BUILD_CORE_MODULE", "-DPY_SQLITE_ENABLE_LOAD_EXTENSION=1", "-DPY_SQLITE_HAVE_SERIALIZE=1")
# Looked in after the machine's own release, which has the SQLite of most Pythons that run on it.
LATER_SUITES = ("stable", "testing", "unstable")
Had = TypeVar("Had")
_PROBE = """
import _sqlite3, ctypes, sqlite3
assert not hasattr(ctypes.CDLL(_sqlite3.__file__), "sqlite3_libversion"), f"{_sqlite3.__file__} shows its SQLite"
print(_sqlite3.__file__)
print(sqlite3.connect(":memory:").execute("SELECT sqlite_source_id()").fetchone()[0])
"""


def fault_of(folder: Path) -> str:
    """What is wrong with the `sqlite3` of this Python, the folder on its path; empty where it is hidden and equal."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE],
        env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    file, source_id = done.stdout.splitlines()
    if not Path(file).is_relative_to(folder):
        return f"sqlite3 is still that of {file}"
    ours = sqlite3.connect(":memory:").execute("SELECT sqlite_source_id()").fetchone()[0]
    return "" if source_id == ours else f"its SQLite is {source_id}, this Python's own {ours}"


def _suites(apt: debian.Apt) -> Iterator[debian.Suite]:
    """The releases to look in; one is fetched only when those before it did not have what is wanted."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME")
    for name in (*([own] if own else ()), *LATER_SUITES):
        yield apt.suite(name)


def _first(apt: debian.Apt, package: str, version: str, get: Callable[[debian.Suite], Had]) -> Had:
    """What `get` makes of the first release that has a package at a version, given as its beginning."""
    reasons = [f"no release of Debian that apt reaches has {package} {version}"]
    for suite in _suites(apt):
        if any(f"{found}.".startswith(f"{version}.") for found in suite.versions(package)):
            try:
                return get(suite)
            except debian.UnavailableError as error:
                reasons.append(f"{suite.name}: {error}")
    raise debian.UnavailableError("; ".join(reasons[1:] or reasons))


def _module(suite: debian.Suite, build: Path) -> list[Path]:
    """Unpack the C files of ``_sqlite3`` from Python's source; the patch release may be another than this one's."""
    # tarfile's filters are unknown to 3.11.3 and before, and asked for by 3.14.
    debian.run("tar", "-xf", suite.source(PYTHON, build), "-C", build, "--wildcards", "*/Modules/_sqlite/*")
    return sorted(build.glob("*/Modules/_sqlite/*.c"))


def _includes(suite: debian.Suite, build: Path) -> list[Path]:
    """The folders of this Python's headers, which are unpacked where they are not installed."""
    installed = [Path(sysconfig.get_path(name)) for name in ("include", "platinclude")]
    if not (installed[0] / "Python.h").exists():
        suite.unpack([f"lib{PYTHON}-dev"], build / "dev", alone=True)
        headers = build / "dev" / "usr" / "include"
        # Debian's pyconfig.h looks for the one of its kind of machine from the folder that holds both.
        installed = [headers / PYTHON, *headers.glob(f"*/{PYTHON}"), headers]
    return [*installed, *(folder / "internal" for folder in installed)]


def _sqlite(suite: debian.Suite, build: Path) -> tuple[Path, Path]:
    """Unpack SQLite's header and static library; returns the header's folder and the library."""
    suite.unpack(["libsqlite3-dev"], build / "sqlite", alone=True)
    return build / "sqlite" / "usr" / "include", next((build / "sqlite").glob("usr/lib/*/libsqlite3.a"))


def build(folder: Path) -> None:
    """Make the extension module in the folder; raises `debian.UnavailableError` with the reason where that can't be."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise debian.UnavailableError("there is no C compiler")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        apt = debian.Apt(work / "apt")
        minor = "{}.{}".format(*sys.version_info)
        module = _first(apt, PYTHON, minor, lambda suite: _module(suite, work))
        header, library = _first(apt, "libsqlite3-dev", sqlite3.sqlite_version, lambda suite: _sqlite(suite, work))
        includes = [header, *_first(apt, PYTHON, minor, lambda suite: _includes(suite, work))]
        folder.mkdir(parents=True, exist_ok=True)
        debian.run(
            compiler, "-O2", "-w", "-fPIC", "-shared", *FLAGS, *(f"-I{include}" for include in includes),
            *module, library, "-Wl,--exclude-libs,ALL", "-lm", "-lz", "-ldl", "-lpthread",
            "-o", folder / f"_sqlite3{sysconfig.get_config_var('EXT_SUFFIX')}",
        )  # fmt: skip


def main() -> int:
    """Make what is not there yet, try it, and print the folder to put on PYTHONPATH."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    folder = parser.parse_args().into.absolute()
    try:
        if fault_of(folder):
            build(folder)
        fault = fault_of(folder)
    except debian.UnavailableError as error:
        fault = str(error)
    if fault:
        print(f"a _sqlite3 with hidden symbols can't be had here: {fault}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
