"""Options for gates and other tools: a baseline, JUnit, SARIF, GitHub, a history, events and observations.

Every search has these options. A file that can't be written prints one line on standard error, and makes the exit code
2; one that can't be read ends the command before the run.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from tornpage.scenarios.model.events import Event, Handler
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.report import github
from tornpage.scenarios.report.baseline import Baseline, BaselineError
from tornpage.scenarios.report.history import History, HistoryError, line_of
from tornpage.scenarios.report.json_lines import JsonLines, lines_in
from tornpage.scenarios.report.junit import junit
from tornpage.scenarios.report.observations import observing
from tornpage.scenarios.report.sarif import sarif
from tornpage.scenarios.report.summary import summary
from tornpage.scenarios.run.campaign import searches_for
from tornpage.scenarios.run.record import RunRecord
from tornpage.scenarios.run.whole_file import report_directory, why_not_writable, write_whole

_FILE: Final = click.Path(dir_okay=False, path_type=Path)

OPTIONS: Final = (
    click.option(
        "--baseline", type=_FILE, help="Fail only on findings that this file does not accept; see docs/ci.md."
    ),
    click.option("--junit", type=_FILE, help="Also write the run as JUnit XML."),
    click.option("--sarif", type=_FILE, help="Also write the run as SARIF, for code scanning."),
    click.option("--history", type=_FILE, help="Add this run to a history, an SQLite file."),
    click.option("--events", type=_FILE, help="Write all events as JSON lines."),
    click.option(
        "--observe",
        type=click.Path(file_okay=False, path_type=Path),
        help="Write observations, as Hypothesis has them, to this directory.",
    ),
)
# The paths of a run's output files don't change the run.
NOT_REPEATED: Final = frozenset(("junit", "sarif", "history", "events", "observe"))


def today() -> date:
    """The day, in UTC: a baseline must not expire at another hour on another machine."""
    return datetime.now(UTC).date()


def baseline_of(options: Mapping[str, Any]) -> Baseline | None:
    """The requested baseline; raises a usage error if it can't be used."""
    try:
        return Baseline.read(options["baseline"], today()) if options["baseline"] else None
    except BaselineError as error:
        raise click.UsageError(str(error)) from error


@contextlib.contextmanager
def watching(options: Mapping[str, Any]) -> Iterator[tuple[Handler, ...]]:
    """The additional handlers of a run's events."""
    handlers: list[Handler] = []
    with contextlib.ExitStack() as scope:
        try:
            if options["events"]:
                options["events"].parent.mkdir(parents=True, exist_ok=True)
                stream = scope.enter_context(lines_in(options["events"], "w"))
                handlers.append(_Careful(JsonLines(stream, points=True), "events"))
            if options["observe"]:
                handlers.append(_Careful(scope.enter_context(observing(options["observe"], today())), "observations"))
        except OSError as error:
            raise click.UsageError(f"cannot write {error.filename}: {error.strerror}") from error
        yield tuple(handlers)


class _Careful:
    """A handler that stops when its file can't be written any more, and reports that once."""

    def __init__(self, handler: Handler, what: str) -> None:
        self._handler: Handler | None = handler
        self._what = what

    def __call__(self, event: Event) -> None:
        if self._handler is None:
            return
        try:
            self._handler(event)
        except OSError as error:
            self._handler = None
            click.echo(f"no more {self._what} from here on: {error}", err=True)


class Outputs:
    """The requested output files; `missing` are those that could not be written."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Inside this scope a failed write prints one line, and the run ends with exit code 2."""
        try:
            yield
        except (OSError, HistoryError) as error:
            self.missing.append(what)
            click.echo(f"no {what}: {error}", err=True)


def require_writable(report: Path | None, options: Mapping[str, Any]) -> None:
    """Raise `click.UsageError` for a requested file that can't be written: before the run, not after it."""
    for name in ("html", "junit", "sarif", "history", "events"):
        path = options.get(name)
        if path is not None and (reason := why_not_writable(path)):
            raise click.UsageError(f"--{name} {path}: {reason}")
    if report is not None:
        try:
            report_directory(report)
        except OSError as error:
            raise click.UsageError(
                f"--report {report}: {error.strerror}; name a directory that can be written"
            ) from error


def completed(
    record: RunRecord, target: Target, baseline: Baseline | None, options: Mapping[str, Any], outputs: Outputs
) -> RunRecord:
    """The record with the baseline's notes, and the history so far."""
    if baseline is not None:
        searched = {one.search for one in record.searches}
        whole = record.complete and searched >= set(searches_for(target)) and not options["configurations"]
        record = msgspec.structs.replace(record, baseline_notes=baseline.notes(target.name, whole=whole))
    if options["history"]:
        with outputs.writing("line in the history"), _history(options["history"]) as history:
            history.append(line_of(record))
            record = msgspec.structs.replace(record, trend=history.trend(target.name))
    return record


def deliver(record: RunRecord, options: Mapping[str, Any], outputs: Outputs) -> None:
    """Write the requested files, and GitHub's annotations if the run is on GitHub Actions."""
    makers: dict[str, Callable[[RunRecord], str]] = {"junit": junit, "sarif": sarif}
    for name, make in makers.items():
        if options[name]:
            with outputs.writing(f"{name} of this run"):
                write_whole(options[name], make(record))
    with outputs.writing("summary of this run"):
        # Standard output is for the result; GitHub reads both streams.
        click.echo(github.tell(record, summary(record)), err=True, nl=False)


@contextlib.contextmanager
def _history(path: Path) -> Iterator[History]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with History(path) as history:
        yield history
