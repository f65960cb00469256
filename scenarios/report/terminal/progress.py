"""Events on a terminal: a live line while a search runs, findings as they come, and the table at the end.

If standard error is not a terminal (CI, a pipe) the live line becomes a plain line every few seconds. Progress goes to
standard error, the verdict to standard output.
"""

import os
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tornpage import faults
from tornpage.scenarios.model.events import (
    Event,
    Found,
    PointTried,
    SearchEnded,
    SearchStarted,
    StatesTried,
    StepsDone,
    Vacuous,
)
from tornpage.scenarios.model.fingerprint import decisive_step
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.model.scenario import plainly
from tornpage.scenarios.report.words import counted, plural
from tornpage.scenarios.search.recorder import Recorder, Tally

_COUNTS = (
    "states", "disks", "latent_faults", "latent_refused", "latent_returned",
    "points", "tried", "equivalent", "fired", "surfaced", "scenarios", "steps", "calls", "armed",
    "restarts", "crashes", "power_cuts", "limits", "jumps", "actions", "shapes",
    "kills", "warm", "kinds", "hangs", "contentions", "waited", "unblocked", "missed", "findings",
)  # fmt: skip
_PLAIN_EVERY_S = 5.0
_LIVE_EVERY_S = 0.2


class Progress:
    """Shows the progress. A context manager: the live line is removed when it ends."""

    def __init__(
        self,
        console: Console,
        *,
        quiet: bool = False,
        verbose: bool = False,
        max_time_s: float | None = None,
        live: bool = True,
    ) -> None:
        self._console = console
        self._quiet = quiet
        self._verbose = verbose
        # A log keeps every state of a live line; some CI logs look like a terminal.
        is_live = live and console.is_terminal and not os.environ.get("CI")
        self._live = Live(console=console, transient=True, auto_refresh=False) if is_live else None
        self._until = None if max_time_s is None else monotonic() + max_time_s
        self._expected: int | None = None
        self._place: tuple[str, int, str] | None = None
        self._here = Tally()
        self._found_here = 0
        self._search = ""
        self._points = self._fired = self._findings = 0
        self._counts: dict[str, int] = {}
        self._states: StatesTried | None = None
        self._started = self._shown = monotonic()

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
            self._expected = event.expected
            self._points = self._fired = 0
            self._counts = {}
            self._states = None
            self._started = monotonic()
        elif isinstance(event, PointTried):
            self._points += 1
            self._fired += event.fired
            self._tell_place(event)
            self._show()
        elif isinstance(event, StepsDone):
            self._counts = event.counts
            self._show()
        elif isinstance(event, StatesTried):
            self._states = event
            self._show()
        elif isinstance(event, Found):
            counts = event.promised and not event.accepted_because
            self._findings += counts
            label = "finding" if counts else "accepted" if event.promised else "observation"
            self._console.print(Text(f"{label}: {event.finding.code}: {event.finding.message}"), soft_wrap=True)
        elif isinstance(event, Vacuous):
            self._console.print(Text(f"vacuous: {event.search}: {event.reason}"), soft_wrap=True)
        elif isinstance(event, SearchEnded):
            self._end_place()
            self._console.print(Text(f"{event.search} {event.target}: {summary(event)}"), soft_wrap=True)

    def _show(self) -> None:
        now = monotonic()
        if now - self._shown < (_LIVE_EVERY_S if self._live else _PLAIN_EVERY_S):
            return
        self._shown = now
        line = Text(f"{self._search}: {self._what(now - self._started)}, {self._found()}{self._left(now)}")
        if self._live is not None:
            self._live.update(line, refresh=True)
        else:
            self._console.print(line, soft_wrap=True)

    def _found(self) -> str:
        return plural(self._findings, "finding")

    def _left(self, now: float) -> str:
        """The time left: by the number of points to try, if known, and by the time limit.

        The second is for the whole run, not only this search.
        """
        seconds = now - self._started
        done = self._counts.get("scenarios", 0) or self._points
        left = []
        if self._expected and done:
            left.append(f"about {_time(max(self._expected - done, 0) * seconds / done)} left")
        if self._until is not None:
            left.append(f"at most {_time(max(self._until - now, 0))} left in all")
        return "".join(f", {one}" for one in left)

    def _tell_place(self, event: PointTried) -> None:
        """With --verbose: count the points of one call in one configuration."""
        place = (str(event.place.configuration), event.place.step, event.place.call)
        if place != self._place:
            self._end_place()
            self._place = place
        self._here.add(event)
        self._found_here += event.is_finding

    def _end_place(self) -> None:
        if self._place is not None and self._verbose:
            configuration, step, call = self._place
            points = (
                f"{plural(self._here.tried, 'point')}, {self._here.fired:,} fired, {self._here.surfaced:,} surfaced"
            )
            found = f", {self._found_here:,} with findings" if self._found_here else ""
            self._console.print(Text(f"  {configuration} {step}. {call}: {points}{found}"), soft_wrap=True)
        self._place, self._here, self._found_here = None, Tally(), 0

    def _what(self, seconds: float) -> str:
        if self._states is not None:
            rate = self._states.states / max(seconds, 0.001)
            return f"{self._states.states:,} crash states, {self._states.disks:,} disks, {rate:,.0f}/s"
        if self._counts:
            scenarios, steps = (self._counts.get(name, 0) for name in ("scenarios", "steps"))
            return f"{plural(scenarios, 'scenario')}, {plural(steps, 'step')}"
        return f"{self._points:,} fault points, {self._fired:,} fired, {self._points / max(seconds, 0.001):,.0f}/s"


