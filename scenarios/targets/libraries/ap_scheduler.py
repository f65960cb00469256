"""APScheduler 3.x with its SQLAlchemy job store, both from PyPI: jobs in one table, without a cache over it.

Its promises are in its user guide (https://apscheduler.readthedocs.io/en/3.x/userguide.html, "Choosing the right
scheduler, job store(s), …"): with a persistent job store jobs survive restarts and crashes. The scheduler is driven by
its own methods and is started paused: it runs no job, so nothing depends on the time of day. SQLAlchemy's engine is
created as its documentation shows for SQLite, with a `creator` that may set the journal mode.

Not covered: jobs that run, triggers that read the clock, and several schedulers on one file (the documentation forbids
it).
"""

import pickle
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.base import BaseScheduler
from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from tornpage.scenarios.model.scenario import Callers
from tornpage.scenarios.model.target import Action, Configuration, Environment, Session, Target, View
from tornpage.scenarios.targets.libraries.support import has_table, require_known, silence

_CALLS: Final = frozenset({"add_job", "modify_job", "pause_job", "remove_all_jobs", "remove_job", "resume_job"})
_RUNS: Final = "builtins:print"
silence("apscheduler", "sqlalchemy")


class _PausedScheduler(BaseScheduler):  # type: ignore[misc] # APScheduler ships no type information
    """A scheduler without a thread: it is never woken, since it stays paused."""

    def shutdown(self, wait: bool = True) -> None:
        super().shutdown(wait)

    def wakeup(self) -> None:
        return


class APSchedulerSession:
    """One scheduler with its job store."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        def connect() -> sqlite3.Connection:
            # SQLAlchemy's own arguments for a file.
            connection = environment.connect(str(directory / "jobs.sqlite"), check_same_thread=False)
            try:
                _configure(connection, configuration)
            except BaseException:
                connection.close()
                raise
            return connection

        self._engine = sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=sqlalchemy.pool.QueuePool)
        try:
            store = SQLAlchemyJobStore(engine=self._engine)
            self._scheduler = _PausedScheduler(jobstores={"default": store}, timezone=UTC)
            self._scheduler.start(paused=True)
        except BaseException:
            self._engine.dispose()
            raise

    def call(self, action: Action) -> None:
        """Make one call of the scheduler's interface."""
        require_known(action, _CALLS)
        arguments = dict(action.args)
        if action.name == "add_job":
            run_date = datetime.fromtimestamp(arguments.pop("at"), UTC)
            self._scheduler.add_job(_RUNS, "date", run_date=run_date, replace_existing=True, **arguments)
        else:
            getattr(self._scheduler, action.name)(**arguments)

    def live_view(self) -> View:
        """Every job, from the scheduler."""
        return {f"job/{job.id}": _shown(job.next_run_time, job.name, job.args) for job in self._scheduler.get_jobs()}

    def outcome_of(self, error: Exception) -> str | None:  # noqa: ARG002 - the protocol's shape
        """The library reports nothing about the change."""
        return None

    def self_check(self) -> None:
        """There is no memory to check."""

    def close(self) -> None:
        """Shut the scheduler down; the job store disposes of its engine."""
        self._scheduler.shutdown()


class APScheduler(Target):
    """Target: a scheduler with apscheduler.jobstores.sqlalchemy.SQLAlchemyJobStore, unmodified."""

    name = "apscheduler"
    title = f"APScheduler {version('apscheduler')} on SQLAlchemy {version('sqlalchemy')}, unmodified: its job store"
    configurations: tuple[Configuration, ...] = (
        Configuration("delete", "FULL"),  # SQLite's own default, and so SQLAlchemy's
        Configuration("wal", "NORMAL"),
    )
    depths: tuple[str, ...] = ("statement", "vfs")
    # "Job stores must never be shared between schedulers" (its user guide, and the first question of its FAQ).
    callers: tuple[Callers, ...] = ()
    unpromised: Mapping[str, str] = {
        # https://sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY In WAL Mode"
        "waits-for-a-short-lock": "with WAL: its user sends PRAGMA journal_mode, which on a new file waits for no lock",
    }

    def workload(self) -> tuple[Action, ...]:
        """Jobs are added, replaced, changed, paused, resumed and removed."""
        return (
            Action("add_job", {"id": "alpha", "at": 1_800_000_000}),
            Action("add_job", {"id": "beta", "at": 1_900_000_000, "args": ["x" * 6_000]}),
            Action("add_job", {"id": "alpha", "at": 1_850_000_000}),
            Action("modify_job", {"job_id": "alpha", "name": "renamed"}),
            Action("pause_job", {"job_id": "beta"}),
            Action("resume_job", {"job_id": "beta"}),
            Action("remove_job", {"job_id": "alpha"}),
            Action("remove_all_jobs"),
        )

    def actions(self, view: View) -> SearchStrategy[Action]:
        """Add or replace any job; change an existing one."""
        known = [key.removeprefix("job/") for key in view]
        calls = [
            strategies.builds(
                lambda identity, at, argument: Action("add_job", {"id": identity, "at": at, "args": [argument]}),
                strategies.sampled_from(["alpha", "beta", "gamma"]),
                strategies.sampled_from([1_800_000_000, 1_900_000_000]),
                strategies.sampled_from(["small", "x" * 6_000]),
            ),
            strategies.just(Action("remove_all_jobs")),
        ]
        if known:
            one = strategies.sampled_from(known)
            names = strategies.sampled_from(["pause_job", "remove_job", "resume_job"])
            calls += [
                strategies.builds(lambda name, identity: Action(name, {"job_id": identity}), names, one),
                strategies.builds(lambda identity: Action("modify_job", {"job_id": identity, "name": "renamed"}), one),
            ]
        return strategies.one_of(calls)

    def heartbeat(self) -> Action:
        """One more job."""
        return Action("add_job", {"id": "heartbeat", "at": 2_000_000_000})

    def database(self, directory: Path) -> Path:
        """The given file."""
        return directory / "jobs.sqlite"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> Session:
        """Start the scheduler, paused."""
        return APSchedulerSession(directory, configuration, environment)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        """The rows of the job store's table, with the state that was pickled into each."""
        if not has_table(connection, "apscheduler_jobs"):
            return {}
        found = {}
        for identity, run_time, pickled in connection.execute(
            "SELECT id, next_run_time, job_state FROM apscheduler_jobs"
        ):
            state = pickle.loads(pickled)  # noqa: S301 - written here by the library itself
            at = None if run_time is None else datetime.fromtimestamp(run_time, UTC)
            found[f"job/{identity}"] = _shown(at, state["name"], state["args"])
        return found


def _configure(connection: sqlite3.Connection, configuration: Configuration) -> None:
    if configuration.journal_mode != "delete":
        connection.execute(f"PRAGMA journal_mode = {configuration.journal_mode}")
    if configuration.synchronous != "FULL":
        connection.execute(f"PRAGMA synchronous = {configuration.synchronous}")


def _shown(next_run_time: datetime | None, name: str, args: Any) -> list[Any]:
    return [None if next_run_time is None else next_run_time.timestamp(), name, list(args)]
