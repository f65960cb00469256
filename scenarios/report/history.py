"""The history of runs: a small SQLite file with one row per run, and the trend of these.

Every run is one transaction, in a rollback journal at FULL: an appended run survives a power cut, and a run that could
not be appended leaves nothing. Appending the same run again changes nothing, so a job may simply retry. tornpage itself
sweeps this store (``tests/scenarios/test_reports_history.py``).

Not kept: points and scenarios; they are in the ``run.json`` of their run.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.run.record import RunRecord, TrendRecord

Connect = Callable[..., sqlite3.Connection]

_APPLICATION: Final = 0x746F726E  # "torn"
_VERSION: Final = 1
_TIMEOUT_S: Final = 5.0
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT NOT NULL UNIQUE,
    started_at TEXT NOT NULL,
    target TEXT NOT NULL,
    profile TEXT NOT NULL,
    seed INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    complete INTEGER NOT NULL,
    seconds REAL NOT NULL,
    tried INTEGER NOT NULL,
    findings INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    vacuous INTEGER NOT NULL,
    checks TEXT NOT NULL,
    tornpage_version TEXT NOT NULL,
    sqlite_version TEXT NOT NULL,
    python_version TEXT NOT NULL
) STRICT
"""
# The number of points that a search has tried, by the name of its count; of several counts the first is used.
_TRIED: Final = ("states", "tried", "kills", "steps")


class HistoryError(ValueError):
    """An unusable history: the error, and what to do."""


class History:
    """A history of runs in a file; raises `HistoryError`. `connect` is how it is opened."""

    def __init__(self, path: Path, connect: Connect = sqlite3.connect) -> None:
        self._path = path
        with _as_history_errors(path):
            self._connection = connect(path, timeout=_TIMEOUT_S, isolation_level=None)
            try:
                self._set_up()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, line: TrendRecord) -> None:
        """Add a run; an existing one stays unchanged."""
        values = msgspec.structs.asdict(line)
        values["checks"] = msgspec.json.encode(line.checks, order="sorted").decode()
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        with _as_history_errors(self._path), self._transaction():
            # The names are those of a struct of ours.
            self._connection.execute(f"INSERT OR IGNORE INTO runs ({names}) VALUES ({marks})", values)  # noqa: S608

    def trend(self, target: str | None = None, most: int = 100) -> tuple[TrendRecord, ...]:
        """The last runs, of one target or of all, the oldest first."""
        text = (
            f"SELECT {', '.join(TrendRecord.__struct_fields__)} FROM runs "  # noqa: S608 - names of a struct of ours
            "WHERE :target IS NULL OR target = :target ORDER BY started_at DESC, rowid DESC LIMIT :most"
        )
        with _as_history_errors(self._path):
            rows = self._connection.execute(text, {"target": target, "most": most}).fetchall()
            return tuple(map(_line, reversed(rows)))

    def _set_up(self) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == _APPLICATION and version != _VERSION:
            raise HistoryError(f"{self._path} is a history of version {version}; this tornpage writes {_VERSION}")
        if application != _APPLICATION and (application or tables):
            raise HistoryError(f"{self._path} is another program's database, not a history of runs")
        self._connection.execute("PRAGMA synchronous = FULL")
        if application != _APPLICATION:
            with self._transaction():
                self._connection.execute(_TABLE)
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; whatever is raised, no transaction stays open."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors, and then a ROLLBACK would hide the cause.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def line_of(record: RunRecord) -> TrendRecord:
    """The line of a run."""
    return TrendRecord(
        run_id=record.run_id,
        started_at=record.started_at,
        target=record.target,
        profile=record.profile,
        seed=record.seed,
        verdict=record.verdict,
        complete=record.complete,
        seconds=record.seconds,
        tried=sum(_tried(ended.counts) for ended in record.searches),
        findings=len(record.findings),
        accepted=len(record.accepted),
        vacuous=len(record.vacuous),
        checks=dict(Counter(found.check for found in record.findings)),
        tornpage_version=record.tornpage_version,
        sqlite_version=record.sqlite_version,
        python_version=record.python_version,
    )


def _tried(counts: dict[str, int]) -> int:
    return next((counts[name] for name in _TRIED if counts.get(name)), 0)


def _line(row: tuple[object, ...]) -> TrendRecord:
    values = dict(zip(TrendRecord.__struct_fields__, row, strict=True))
    values["checks"] = msgspec.json.decode(str(values["checks"]))
    return msgspec.convert(values, TrendRecord, strict=False)


@contextlib.contextmanager
def _as_history_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, msgspec.MsgspecError) as error:
        raise HistoryError(f"the history {path} can't be used: {error}") from error
