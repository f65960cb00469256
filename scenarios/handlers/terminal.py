"""Events on a terminal: a live line while a search runs, findings as they come, and the table at the end.

Where standard error is no terminal (CI, a pipe) the live line becomes a plain line every few seconds. Progress goes to
standard error, the verdict to standard output.
"""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

import faults
from scenarios.checks import CHECKS
from scenarios.events import Event, Found, PointTried, SearchEnded, SearchStarted, StatesTried, StepsDone, Vacuous
from scenarios.recorder import Recorder, Tally

_COUNTS = (
    "states", "disks", "points", "tried", "fired", "surfaced", "stories", "steps", "calls", "armed", "restarts",
    "crashes", "power_cuts", "limits", "jumps", "actions", "shapes",
    "kills", "warm", "kinds", "hangs", "contentions", "waited", "unblocked", "missed", "findings",
)  # fmt: skip
_PLAIN_EVERY_S = 5.0
_LIVE_EVERY_S = 0.2


class Progress:
    """Shows what is going on. A context manager: the live line is gone when it ends."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._search = ""
        self._points = self._fired = self._findings = 0
        self._counts: dict[str, int] = {}
        self._states: StatesTried | None = None
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        if self._live is not None and not self._quiet:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None and not self._quiet:
            self._live.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:  # noqa: D102 - a handler's one method
        if self._quiet:
            return
        if isinstance(event, SearchStarted):
            self._search = f"{event.search} {event.target}"
            self._points = self._fired = 0
            self._counts = {}
            self._states = None
            self._started = time.monotonic()
        elif isinstance(event, PointTried):
            self._points += 1
            self._fired += event.fired
            self._show()
        elif isinstance(event, StepsDone):
            self._counts = event.counts
            self._show()
        elif isinstance(event, StatesTried):
            self._states = event
            self._show()
        elif isinstance(event, Found):
            self._findings += event.promised
            label = "finding" if event.promised else "observation"
            self._console.print(Text(f"{label}: {event.finding.code}: {event.finding.message}"), soft_wrap=True)
        elif isinstance(event, Vacuous):
            self._console.print(Text(f"vacuous: {event.search}: {event.reason}"), soft_wrap=True)
        elif isinstance(event, SearchEnded):
            self._console.print(Text(f"{event.search} {event.target}: {summary(event)}"), soft_wrap=True)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < (_LIVE_EVERY_S if self._live else _PLAIN_EVERY_S):
            return
        self._shown = now
        line = Text(f"{self._search}: {self._what(now - self._started)}, {self._findings} findings")
        if self._live is not None:
            self._live.update(line, refresh=True)
        else:
            self._console.print(line, soft_wrap=True)

    def _what(self, seconds: float) -> str:
        if self._states is not None:
            rate = self._states.states / max(seconds, 0.001)
            return f"{self._states.states:,} crash states, {self._states.disks:,} disks, {rate:,.0f}/s"
        if self._counts:
            return f"{self._counts.get('stories', 0)} stories, {self._counts.get('steps', 0)} steps"
        return f"{self._points:,} fault points, {self._fired:,} fired, {self._points / max(seconds, 0.001):,.0f}/s"


def summary(event: SearchEnded) -> str:
    """What a search came to, in one line."""
    counts = ", ".join(f"{event.counts[name]:,} {name}" for name in _COUNTS if event.counts.get(name))
    return f"{counts or 'nothing'} in {event.seconds:.1f} s" + ("" if event.complete else " (cut short)")


def fault_points(recorder: Recorder) -> Table:
    """The table of fault points per kind of operation and effect; real kills have a table of their own."""
    table = Table(title="fault points", title_justify="left")
    for name in ("operation", "effect"):
        table.add_column(name)
    for name in ("tried", "fired", "surfaced", "absorbed"):
        table.add_column(name, justify="right")
    total = Tally()
    for series, tally in sorted(recorder.tallies.items(), key=lambda item: str(item[0])):
        if series.effect == faults.KILL:
            continue
        operation = series.kind if series.role == "any" else f"{series.kind}:{series.role}"
        effect = series.effect if series.timing == "before" else f"{series.effect} ({series.timing})"
        table.add_row(operation, effect, *_numbers(tally))
        total.tried += tally.tried
        total.fired += tally.fired
        total.surfaced += tally.surfaced
    table.add_section()
    table.add_row("all", "", *_numbers(total))
    return table


def crash_states(recorder: Recorder) -> Table:
    """What the crash states of each configuration came to."""
    table = Table(title="crash states", title_justify="left")
    table.add_column("configuration")
    for name in ("operations", "states", "disks", "recoveries", "lost some", "most lost", "came back", "damaged"):
        table.add_column(name, justify="right")
    for one in recorder.crashes:
        numbers = (one.operations, one.states, one.disks, one.recoveries, one.lossy, one.most_lost, one.reappeared)
        table.add_row(str(one.configuration), *(f"{number:,}" for number in (*numbers, one.damaged)))
    return table


def _numbers(tally: Tally) -> tuple[str, str, str, str]:
    return f"{tally.tried:,}", f"{tally.fired:,}", f"{tally.surfaced:,}", f"{tally.fired - tally.surfaced:,}"


def describe_finding(found: Found) -> str:
    """A finding as a paragraph: what failed, how to get there, and the line that replays it."""
    finding = found.finding
    lines = [
        f"{finding.code}: {CHECKS[finding.code].meaning}",
        f"  {finding.message}",
        *(f"  {line}" for line in str(finding.story).splitlines()),
        "  Reproduce with:",
        f"    {found.replay}",
    ]
    return "\n".join(lines)
