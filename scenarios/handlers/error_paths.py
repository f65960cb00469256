"""The error paths on a terminal: those that never ran, those that missed their rollback, and how many did run."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scenarios.error_paths.join import ErrorPath, ErrorPaths


def show_error_paths(found: ErrorPaths, console: Console) -> None:
    """Print what is wrong with them in full, and the rest as a number."""
    for title, paths in (
        ("error paths that never ran under a fault", _of_fate(found, "never")),
        ("error paths that ran although their comment says that no fault can reach them", found.stale),
    ):
        if paths:
            console.print(_table(title, paths))
    for path in found.paths:
        if path.place.kind != "rollback" and path.without_rollback:
            where = f"{path.place.file}:{path.place.line} {path.place.what}"
            missed = f"{path.without_rollback} times without a rollback, as under {path.missed_under}"
            console.print(Text(f"{where}: entered {missed}"), soft_wrap=True)
    console.print(Text(summary(found)), soft_wrap=True)


def summary(found: ErrorPaths) -> str:
    """One line: how many ran, how many have a reason not to, and the percentage."""
    ran, excused = (len([path for path in found.handlers if path.fate == fate]) for fate in ("ran", "excused"))
    rest = len(found.handlers) - excused
    reasons = f", {excused} more have a reason why no fault can reach them" if excused else ""
    return f"error paths: {ran} of {rest} ran under a fault ({found.percent:.1f} %){reasons}"


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
