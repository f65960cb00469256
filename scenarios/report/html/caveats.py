"""Limits of a verdict, shown before the verdict."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from tornpage.scenarios.report.words import plural
from tornpage.scenarios.run.record import OUTCOMES, RunRecord
from tornpage.scenarios.targets.names import COMMAND_PREFIX

_DEPTHS: Final = {
    "vfs": "operations of SQLite on its files can't be made to fail",
    "statement": "BEGIN, single statements and COMMIT can't be made to fail",
}
_SEARCHES: Final = {
    "sweep": "single faults",
    "syscalls": "system calls that fail",
    "crash": "power cuts and crashes",
    "contend": "locks that others hold",
    "interleave": "two callers at once",
    "limits": "memory, space and time that run out",
    "kill": "processes that are really killed",
    "fuzz": "calls and faults in any order",
}
_SHOWN: Final = 12
_HARMLESS: Final = (
    "a rival that blocked no call, or a limit that was not met, does no harm; a fault of the sweep would be vacuous"
)


class Caveat(msgspec.Struct, frozen=True):
    """One caveat: a short title, its severity ("vacuous", "partial" or "scope"), and its lines."""

    title: str
    kind: str
    lines: tuple[str, ...]
    more: tuple[str, ...] = ()


def caveats_of(record: RunRecord) -> tuple[Caveat, ...]:
    """All caveats, the most severe first."""
    return tuple(_caveats(record))


def _caveats(record: RunRecord) -> Iterator[Caveat]:
    yield from _nothing_tested(record)
    if not record.complete:
        cut = [f"{ended.search} was cut short" for ended in record.searches if not ended.complete]
        yield Caveat("Partial: not everything was tried", "partial", tuple(cut or ["the run did not finish"]))
    if record.shard:
        yield Caveat(
            f"Share {record.shard} of the work", "partial", ("tornpage report merge puts all shares together",)
        )
    if record.depths is not None and "syscall" not in record.depths:
        out = tuple(f"{depth}: {what}" for depth, what in _DEPTHS.items() if depth not in record.depths)
        if out:
            yield Caveat("Depths out of reach of this target", "scope", out)
    if lacking := tuple(str(one) for one in record.libraries if one.unreachable or one.out_of_reach):
        yield Caveat("Out of reach in a library", "scope", lacking)
    if record.unpromised:
        lines = tuple(f"{check}: {reason}" for check, reason in sorted(record.unpromised.items()))
        yield Caveat("Not promised: failures of these checks are observations, not findings", "scope", lines)
    yield from _not_searched(record)
    if record.baseline_notes:
        yield Caveat("The baseline", "partial", record.baseline_notes)
    if record.error_paths is not None and record.error_paths.stale:
        lines = tuple(f"{one.place.file}:{one.place.line}" for one in record.error_paths.stale)
        yield Caveat("Excuses of error paths that ran after all", "scope", lines)


def _not_searched(record: RunRecord) -> Iterator[Caveat]:
    ran = {ended.search for ended in record.searches}
    # A program of its own fails in its system calls, any other target in SQLite's operations.
    other = "sweep" if record.target.startswith(COMMAND_PREFIX) or "syscalls" in ran else "syscalls"
    left = [name for name in _SEARCHES if name not in {*ran, other}]
    if ran and left:
        yield Caveat("Not searched", "scope", tuple(f"{name}: {_SEARCHES[name]}" for name in left))


def _nothing_tested(record: RunRecord) -> Iterator[Caveat]:
    if record.vacuous:
        lines = [f"{reason} ({seen} times)" if seen > 1 else reason for reason, seen in _reasons(record).items()]
        yield Caveat(
            "Vacuous: this was to be tested, and was not", "vacuous", tuple(lines[:_SHOWN]), tuple(lines[_SHOWN:])
        )
    texts = (*record.texts, "points")
    never = Counter(texts[point.search] for point in record.points if OUTCOMES[point.outcome] == "not-fired")
    if never:
        parts = ", ".join(f"{count:,} by {search}" for search, count in sorted(never.items()))
        yield Caveat(
            "Points that never fired",
            "scope",
            (f"{never.total():,} of {plural(len(record.points), 'point')}, marked n in the map: {parts}", _HARMLESS),
        )


def _reasons(record: RunRecord) -> Counter[str]:
    return Counter(f"{one.search}: {one.reason}" for one in record.vacuous)
