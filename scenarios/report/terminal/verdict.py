"""The end of a run for people: caveats first, then the verdict."""

import platform
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.events import Found
from tornpage.scenarios.model.judging.unpromised import reason_not_promised
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.report.causes import by_cause
from tornpage.scenarios.report.terminal.kills import kills_by_operation, kills_table
from tornpage.scenarios.report.terminal.progress import crash_states, describe_finding, fault_points, summary
from tornpage.scenarios.report.words import headline, left_out
from tornpage.scenarios.run.campaign import out_of_reach
from tornpage.scenarios.run.record import FoundRecord, RunRecord
from tornpage.scenarios.search.recorder import Recorder


def show(
    recorder: Recorder,
    target: Target,
    record: RunRecord,
    console: Console,
) -> None:
    """Print the table, findings, observations, notes of a baseline, and the verdict in one line.

    `record` is the same run's, with the place of each finding.
    """
    killed = any(kills_by_operation(recorder).values())
    if recorder.tallies and not (killed and not recorder.count("fired")):
        console.print(fault_points(recorder))
    if killed:
        console.print(kills_table(recorder))
    if recorder.crashes:
        console.print(crash_states(recorder))
        for line in left_out(recorder.crashes):
            console.print(Text(line), soft_wrap=True)
    for ended in recorder.ended:
        console.print(Text(f"{ended.search}: {summary(ended)}"), soft_wrap=True)
        for note in ended.notes:
            console.print(Text(f"  {note}"), soft_wrap=True)
    _show_found(recorder, target, record, console)
    for vacuous in recorder.vacuous:
        console.print(Text(f"\nvacuous: {vacuous.search}: {vacuous.reason}"), soft_wrap=True)
    for note in record.baseline_notes:
        console.print(Text(f"\nbaseline: {note}"), soft_wrap=True)
    console.print(Text(f"\n{headline(record)}"), soft_wrap=True)
    console.print(Text(f"seed {record.seed} · SQLite {sqlite3.sqlite_version} · Python {platform.python_version()}"))
    for note in (*faults.shims().notes(), *filter(None, [out_of_reach(target)])):
        console.print(Text(f"  {note}"), soft_wrap=True)


def _show_found(recorder: Recorder, target: Target, record: RunRecord, console: Console) -> None:
    by_reason: dict[str, list[int]] = {}
    for number, found in enumerate(recorder.observations):
        by_reason.setdefault(reason_not_promised(target.unpromised, found.finding), []).append(number)
    for reason, numbers in by_reason.items():
        for cause in by_cause([record.observations[number] for number in numbers]):
            console.print(Text(f"\nobserved, not promised ({reason}):"), soft_wrap=True)
            described = _described(recorder.observations, record.observations, [numbers[one] for one in cause])
            console.print(Text(described), soft_wrap=True)
    for found in recorder.accepted:
        line = f"\naccepted by the baseline: {found.accepted_because}\n  {found.finding.code}: {found.finding.message}"
        console.print(Text(line), soft_wrap=True)
    for cause in by_cause(record.findings):
        console.print(Text(f"\n{_described(recorder.findings, record.findings, cause)}"), soft_wrap=True)


def _described(found: Sequence[Found], recorded: Sequence[FoundRecord], cause: Sequence[int]) -> str:
    """The findings with these numbers, which may have one cause: the first as a paragraph, the others below it."""
    first, *others = cause
    alike = [found[number] for number in others]
    return describe_finding(found[first], recorded[first].also, recorded[first].where, alike)
