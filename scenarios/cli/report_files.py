"""``tornpage report junit``, ``sarif``, ``summary``, ``baseline``, ``merge`` and ``history``: files for other tools."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.table import Table

from tornpage.scenarios.cli import ci
from tornpage.scenarios.cli.options import CouldNotRun, output
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.report.baseline import BaselineError, extend
from tornpage.scenarios.report.history import History, HistoryError
from tornpage.scenarios.report.junit import junit
from tornpage.scenarios.report.merge import MergeError, merge
from tornpage.scenarios.report.sarif import sarif
from tornpage.scenarios.report.summary import summary
from tornpage.scenarios.report.words import headline, plural
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.record import RunFileError, RunRecord, TrendRecord
from tornpage.scenarios.run.whole_file import write_whole

_PATH: Final = click.Path(dir_okay=False, path_type=Path)
_output = click.option("--output", type=_PATH, help="Write it to this file instead of standard output.")
_run = click.argument("run", type=_PATH, default=Path(".tornpage/run.json"), metavar="[RUN.json]")


def read(path: Path) -> RunRecord:
    """A record; if it can't be read, a message and exit code 2."""
    try:
        return run_record.read(path)
    except RunFileError as error:
        raise CouldNotRun(str(error)) from error


@click.command("junit")
@_run
@_output
def junit_command(run: Path, output: Path | None) -> None:
    """Write a run as JUnit XML: a suite for each search, a failure for each finding."""
    _put(junit, run, output)


@click.command("sarif")
@_run
@_output
def sarif_command(run: Path, output: Path | None) -> None:
    """Write a run as SARIF 2.1.0, for code scanning."""
    _put(sarif, run, output)


@click.command("summary")
@_run
@_output
def summary_command(run: Path, output: Path | None) -> None:
    """Write a run as short Markdown, for a comment or the summary of a job."""
    _put(summary, run, output)


def _put(make: Callable[[RunRecord], str], run: Path, output: Path | None) -> None:
    text = make(read(run))
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_whole(output, text)
    except OSError as error:
        raise CouldNotRun(f"cannot write {output}: {error.strerror or error}") from error


@click.command("baseline")
@_run
@click.option("--reason", required=True, help="Why these findings are accepted; people will read it.")
@click.option(
    "--expires",
    type=click.DateTime(formats=["%Y-%m-%d"]),
    required=True,
    help="The last day on which they are, in UTC.",
)
@click.option("--output", type=_PATH, default=Path("tornpage-baseline.toml"), show_default=True, help="The baseline.")
def baseline_command(run: Path, reason: str, expires: datetime, output: Path) -> None:
    """Accept the findings of a run until a day: write them at the end of a baseline."""
    if not reason.strip():
        raise click.UsageError("--reason is empty; say why these findings are accepted")
    if expires.date() < ci.today():
        raise click.UsageError(f"--expires {expires.date()} is in the past; give a future day")
    record = read(run)
    try:
        new = extend(output, record, reason, expires.date())
    except BaselineError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise CouldNotRun(f"cannot write {output}: {error.strerror or error}") from error
    for entry in new:
        click.echo(f"accepted until {entry.expires}: {entry}")
    entries = plural(len(new), "new entry", "new entries")
    click.echo(f"{output}: {entries} from {plural(len(record.findings), 'finding')}")


@click.command("merge")
@click.argument("runs", type=_PATH, nargs=-1, required=True)
@click.option("--output", type=_PATH, required=True, help="The record of all of them.")
@click.pass_context
def merge_command(context: click.Context, /, runs: tuple[Path, ...], output: Path) -> None:
    """Merge the records of several runs; the exit code is that of all of them.

    \b
    tornpage report merge job-*/run.json --output run.json

    A run given twice counts once.
    """
    try:
        merged = merge(read(path) for path in runs)
        run_record.write(merged.record, output)
    except MergeError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise CouldNotRun(f"cannot write {output}: {error.strerror or error}") from error
    for run_id in merged.repeated:
        click.echo(f"given more than once, counted once: run {run_id}", err=True)
    for part in merged.record.runs:
        click.echo(
            f"{part.verdict:12} {part.target}, SQLite {part.sqlite_version}, Python {part.python_version}, "
            f"seed {part.seed}, {part.seconds:.1f} s"
        )
    for vacuous in merged.record.vacuous:
        click.echo(f"vacuous: {vacuous.search}: {vacuous.reason}")
    click.echo(headline(merged.record))
    context.exit(Exit(merged.record.exit_code))


@click.command("history")
@click.argument("file", type=_PATH)
@click.option("--target", help="Only runs on this target.")
@click.option("--last", type=click.IntRange(min=1), default=30, show_default=True, help="How many runs.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def history_command(file: Path, target: str | None, last: int, as_json: bool) -> None:
    """Print the trend of a history: the runs, the oldest first."""
    if not file.is_file():
        raise click.UsageError(f"{file} does not exist; a search with --history {file} creates it")
    try:
        with History(file) as history:
            trend = history.trend(target, last)
    except HistoryError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(trend)).decode())
    else:
        output().print(_table(trend))


def _table(trend: tuple[TrendRecord, ...]) -> Table:
    table = Table(title=plural(len(trend), "run"), title_justify="left")
    for name in ("date", "target", "verdict"):
        table.add_column(name, overflow="fold")
    for name in ("tried", "per second", "findings"):
        table.add_column(name, justify="right")
    table.add_column("checks", overflow="fold")
    for one in trend:
        checks = ", ".join(f"{check} {many}" for check, many in sorted(one.checks.items()))
        numbers = (f"{one.tried:,}", f"{one.rate:,.0f}", f"{one.findings:,}")
        partial = "" if one.complete or one.verdict == Exit.INTERRUPTED.name else " (PARTIAL)"
        table.add_row(_minute(one.started_at), one.target, one.verdict + partial, *numbers, checks)
    return table


def _minute(started_at: str) -> str:
    """The date and the minute, in UTC."""
    try:
        return f"{datetime.fromisoformat(started_at):%Y-%m-%d %H:%M}"
    except ValueError:
        return started_at


COMMANDS: Final = (
    baseline_command, history_command, junit_command, merge_command, sarif_command, summary_command,
)  # fmt: skip
