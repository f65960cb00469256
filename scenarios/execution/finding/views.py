"""The views of a store at one moment, and where they differ.

They are the process's own view (*memory*), that of a fresh reader of the file (*disk*), and that of a copy of the files
when it is opened as after a crash (*reopened*).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from tornpage.scenarios.execution.reopen import Reopened
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.judging.absent import ABSENT
from tornpage.scenarios.model.target import View

VIEWS: Final = ("memory", "disk", "reopened")
# A key's value that is None.
NONE: Final = "None"


class Row(msgspec.Struct, frozen=True):
    """One key at which the views differ: None for a view without that key, `NONE` for one that has None."""

    key: str
    sides: dict[str, Any]


def views_of(trial: Trial, *, memory: bool = True) -> tuple[dict[str, View], dict[str, str]]:
    """The current views of memory, disk and a reopened copy; and the reasons for views that can't be read.

    Without `memory` the session is not read.
    """
    views: dict[str, View] = {}
    failing: dict[str, str] = {}
    copy = trial.crash_copy()
    looks: dict[str, Callable[[], View | None]] = {
        "memory": lambda: trial.live_view() if memory and trial.session is not None else None,
        "disk": lambda: trial.fresh_view(integrity=False),
        "reopened": lambda: _reopened(trial, copy),
    }
    for name, look in looks.items():
        try:
            view = look()
        except Exception as error:  # noqa: BLE001 - whatever a broken store raises is shown
            failing[name] = str(error)
            error.__traceback__ = None
        else:
            if view is not None:
                views[name] = view
    return views, failing


def _reopened(trial: Trial, files: dict[str, bytes]) -> View:
    home = trial.directory.with_name("trace-of-" + trial.directory.name)
    return Reopened(trial.target, trial.oracle.configuration, home).view_of(
        files, trial.environment.now_ms, trial.directory
    )


def rows_of(views: Mapping[str, View]) -> tuple[Row, ...]:
    """The keys at which views are not all the same."""
    keys = sorted({key for view in views.values() for key in view}, key=str)
    rows = []
    for key in keys:
        first, *others = sides = [view.get(key, ABSENT) for view in views.values()]
        if any(side != first for side in others):
            rows.append(Row(key, dict(zip(views, map(_shown, sides), strict=True))))
    return tuple(rows)


def _shown(side: Any) -> Any:
    return None if side is ABSENT else NONE if side is None else side
