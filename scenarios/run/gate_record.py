"""The record of ``tornpage bugs``: which known bug was caught by which search, as one JSON document with a version."""

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.version import tornpage_version
from tornpage.scenarios.run.record import LARGEST_FILE_BYTES, RunFileError
from tornpage.scenarios.run.whole_file import write_whole

if TYPE_CHECKING:
    # Every search reads or writes records, and a known bug loads the reference.
    from tornpage.scenarios.targets.known_bugs.build import KnownBug

FORMAT: Final = "tornpage-bugs"
VERSION: Final = 1


class Catch(msgspec.Struct, frozen=True):
    """The result of one search on one build.

    `check` is the code that caught the bug, None if it was missed; `work` is in calls and points, or in steps (fuzz),
    crash states and kills; `scenario_steps` and `scenario_faults` are the size of the scenario; `replay` is the line
    that reproduces it; `cpu_s` is the CPU time, without processes other than the search's own.
    """

    build: str
    search: str
    expected: tuple[str, ...]
    check: str | None
    message: str
    work: int
    scenario_steps: int
    scenario_faults: int
    replay: str
    cpu_s: float = 0.0

    @property
    def caught(self) -> bool:
        """Whether the check that was expected has failed."""
        return self.check in self.expected


class BugRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A known bug, and the results of its searches."""

    name: str
    source: str
    defect: str
    checks: tuple[str, ...]
    budget: int
    catches: tuple[Catch, ...]


class BugsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run over known bugs. `reference` is what the same searches found in the reference; it should be empty."""

    format: str = FORMAT
    version: int = VERSION
    tornpage_version: str
    seed: int
    complete: bool
    sqlite_version: str
    python_version: str
    system: str
    bugs: tuple[BugRecord, ...]
    reference: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether every bug was caught within its budget, and nothing else was found."""
        return self.complete and not self.reference and all(map(is_caught, self.bugs))


def is_caught(bug: BugRecord) -> bool:
    """Whether each of its searches has caught it within its budget."""
    return all(catch.caught and catch.work <= bug.budget for catch in bug.catches)


def record_of_bugs(
    catches: Iterable[tuple["KnownBug", Catch]], noise: Iterable[str], seed: int, *, complete: bool
) -> BugsRecord:
    """The record of the catches, in the order in which they were tried."""
    by_bug: dict[str, tuple[KnownBug, list[Catch]]] = {}
    for bug, catch in catches:
        by_bug.setdefault(bug.name, (bug, []))[1].append(catch)
    return BugsRecord(
        tornpage_version=tornpage_version(),
        seed=seed,
        complete=complete,
        sqlite_version=sqlite3.sqlite_version,
        python_version=platform.python_version(),
        system=platform.platform(),
        bugs=tuple(
            BugRecord(
                name=bug.name,
                source=bug.source,
                defect=bug.defect,
                checks=bug.checks,
                budget=bug.budget,
                catches=tuple(them),
            )
            for bug, them in by_bug.values()
        ),
        reference=tuple(noise),
    )


def write(record: BugsRecord, path: Path) -> None:
    """Write it as JSON; raises OSError."""
    write_whole(path, msgspec.json.encode(record) + b"\n")


def read(path: Path) -> BugsRecord:
    """Read it; raises `RunFileError` with the reason."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise RunFileError(f"{path} can't be read: {error.strerror or error}") from error
    try:
        record = msgspec.json.decode(content, type=BugsRecord)
    except msgspec.DecodeError as error:
        raise RunFileError(f"{path} is not a record of known bugs: {error}") from error
    if (record.format, record.version) != (FORMAT, VERSION):
        raise RunFileError(f"{path} is {record.format}, version {record.version}; this tornpage reads {VERSION}")
    return record


def is_one(path: Path) -> bool:
    """Whether a file's format is that of such a record."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(LARGEST_FILE_BYTES), type=_Head).format == FORMAT
    except (OSError, msgspec.DecodeError):
        return False


class _Head(msgspec.Struct):
    format: str = ""
