"""The end of a run: what makes it meaningless first, then the verdict, for people."""

import platform
import sqlite3

from rich.console import Console
from rich.text import Text

from scenarios.campaign import EVIDENCE, Exit, verdict
from scenarios.handlers.kills import kills_by_operation, kills_table
from scenarios.handlers.terminal import crash_states, describe_finding, fault_points, summary
from scenarios.recorder import Recorder
from scenarios.target import Target

_WORDS = {
    Exit.HOLDS: "HOLDS: no check failed",
    Exit.FINDING: "FAILED",
    Exit.NOT_TESTED: "NOT TESTED: what did not happen proves nothing",
    Exit.INTERRUPTED: "INTERRUPTED: this is what was done until then",
}


def show(recorder: Recorder, target: Target, seed: int, console: Console, baseline_notes: tuple[str, ...] = ()) -> None:
    """Print the table, findings, observations, what a baseline has to say, and the verdict."""
    killed = any(kills_by_operation(recorder).values())
    if recorder.tallies and not (killed and not recorder.count("fired")):
        console.print(fault_points(recorder))
    if killed:
        console.print(kills_table(recorder))
    if recorder.crashes:
        console.print(crash_states(recorder))
    for ended in recorder.ended:
        console.print(Text(f"{ended.search}: {summary(ended)}"), soft_wrap=True)
        for note in ended.notes:
            console.print(Text(f"  {note}"), soft_wrap=True)
    _show_found(recorder, target, console)
    for vacuous in recorder.vacuous:
        console.print(Text(f"\nvacuous: {vacuous.search}: {vacuous.reason}"), soft_wrap=True)
    for note in baseline_notes:
        console.print(Text(f"\nbaseline: {note}"), soft_wrap=True)
    console.print(Text(f"\n{headline(recorder, target)}"), soft_wrap=True)
    console.print(Text(f"seed {seed} · SQLite {sqlite3.sqlite_version} · Python {platform.python_version()}"))


def _show_found(recorder: Recorder, target: Target, console: Console) -> None:
    for found in recorder.observations:
        console.print(Text(f"\nobserved, not promised ({target.unpromised[found.finding.code]}):"), soft_wrap=True)
        console.print(Text(describe_finding(found)), soft_wrap=True)
    for found in recorder.accepted:
        line = f"\naccepted by the baseline: {found.accepted_because}\n  {found.finding.code}: {found.finding.message}"
        console.print(Text(line), soft_wrap=True)
    for found in recorder.findings:
        console.print(Text("\n" + describe_finding(found)), soft_wrap=True)


def headline(recorder: Recorder, target: Target) -> str:
    """The verdict in one line."""
    words = _WORDS[verdict(recorder)]
    if recorder.findings:
        words += f" with {_plural(len(recorder.findings), 'finding')}"
    if recorder.accepted:
        words += f", {len(recorder.accepted):,} accepted by the baseline"
    if recorder.observations:
        words += f", {_plural(len(recorder.observations), 'observation')} of what it does not promise"
    if not recorder.complete and not recorder.interrupted and not recorder.findings:
        words += " (PARTIAL: the time was up before everything was tried)"
    evidence = [f"{count:,} {what}" for name, what in EVIDENCE.items() if (count := recorder.count(name))]
    return f"{target.name}: {words}. {', '.join(evidence) or 'Nothing happened'}"


def _plural(number: int, noun: str, many: str = "") -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {many or noun + 's'}"
