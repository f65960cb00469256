"""The error paths on a terminal: those that never ran, those without a rollback, and the number that ran."""

from collections import Counter
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tornpage.scenarios.report.words import plural
from tornpage.scenarios.run.error_paths.join import ErrorPath, ErrorPaths, ExitStatus

_UNCOUNTED: Final[dict[ExitStatus, str]] = {
    "excused": "have a reason why no fault can reach them",
    "stale": "ran although their comment says that no fault can reach them",
    "undecided": "can't be told apart by lines",
}


def show_error_paths(found: ErrorPaths, console: Console) -> None:
    """Print the problems in full, and the rest as a number."""
    for title, paths in (
        ("error paths that never ran under a fault", _of_fate(found, "never")),
        ("error paths that ran although their comment says that no fault can reach them", found.stale),
        (
            "error paths that can't be told apart by lines: put the body on a line of its own",
            _of_fate(found, "undecided"),
        ),
    ):
        if paths:
            console.print(_table(title, paths))
    for path in found.paths:
        if path.place.kind != "rollback" and path.without_rollback:
            where = f"{path.place.file}:{path.place.line} {path.place.what}"
            missed = f"{plural(path.without_rollback, 'time')} without a rollback, as under {path.missed_under}"
            console.print(Text(f"{where}: entered {missed}"), soft_wrap=True)
    for note in _notes(found):
        console.print(Text(note), soft_wrap=True)
    console.print(Text(summary(found)), soft_wrap=True)


def summary(found: ErrorPaths) -> str:
    """One line: how many of those that count ran, the percentage, and the number not counted, with the reasons."""
    counts = Counter(path.fate for path in found.handlers)
    if not counts:
        return f"no error path in {', '.join(found.packages) or 'the given packages'}"
    words = "none counts"
    if found.counted:
        words = f"{counts['ran']} of {len(found.counted)} ran under a fault ({found.percent:.1f} %)"
    left_out = "".join(f", {counts[fate]} more {why}" for fate, why in _UNCOUNTED.items() if counts[fate])
    return f"error paths: {words}{left_out}"


def _notes(found: ErrorPaths) -> list[str]:
    """Packages and files that were requested but not covered."""
    imports = [f"error paths: {package} was never imported during the run" for package in found.never_imported]
    return imports + [f"error paths: {file} is left out: it can't be read as Python" for file in found.left_out]


def _of_fate(found: ErrorPaths, fate: str) -> tuple[ErrorPath, ...]:
    return tuple(path for path in found.paths if path.fate == fate)


def _table(title: str, paths: tuple[ErrorPath, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("where", "in", "what"):
        table.add_column(name, overflow="fold")
    table.add_column("without a fault")
    for path in paths:
        place = path.place
        cells = (f"{place.file}:{place.line}", place.function, place.what, "ran" if path.ran_without_fault else "")
        table.add_row(*map(Text, cells))
    return table
