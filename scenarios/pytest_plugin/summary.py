"""The end of a session of pytest: the results of all faults, and annotations on GitHub Actions."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tornpage.faults.sqlite_library import sqlite3


def values(report: pytest.TestReport, name: str) -> list[Any]:
    """The values of one property of a report."""
    return [value for one, value in report.user_properties if one == name]


def number(report: pytest.TestReport, name: str) -> int:
    """The sum of the values of one property."""
    return sum(int(value) for value in values(report, name))


def show(reports: Iterable[pytest.TestReport], terminal: Any) -> None:
    """Write the summary; `reports` are those that carry properties of ours, of each test one or more."""
    last = {report.nodeid: report for report in reports}
    terminal.section(f"faults beneath SQLite {sqlite3.sqlite_version}")
    for line in _lines(list(last.values())):
        terminal.write_line(line)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for report in last.values():
            for line in annotations(report):
                terminal.write_line(line)


def _lines(reports: list[pytest.TestReport]) -> Iterator[str]:
    swept = [one for one in reports if values(one, "tornpage_points")]
    if swept:
        counts = [
            f"{sum(number(one, f'tornpage_{name}') for one in swept):,} {name}"
            for name in ("fired", "surfaced", "absorbed", "failed")
        ]
        points = sum(number(one, "tornpage_points") for one in swept)
        yield f"every_fault: {_plural(len(swept), 'test')}, {_plural(points, 'fault point')}: {', '.join(counts)}"
    for one in swept:
        yield from _notes(one)
    armed = [one for one in reports if values(one, "tornpage_armed")]
    if armed:
        fired = sum(number(one, "tornpage_fired") for one in armed)
        total = sum(number(one, "tornpage_armed") for one in armed)
        yield f"with_faults: {_plural(len(armed), 'test')}, {total} armed, {fired} fired"
    crashed = [one for one in reports if values(one, "tornpage_disks")]
    if crashed:
        disks = sum(number(one, "tornpage_disks") for one in crashed)
        yield f"crash_states: {_plural(len(crashed), 'test')}, {_plural(disks, 'disk')}"
    for one in reports:
        for name in ("unpromised", "unsuited", "searched"):
            yield from (f"{one.nodeid}: {text}" for text in values(one, f"tornpage_{name}"))


def _notes(report: pytest.TestReport) -> Iterator[str]:
    points = number(report, "tornpage_points")
    if possible := number(report, "tornpage_possible"):
        yield f"{report.nodeid}: a sample of {points:,} of {possible:,} fault points"
    if values(report, "tornpage_repeated"):
        yield f"{report.nodeid}: {_times(number(report, 'tornpage_repeated'))} the caller tried again"
    if unjudged := number(report, "tornpage_not_repeated"):
        yield f"{report.nodeid}: {_plural(unjudged, 'point')} not judged by retry"
    if left := number(report, "tornpage_left_open"):
        yield f"{report.nodeid}: {_plural(left, 'connection')} left open, and closed after the run"
    yield from _irregular(report)
    if vacuous := number(report, "tornpage_vacuous"):
        yield f"{report.nodeid}: vacuous, {_plural(vacuous, 'time')}"


def _irregular(report: pytest.TestReport) -> Iterator[str]:
    """Differences between runs, and things that a fault has left behind."""
    workers = number(report, "tornpage_threads")
    if moved := number(report, "tornpage_moved"):
        why = f"; {_plural(workers, 'thread')} share the work" if workers else ""
        yield f"{report.nodeid}: {_plural(moved, 'point')} tried at an earlier operation: fewer came than at first{why}"
    if missing := number(report, "tornpage_did_not_come"):
        yield (
            f"{report.nodeid}: {_plural(missing, 'point')} not judged: {_plural(workers, 'thread')} share the work, "
            "and their operations differ from run to run"
        )
    for kinds in values(report, "tornpage_threads_left_kinds"):
        left = number(report, "tornpage_threads_left")
        yield f"{report.nodeid}: {_plural(left, 'thread')} left behind after a fault: {kinds}"
    for reason in values(report, "tornpage_stopped"):
        yield f"{report.nodeid}: {_plural(number(report, 'tornpage_untried'), 'point')} not tried: {reason}"


def annotations(report: pytest.TestReport) -> Iterator[str]:
    """Workflow commands that put each failing point beside the test's line."""
    file, line, _ = report.location
    for text in values(report, "tornpage_failed_at"):
        yield f"::error file={_property(file)},line={(line or 0) + 1},title=tornpage::{_message(str(text))}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"
