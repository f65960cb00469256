"""The commands under ``ledger runs``, and ``ledger recover``."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import click

from tornpage.ledger.command.output import as_utc, print_json, print_record, print_rows
from tornpage.ledger.errors import NotFound
from tornpage.ledger.ledger import Ledger
from tornpage.ledger.runs import Run, RunStatus


class _Opener(Protocol):
    def opened(self) -> AbstractContextManager[Ledger]: ...


_COLUMNS = ("id", "status", "started", "finished", "worker", "agent", "task")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("runs")
def runs_group() -> None:
    """Show runs, with their workers and results.

    A run is recorded from its start. A run whose worker died is `running` until a recovery marks it as interrupted.
    """


def _print_runs(runs: Sequence[Run]) -> None:
    rows = [
        (
            run.id,
            run.status.value,
            as_utc(run.started_at),
            as_utc(run.finished_at) if run.finished_at is not None else "",
            run.worker_id,
            run.agent or "",
            run.task_id,
        )
        for run in runs
    ]
    print_rows(_COLUMNS, rows, empty="No runs.")


@runs_group.command("list")
@click.option("--status", type=click.Choice([one.value for one in RunStatus]), help="Only this status.")
@click.option("--task", "task_id", help="Only the runs of this task id.")
@click.option("--worker", "worker_id", help="Only the runs of this worker.")
@_as_json
@click.pass_obj
def list_command(
    opener: _Opener, status: str | None, task_id: str | None, worker_id: str | None, as_json: bool
) -> None:
    """List runs, newest first.

    On a terminal a table; in a pipe tab-separated lines with a heading. Rows that can't be read are named on standard
    error.
    """
    with opener.opened() as ledger:
        runs, quarantined = ledger.history.read(status=status, task_id=task_id, worker_id=worker_id)
    if as_json:
        filters = {"status": status, "task_id": task_id, "worker_id": worker_id}
        print_json({"count": len(runs), "filters": filters, "runs": runs, "quarantined": quarantined})
        return
    _print_runs(runs)
    for one in quarantined:
        click.echo(f"quarantined: {one.table} {one.key}: {one.reason}", err=True)


@runs_group.command("show")
@click.argument("token")
@_as_json
@click.pass_obj
def show_command(opener: _Opener, token: str, as_json: bool) -> None:
    """Show one run, field by field, with its sessions.

    TOKEN is a run id, or a task id, which means the newest run of that task.
    """
    with opener.opened() as ledger:
        run = ledger.history.find(token)
        if run is None:
            raise NotFound(f"no run is called {token!r} and no task of this id has one; see `ledger runs list`")
        sessions = ledger.history.list_sessions(run.id)
        worker_alive = ledger.workers.is_alive(run.worker_id)
    if as_json:
        print_json({"run": run, "sessions": sessions, "worker_alive": worker_alive})
        return
    print_record(run)
    click.echo(f"{'worker':<22} {'alive' if worker_alive else 'dead'}")
    for session in sessions:
        validity = "valid" if session.valid else f"invalid: {session.reason}"
        click.echo(f"{'session':<22} {session.session_id} ({validity})")


@click.command("recover")
@_as_json
@click.pass_obj
def recover_command(opener: _Opener, as_json: bool) -> None:
    """Mark the runs whose workers died as interrupted.

    All in one transaction: their sessions become invalid and their tasks lost. Runs of living workers stay unchanged,
    and a second recovery changes nothing more. Each interrupted run is logged as one line on standard error.
    """
    with opener.opened() as ledger:
        done = ledger.recover()
    if as_json:
        print_json(done)
        return
    _print_runs(done.interrupted)
    click.echo(
        f"interrupted: {len(done.interrupted)}, sessions invalidated: {done.sessions_invalidated}, "
        f"left running: {done.left_running}, unreadable: {len(done.quarantined)}",
        err=True,
    )


runs_group.add_command(recover_command)
