"""The commands under ``ledger tasks``."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import click

from tornpage.ledger.command.output import print_json, print_record, print_tasks
from tornpage.ledger.errors import NotFound
from tornpage.ledger.ledger import Ledger
from tornpage.ledger.records import TERMINAL, NotifyPolicy, Runtime, ScopeKind, Status, Task
from tornpage.ledger.rules.values import trimmed


class _Opener(Protocol):
    def opened(self) -> AbstractContextManager[Ledger]: ...


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_END_STATUSES = [status.value for status in Status if status in TERMINAL]


@click.group("tasks")
def tasks_group() -> None:
    """Create, watch and end tasks.

    A TOKEN is a task id, a run id or a session key; where it fits several tasks, the task id goes first, then the
    run, then the newest task of the session.
    """


def _resolve(ledger: Ledger, token: str) -> Task:
    task = ledger.tasks.find(token)
    if task is None:
        raise NotFound(f"no task, run or session is called {token!r}; `ledger tasks list` shows what there is")
    return task


def _show(task: Task, *, as_json: bool) -> None:
    if as_json:
        print_json(task)
    else:
        print_record(task)


@tasks_group.command("list")
@click.option("--runtime", type=click.Choice([one.value for one in Runtime]), help="Only this runtime.")
@click.option("--status", type=click.Choice([one.value for one in Status]), help="Only this status.")
@click.option("--owner", help="Only the tasks of this owner.")
@_as_json
@click.pass_obj
def list_command(opener: _Opener, runtime: str | None, status: str | None, owner: str | None, as_json: bool) -> None:
    """List tasks, newest first.

    On a terminal a table; in a pipe tab-separated lines with a heading. Rows that can't be read are named on standard
    error.
    """
    with opener.opened() as ledger:
        wanted = trimmed("owner", owner)
        tasks = ledger.tasks.list(runtime=runtime, status=status)
        quarantined = ledger.tasks.quarantined()
    if owner is not None:
        tasks = [task for task in tasks if task.owner_key == wanted]
    if as_json:
        filters = {"runtime": runtime, "status": status, "owner": owner}
        print_json({"count": len(tasks), "filters": filters, "tasks": tasks, "quarantined": quarantined})
        return
    print_tasks(tasks)
    for one in quarantined:
        click.echo(f"quarantined: {one.table} {one.key}: {one.reason}", err=True)


@tasks_group.command("show")
@click.argument("token")
@_as_json
@click.pass_obj
def show_command(opener: _Opener, token: str, as_json: bool) -> None:
    """Show one task, field by field."""
    with opener.opened() as ledger:
        task = _resolve(ledger, token)
    _show(task, as_json=as_json)


_CREATE_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--runtime",
        type=click.Choice([one.value for one in Runtime]),
        default="cli",
        show_default=True,
        help="What does the work.",
    ),
    click.option("--owner", "owner_key", help="Whose task it is; needed unless the scope is system."),
    click.option("--requester", "requester_session_key", help="The session that asked for it."),
    click.option("--scope", "scope_kind", type=click.Choice([one.value for one in ScopeKind]), help="Whose it is."),
    click.option("--run", "run_id", help="The run that does it; the same task of the same run is made only once."),
    click.option("--child-session", "child_session_key", help="The session in which the work is done."),
    click.option("--flow", "parent_flow_id", help="The flow it belongs to."),
    click.option("--label", help="A short name."),
    click.option(
        "--notify",
        "notify_policy",
        type=click.Choice([one.value for one in NotifyPolicy]),
        help="The events of which the requester is notified.",
    ),
)


def _create_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_CREATE_OPTIONS):
        command = option(command)
    return command


@tasks_group.command("create")
@click.argument("text")
@_create_options
@_as_json
@click.pass_obj
def create_command(opener: _Opener, /, text: str, as_json: bool, **fields: Any) -> None:
    """Create a task; prints its id.

    A task that the same run already has is not made again: its id is printed.
    """
    with opener.opened() as ledger:
        task = ledger.tasks.create(task=text, **fields)
    if as_json:
        print_json(task)
    else:
        click.echo(task.task_id)


@tasks_group.command("start")
@click.argument("token")
@_as_json
@click.pass_obj
def start_command(opener: _Opener, token: str, as_json: bool) -> None:
    """Mark a queued task as running."""
    with opener.opened() as ledger:
        task = ledger.tasks.start(_resolve(ledger, token).task_id)
    _show(task, as_json=as_json)


@tasks_group.command("finish")
@click.argument("token")
@click.argument("status", type=click.Choice(_END_STATUSES))
@click.option("--error", help="What went wrong.")
@click.option("--summary", "terminal_summary", help="What came out of it.")
@click.option("--run", "run_id", help="The run that reports; only it may give a lost task its real end.")
@_as_json
@click.pass_obj
def finish_command(opener: _Opener, /, token: str, status: str, as_json: bool, **report: Any) -> None:
    """End a task; the end is final.

    Only a task that was taken for lost may still get its real end, from its own run.
    """
    with opener.opened() as ledger:
        task = ledger.tasks.finish(_resolve(ledger, token).task_id, status, **report)
    _show(task, as_json=as_json)


@tasks_group.command("cancel")
@click.argument("token")
@_as_json
@click.pass_obj
def cancel_command(opener: _Opener, token: str, as_json: bool) -> None:
    """Cancel a task.

    From here only cli tasks can be cancelled: the other runtimes must be asked to stop by the program that controls
    them.
    """
    with opener.opened() as ledger:
        result = ledger.tasks.cancel(_resolve(ledger, token).task_id)
    if as_json:
        print_json(result)
    elif result.cancelled and result.task is not None:
        print_record(result.task)
    if not result.cancelled:
        raise click.ClickException(f"not cancelled: {result.reason}")


@tasks_group.command("notify")
@click.argument("token")
@click.argument("policy", type=click.Choice([one.value for one in NotifyPolicy]))
@_as_json
@click.pass_obj
def notify_command(opener: _Opener, token: str, policy: str, as_json: bool) -> None:
    """Choose the events of which the requester of a task is notified."""
    with opener.opened() as ledger:
        task = ledger.tasks.set_notify_policy(_resolve(ledger, token).task_id, policy)
    _show(task, as_json=as_json)


@tasks_group.command("delete")
@click.argument("token")
@_as_json
@click.pass_obj
def delete_command(opener: _Opener, token: str, as_json: bool) -> None:
    """Delete a task and what is known about its delivery; there is no way back."""
    with opener.opened() as ledger:
        task = ledger.tasks.delete(_resolve(ledger, token).task_id)
    if as_json:
        print_json(task)
    else:
        click.echo(f"deleted {task.task_id}")
