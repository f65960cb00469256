"""The lines that ran in each context, joined with the error paths: which ran, under which faults, and which did not."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from tornpage.scenarios.run.error_paths.places import Place

ExitStatus = Literal["ran", "never", "excused", "stale", "undecided"]
_SHOWN: Final = 5


class ErrorPath(msgspec.Struct, frozen=True):
    """The coverage of one error path.

    `fate`: "ran" under a fault; "never"; "excused", never and with a reason; "stale", a reason although it ran;
    "undecided", its line also runs without it, so lines can't tell. `points` is the number of contexts with a fault in
    which it ran, `faults` their commonest kinds; `without_rollback` in how many of them none of its rollbacks ran,
    `missed_under` one such fault.
    """

    place: Place
    fate: ExitStatus
    points: int
    faults: dict[str, int]
    ran_without_fault: bool
    without_rollback: int = 0
    missed_under: str = ""


class ErrorPaths(msgspec.Struct, frozen=True):
    """All error paths. `percent` is of those that ran or never did; 100 if there are none.

    `packages` are the requested ones, `never_imported` those of which the run imported no file; `left_out` are their
    files that can't be parsed as Python, such as templates.
    """

    paths: tuple[ErrorPath, ...]
    packages: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    never_imported: tuple[str, ...] = ()

    @property
    def handlers(self) -> tuple[ErrorPath, ...]:
        """The handlers and ``finally`` blocks; rollbacks are shown, but not counted twice."""
        return tuple(path for path in self.paths if path.place.kind != "rollback")

    @property
    def percent(self) -> float:
        """How many of the handlers that a fault can reach have run under one, in percent."""
        wanted = self.counted
        return 100.0 * sum(path.fate == "ran" for path in wanted) / len(wanted) if wanted else 100.0

    @property
    def counted(self) -> tuple[ErrorPath, ...]:
        """The handlers that the percentage covers: without an excuse, and decidable by lines."""
        return tuple(path for path in self.handlers if path.fate in {"ran", "never"})

    @property
    def stale(self) -> tuple[ErrorPath, ...]:
        """Those with an excuse although they ran."""
        return tuple(path for path in self.paths if path.fate == "stale")


def join(
    places: Sequence[Place], ran: Mapping[str, Mapping[int, Iterable[str]]], labels: Mapping[str, str]
) -> ErrorPaths:
    """Join places with the contexts of each line; `labels` gives the fault of each context, "" for none."""
    return ErrorPaths(tuple(_path(place, ran.get(place.file, {}), labels) for place in places))


def _path(place: Place, lines: Mapping[int, Iterable[str]], labels: Mapping[str, str]) -> ErrorPath:
    if place.undecided:
        return ErrorPath(place, "excused" if place.excuse else "undecided", 0, {}, ran_without_fault=False)
    contexts = {context for line in place.lines for context in lines.get(line, ())}
    troubled = {context for context in contexts if labels.get(context)}
    reached = {context for line in place.rollbacks for context in lines.get(line, ())}
    missed = sorted(troubled - reached, key=int) if place.rollbacks else []
    faults = Counter(labels[context] for context in troubled)
    commonest = sorted(faults.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    ran = bool(troubled)
    fate: ExitStatus = ("stale" if ran else "excused") if place.excuse else ("ran" if ran else "never")
    return ErrorPath(
        place,
        fate,
        len(troubled),
        dict(commonest),
        len(contexts) > len(troubled),
        len(missed),
        labels[missed[0]] if missed else "",
    )
