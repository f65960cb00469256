"""The group ``ledger`` and what all its commands share: opening the ledger, and exit codes.

Exit codes: 0 fine; 1 not found or refused; 2 wrong usage, or the store can't be used.
"""

# no fault in this file: a target calls the ledger itself, not the command; its tests do that.

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tornpage.ledger.clock import Clock, system_clock
from tornpage.ledger.command.outbox import outbox_group
from tornpage.ledger.command.output import is_output_lost
from tornpage.ledger.command.runs import recover_command, runs_group
from tornpage.ledger.command.tasks import tasks_group
from tornpage.ledger.command.upkeep import audit_command, maintenance_command
from tornpage.ledger.disk.connections import DEFAULT_BUSY_TIMEOUT_MS, JOURNAL_MODES, MEMORY
from tornpage.ledger.disk.rows import Unreadable
from tornpage.ledger.errors import LedgerError, StoreError, UsageError
from tornpage.ledger.ledger import Ledger


class _StateDirectory(click.Path):
    """A directory name; refuses an empty one, and ``:memory:``, which would be lost when the command ends."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:  # click's own type; a `Path` here.
        if not os.fspath(value):
            self.fail('the name is empty; name a directory, "." for the one you are in', param, ctx)
        if os.fspath(value) == MEMORY:
            self.fail("a command that kept its ledger in memory would lose it at its end; name a directory", param, ctx)
        return super().convert(value, param, ctx)


class LedgerOptions:
    """The options for opening the ledger; one object for all commands of a call."""

    def __init__(
        self, state_dir: Path | None, journal_mode: str | None, busy_timeout_ms: int, clock: Clock = system_clock
    ) -> None:
        self.state_dir = state_dir
        self.clock = clock
        self.journal_mode = journal_mode
        self.busy_timeout_ms = busy_timeout_ms

    @contextmanager
    def opened(self) -> Iterator[Ledger]:
        """The ledger, open for the body of a command."""
        with (
            self.reporting(),
            Ledger.open(
                self.state_dir,
                journal_mode=self.journal_mode,
                busy_timeout_ms=self.busy_timeout_ms,
                clock=self.clock,
            ) as ledger,
        ):
            yield ledger

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Turn errors in the body of a command into a message and an exit code."""
        try:
            yield
        except UsageError as error:
            raise click.UsageError(str(error)) from error
        except Unreadable as error:
            # One row: the store itself can be used.
            raise click.ClickException(str(error)) from error
        except StoreError as error:
            raise _CouldNotRun(str(error)) from error
        except LedgerError as error:
            raise click.ClickException(str(error)) from error


class _CouldNotRun(click.ClickException):
    """The store can't be used; the ledger's own rules were not reached."""

    exit_code = 2


class _Group(click.Group):
    """Reports in one line, with a separate exit code, if the output can't be written."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader has closed the pipe; click ends the program quietly.
            raise
        except OSError as error:
            refused = "the answer" if is_output_lost() else "something"
            raise _CouldNotRun(f"the operating system refused {refused}: {error}") from error


@click.group("ledger", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state-dir",
    type=_StateDirectory(),
    envvar="TORNPAGE_STATE_DIR",
    show_envvar=True,
    help="The directory that holds ledger.sqlite. Default: the platform's user state directory.",
)
@click.option(
    "--journal-mode",
    type=click.Choice(JOURNAL_MODES),
    help="SQLite's journal mode; an existing database is switched to it. Default: the one it has; wal for a new one.",
)
@click.option(
    "--busy-timeout-ms",
    type=click.IntRange(min=0),
    default=DEFAULT_BUSY_TIMEOUT_MS,
    show_default=True,
    help="How long to wait for a lock that another process holds.",
)
@click.pass_context
def ledger_group(
    context: click.Context, state_dir: Path | None, journal_mode: str | None, busy_timeout_ms: int
) -> None:
    """Keep account of background work: what was asked for, what runs, how it ended.

    Everything is in one SQLite file, and several processes may use it at once. A command that ends with exit code 0
    has its change safely on disk.

    \b
    Exit codes:
      0  fine
      1  not found, or refused
      2  wrong usage, or the store can't be used

    \b
    Example:
      tornpage ledger tasks create "water the plants" --runtime cli --owner me
      tornpage ledger tasks list
      tornpage ledger tasks finish TOKEN succeeded
      tornpage ledger recover
      tornpage ledger tasks audit
    """
    context.obj = LedgerOptions(state_dir, journal_mode, busy_timeout_ms)


tasks_group.add_command(audit_command)
tasks_group.add_command(maintenance_command)
ledger_group.add_command(tasks_group)
ledger_group.add_command(runs_group)
ledger_group.add_command(outbox_group)
ledger_group.add_command(recover_command)


def main() -> None:
    """Run the command by itself."""
    ledger_group(prog_name="python -m tornpage.ledger")
