"""The end of a run for people: caveats first, then the verdict."""

import platform

from rich.console import Console
from rich.text import Text

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.model.judging.unpromised import reason_not_promised
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.report.causes import by_cause
from tornpage.scenarios.report.terminal.kills import kills_by_operation, kills_table
from tornpage.scenarios.report.terminal.progress import crash_states, describe_finding, fault_points, summary
from tornpage.scenarios.report.words import headline, left_out
from tornpage.scenarios.run.campaign import out_of_reach
from tornpage.scenarios.run.record import RunRecord
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
    for found, recorded in zip(recorder.observations, record.observations, strict=True):
        one = found.finding
        reason = reason_not_promised(target.unpromised, one)
        console.print(Text(f"\nobserved, not promised ({reason}):"), soft_wrap=True)
        console.print(Text(describe_finding(found, recorded.also, recorded.where)), soft_wrap=True)
    for found in recorder.accepted:
        line = f"\naccepted by the baseline: {found.accepted_because}\n  {found.finding.code}: {found.finding.message}"
        console.print(Text(line), soft_wrap=True)
    for first, *others in by_cause(record.findings):
        recorded, alike = record.findings[first], [recorder.findings[number] for number in others]
        described = describe_finding(recorder.findings[first], recorded.also, recorded.where, alike)
        console.print(Text(f"\n{described}"), soft_wrap=True)