def _time(seconds: float) -> str:
    """Such as "42 s", "7 min" and "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"


def summary(event: SearchEnded) -> str:
    """The result of a search, in one line."""
    met = {name: event.counts[name] for name in _COUNTS if event.counts.get(name)}
    counts = ", ".join(counted(count, name) for name, count in met.items())
    return f"{counts or 'nothing'} in {event.seconds:.1f} s" + ("" if event.complete else " (cut short)")


def fault_points(recorder: Recorder) -> Table:
    """The table of fault points per kind of operation and effect; kills have a table of their own."""
    table = Table(title="fault points", title_justify="left")
    for name in ("operation", "effect"):
        table.add_column(name)
    for name in ("tried", "fired", "surfaced", "absorbed", "failed"):
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
        total.failed += tally.failed
    table.add_section()
    table.add_row("all", "", *_numbers(total))
    return table


def crash_states(recorder: Recorder) -> Table:
    """The results of the crash states of each configuration."""
    table = Table(title="crash states", title_justify="left")
    table.add_column("configuration")
    for name in ("operations", "states", "of", "disks", "recoveries", "lost some", "most lost", "came back", "damaged"):
        table.add_column(name, justify="right")
    for one in recorder.crashes:
        numbers = (
            one.operations,
            one.states,
            max(one.enumerable, one.states),
            one.disks,
            one.recoveries,
            one.lossy,
            one.most_lost,
            one.reappeared,
        )
        table.add_row(str(one.configuration), *(f"{number:,}" for number in (*numbers, one.damaged)))
    return table


def _numbers(tally: Tally) -> tuple[str, ...]:
    numbers = (tally.tried, tally.fired, tally.surfaced, tally.absorbed, tally.failed)
    return tuple(f"{number:,}" for number in numbers)


def describe_finding(found: Found, also: tuple[str, ...] = (), where: str = "", alike: Sequence[Found] = ()) -> str:
    """A finding as a paragraph: what failed, its scenario, the line that replays it, and `where` in the code it is.

    `also` are other places of this finding; `alike` are findings that may have the same cause, which get a line each
    and one to replay them.
    """
    finding = found.finding
    lines = [
        f"{finding.code}: {CHECKS[finding.code].meaning}",
        f"  {finding.message}",
        *(f"  {line}" for line in str(finding.scenario).splitlines()),
        "  Reproduce with:",
        f"    {found.replay}",
        *(["  In the code:", f"    {where}"] if where else []),
        *(["  Also at:"] if also else []),
        *(f"    {line}" for line in also),
        *(["  Maybe of the same cause:"] if alike else []),
        *(f"    {line}" for one in alike for line in _briefly(one)),
    ]
    return "\n".join(lines)


def _briefly(found: Found) -> tuple[str, str]:
    scenario = found.finding.scenario
    step = decisive_step(scenario)
    call = f"{plainly(scenario.steps[step])} in " if step is not None else ""
    return f"{found.finding.code}: {call}{scenario.configuration}: {found.finding.message}", f"  {found.replay}"
