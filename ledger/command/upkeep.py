"""The commands ``ledger tasks audit`` and ``ledger tasks maintenance``."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from tornpage.ledger.clock import Clock
from tornpage.ledger.command.output import print_json
from tornpage.ledger.disk.files import DATABASE_NAME, resolve_state_dir
from tornpage.ledger.ledger import Ledger
from tornpage.ledger.upkeep.audit import AuditCode, AuditReport, Finding, Severity
from tornpage.ledger.upkeep.maintenance import MaintenanceReport
from tornpage.ledger.upkeep.upkeep import audit_file, preview_file

_HEADINGS = ("Severity", "Code", "Task", "Status", "Age", "Detail")
_LONGEST_DETAIL = 100
_COLOURS = {Severity.ERROR: "red", Severity.WARN: "yellow"}
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


class _Opener(Protocol):
    state_dir: Path | None
    busy_timeout_ms: int
    clock: Clock

    def opened(self) -> AbstractContextManager[Ledger]: ...

    def reporting(self) -> AbstractContextManager[None]: ...


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("audit")
@click.option("--severity", type=click.Choice([one.value for one in Severity]), help="Show only this severity.")
@click.option("--code", type=click.Choice([one.value for one in AuditCode]), help="Show only this code.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="Show at most so many findings, the worst first; 0 shows all.",
)
@click.option(
    "--fail-on",
    type=click.Choice([one.value for one in Severity]),
    help="Exit with 1 where there is a finding of this severity or worse among those asked for.",
)
@_as_json
@click.pass_obj
def audit_command(
    opener: _Opener, *, severity: str | None, code: str | None, limit: int, fail_on: str | None, as_json: bool
) -> None:
    """Say what is wrong with the tasks, worst first.

    Nothing is written. The counts in the first line are those of the whole ledger, whatever is shown. Work whose
    worker has died is reported as lost; `ledger tasks maintenance --apply` marks it so.

    \b
    stale_queued             queued, and nothing has happened for 10 minutes
    stale_running            running, and nothing has happened for 30 minutes
    lost                     nothing works on it any more
    delivery_failed          the requester could not be notified
    missing_cleanup          ended, but without a date to prune it
    inconsistent_timestamps  its times contradict each other

    \b
    Exit codes:
      0  audited, whatever was found
      1  with --fail-on, something was found
      2  wrong usage, or the store can't be used
    """
    with opener.reporting():
        report = audit_file(
            opener.state_dir,
            severity=severity,
            code=code,
            limit=limit or None,
            clock=opener.clock,
            busy_timeout_ms=opener.busy_timeout_ms,
        )
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    _warn(opener.state_dir, report)
    if _fails(report, fail_on):
        click.get_current_context().exit(1)


@click.command("maintenance")
@click.option("--apply", is_flag=True, help="Do it; without this only the counts are shown.")
@_as_json
@click.pass_obj
def maintenance_command(opener: _Opener, apply: bool, as_json: bool) -> None:
    """Mark dead work as lost, prune ended tasks, add missing cleanup dates.

    Without --apply nothing is written. Per task the first step that applies is made: a task that is active, without an
    event for 5 minutes and without a living worker becomes lost; an ended task is deleted once its cleanup_after has
    passed; an ended task without a cleanup_after gets one. Tasks that no worker of this ledger runs are not marked:
    only the program that runs their sessions knows their state.
    """
    report = _applied(opener) if apply else _previewed(opener)
    if as_json:
        print_json(report)
    else:
        click.echo(_maintenance_line(report))


def _previewed(opener: _Opener) -> MaintenanceReport:
    with opener.reporting():
        return preview_file(opener.state_dir, clock=opener.clock, busy_timeout_ms=opener.busy_timeout_ms)


def _applied(opener: _Opener) -> MaintenanceReport:
    with opener.opened() as ledger:
        return ledger.maintenance(apply=True)


def _maintenance_line(report: MaintenanceReport) -> str:
    if report.applied:
        line = f"Task maintenance: {report.reconciled} marked lost · {report.pruned} pruned · {report.stamped} stamped"
        return line if report.checkpointed is not False else f"{line} (the WAL is still in use and stays for now)"
    line = f"Task maintenance would do: {report.reconciled} mark lost · {report.pruned} prune · {report.stamped} stamp"
    due = report.reconciled + report.pruned + report.stamped
    return f"{line}; nothing was written, --apply does it" if due else line


def _print_report(report: AuditReport) -> None:
    summary = report.summary
    counts = {"finding": summary.total, "error": summary.errors, "warning": summary.warnings}
    click.echo("Task audit: " + " · ".join(f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items()))
    in_force = _filters_line(report)
    if in_force:
        click.echo(in_force)
    if not report.findings:
        click.echo("No task audit findings.")
        return
    for line in _table([_cells(finding) for finding in report.findings]):
        click.echo(line)


def _filters_line(report: AuditReport) -> str:
    """The filters in force; the limit only where it has left something out."""
    filters = msgspec.structs.asdict(report.filters)
    if report.displayed == report.filtered_count:
        del filters["limit"]
    given = [f"{name} {value}" for name, value in filters.items() if value is not None]
    return f"Filters: {' · '.join(given)} · showing {report.displayed} of {report.filtered_count}" if given else ""


def _cells(finding: Finding) -> tuple[str, ...]:
    age = _age(finding.age_ms) if finding.age_ms is not None else "-"
    detail = _one_printable_line(finding.detail)
    if len(detail) > _LONGEST_DETAIL:
        detail = f"{detail[: _LONGEST_DETAIL - 1]}…"
    return finding.severity, finding.code, _one_printable_line(finding.task_id), finding.status, age, detail


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned, the severity in colour; the last column is not filled up."""
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    widths[-1] = 0
    lines = []
    for row in (_HEADINGS, *rows):
        cells: list[Any] = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        if row is not _HEADINGS:
            cells[0] = click.style(cells[0], fg=_COLOURS[Severity(row[0])])
        lines.append("  ".join(cells))
    return lines


def _age(age_ms: int) -> str:
    """The two largest units, as ``3d4h``, ``12m5s`` or ``45s``."""
    seconds = age_ms // 1000
    for (unit, size), (lower, lower_size) in pairwise(_UNITS):
        if seconds >= size:
            rest = seconds % size // lower_size
            return f"{seconds // size}{unit}{rest}{lower}" if rest else f"{seconds // size}{unit}"
    return f"{seconds}s"


def _one_printable_line(text: str) -> str:
    """What a program wrote into a task must not move the cursor of a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in " ".join(text.split()))


def _warn(state_dir: Path | None, report: AuditReport) -> None:
    path = resolve_state_dir(state_dir) / DATABASE_NAME
    if not path.exists():
        click.echo(f"there is no ledger in {path.parent} yet", err=True)
    for one in report.quarantined:
        click.echo(f"quarantined: {one.table} {one.key}: {one.reason}", err=True)


def _fails(report: AuditReport, fail_on: str | None) -> bool:
    """The worst finding comes first."""
    if fail_on is None or not report.findings:
        return False
    return fail_on == Severity.WARN or report.findings[0].severity is Severity.ERROR
