"""Debian's packages in a folder, not installed: fetched through the mirror that apt is set up with, and unpacked.

Method: apt runs with a state of its own (lists, cache, an empty list of installed packages) inside the folder. So
nothing of the system changes, no root is needed, and a release other than the machine's own can be asked for.
Signatures are checked as always.

Not covered: systems without apt, and those whose apt has no Debian mirror (Ubuntu's has none): `UnavailableError`.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Where the package debian-archive-keyring, part of every Debian, keeps the keys of all releases.
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class UnavailableError(Exception):
    """What was asked for can't be had on this machine; the message is one line that says why."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """The standard output of a command; raises `UnavailableError` with its first complaint where it fails."""
    try:
        done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        complaint = next((line for line in said if line.startswith("E:") or "error:" in line), said[-1])
        raise UnavailableError(f"{Path(str(command[0])).name} exits {done.returncode}: {complaint}")
    return done.stdout


class Apt:
    """apt with a state of its own in `folder`; each suite (``stable``, ``testing``, ``unstable``) has its own lists."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._suites: dict[str, Suite] = {}

    def _state(self, name: str) -> tuple[Path, list[str]]:
        """The folder of a state, and the options that make apt use it."""
        state = self._folder / name
        for needed in ("lists/partial", "cache/archives/partial"):
            (state / needed).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        set_to = {
            "APT::Sandbox::User": "root",  # This process owns the folder; apt's own user could not write to it.
            "Acquire::Languages": "none",
            "Dir::Cache": state / "cache",
            "Dir::State": state,
            "Dir::State::lists": state / "lists",
            "Dir::State::status": state / "status",
        }
        return state, [part for key, value in set_to.items() for part in ("-o", f"{key}={value}")]

    def _mirror(self) -> str:
        """The address of the Debian mirror of this machine's own apt; its lists are fetched if it has none yet."""
        asked = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian"]
        found = run("apt-get", *asked).split()
        if not found:
            _, options = self._state("own")
            run("apt-get", *options, "-qq", "update")
            found = run("apt-get", *options, *asked).split()
        if not found:
            raise UnavailableError("apt is set up with no Debian mirror")
        return found[0]

    def suite(self, name: str) -> "Suite":
        """A release of Debian; its lists of packages and of sources are fetched when it is first asked for."""
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise UnavailableError("there is no apt-get or no dpkg-deb on this machine")
        if name not in self._suites:
            self._suites[name] = self._updated(name)
        return self._suites[name]

    def _updated(self, name: str) -> "Suite":
        state, options = self._state(name)
        signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        where = f"{signed}{self._mirror()} {name} main"
        (state / "sources.list").write_text(f"deb {where}\ndeb-src {where}\n", encoding="utf-8")
        only = (f"Dir::Etc::sourcelist={state / 'sources.list'}", "Dir::Etc::sourceparts=/dev/null")
        options = [*options, *(part for one in only for part in ("-o", one))]
        run("apt-get", *options, "-qq", "update")
        return Suite(name, state, options)


class Suite:
    """One release of Debian, as apt sees it from a state of its own."""

    def __init__(self, name: str, state: Path, options: Sequence[str]) -> None:
        self.name = name
        self._state = state
        self._options = options

    def unpack(self, packages: Sequence[str], into: Path, *, alone: bool = False) -> None:
        """Unpack packages with all that they depend on, or `alone`, without; no script of a package is run."""
        if alone:
            run("apt-get", *self._options, "-qq", "download", *packages, cwd=self._archives)
        else:
            wanted = ("install", "--yes", "--no-install-recommends", "--download-only", *packages)
            run("apt-get", *self._options, "-qq", *wanted)
        into.mkdir(parents=True, exist_ok=True)
        for archive in sorted(self._archives.glob("*.deb")):
            run("dpkg-deb", "--extract", archive, into)
            archive.unlink()

    @property
    def _archives(self) -> Path:
        return self._state / "cache" / "archives"

    def versions(self, package: str) -> list[str]:
        """The versions of a package that this release has, without Debian's own suffix."""
        listed = run("apt-cache", *self._options, "madison", package)
        return [line.split("|")[1].strip().rpartition("-")[0] for line in listed.splitlines() if "Packages" in line]

    def source(self, package: str, into: Path) -> Path:
        """Fetch the archive of a source package as its authors published it."""
        into.mkdir(parents=True, exist_ok=True)
        run("apt-get", *self._options, "-qq", "source", "--download-only", "--tar-only", package, cwd=into)
        return next(into.glob(f"{package}_*.orig.tar.*"))
