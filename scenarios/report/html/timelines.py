"""A finding's timeline as it is drawn: states as letters, faults as bands, and where the lanes differ."""

from collections.abc import Iterator
from itertools import groupby

import msgspec

from tornpage.scenarios.execution.finding.trace import Moment, Trace
from tornpage.scenarios.execution.finding.views import VIEWS

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Band(msgspec.Struct, frozen=True):
    """The plan armed over so many moments; an empty text is a gap."""

    text: str
    moments: int


class Cell(msgspec.Struct, frozen=True):
    """One lane after one moment: the letter of its state, whether it is a new one, and whether others differ."""

    letter: str
    is_new: bool
    differs: bool
    changes: tuple[str, ...]
    reason: str


class Card(msgspec.Struct, frozen=True):
    """One moment for a narrow screen: its lanes, and their changes, once if several changed alike."""

    moment: Moment
    armed: str
    lanes: tuple[tuple[str, Cell], ...]
    changes: tuple[tuple[str, tuple[str, ...]], ...]


class Drawn(msgspec.Struct, frozen=True):
    """A timeline with everything that a template needs: rows for a table, and cards where that would be too wide."""

    moments: tuple[Moment, ...]
    first: int | None
    bands: tuple[Band, ...]
    # The answers of callers, in one lane; in three, if two callers took turns.
    answers: tuple[tuple[str, tuple[str, ...]], ...]
    lanes: tuple[tuple[str, tuple[Cell, ...]], ...]
    cards: tuple[Card, ...]


def drawn(timeline: Trace) -> Drawn:
    """The timeline as rows of cells, and as cards."""
    armed = [Band("; ".join(text), len(list(them))) for text, them in groupby(one.armed for one in timeline.moments)]
    lanes = tuple((name, tuple(_cells(timeline.moments, name))) for name in VIEWS)
    return Drawn(
        timeline.moments,
        timeline.first_difference,
        tuple(armed),
        tuple(_answers(timeline.moments)),
        lanes,
        tuple(
            _card(moment, [(name, cells[index]) for name, cells in lanes])
            for index, moment in enumerate(timeline.moments)
        ),
    )


def _card(moment: Moment, lanes: list[tuple[str, Cell]]) -> Card:
    changed: dict[tuple[str, ...], list[str]] = {}
    for name, cell in lanes:
        if cell.changes:
            changed.setdefault(cell.changes, []).append(name)
    changes = tuple((", ".join(names), lines) for lines, names in changed.items())
    return Card(moment, "; ".join(moment.armed), tuple(lanes), changes)


def _answers(moments: tuple[Moment, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for caller in sorted({"", *(one.caller for one in moments)}):
        said = tuple(one.outcome if one.caller == caller else "" for one in moments)
        if any(said):
            yield f"caller {caller}" if caller else "answer", said


def _cells(moments: tuple[Moment, ...], name: str) -> list[Cell]:
    cells = []
    before: int | None = None
    for moment in moments:
        lane = moment.lanes[name]
        others = {one.state for one in moment.lanes.values() if one.state is not None}
        cells.append(
            Cell(
                _letter(lane.state),
                lane.state is not None and lane.state != before,
                lane.state is not None and len(others) > 1,
                lane.changes,
                lane.reason,
            )
        )
        before = lane.state if lane.state is not None else before
    return cells


def _letter(state: int | None) -> str:
    if state is None:
        return ""
    turns, place = divmod(state, len(_ALPHABET))
    return _ALPHABET[place] + (str(turns) if turns else "")
