"""Wording shared by several reports."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from tornpage.scenarios.model.events import CrashesTried, Extent, SearchEnded
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.report.causes import by_cause
from tornpage.scenarios.run.campaign import EVIDENCE
from tornpage.scenarios.run.record import FoundRecord, RunRecord

# The points of a search, if it counts all there are; crash states have a count of their own.
_POINTS: Final = {
    "sweep": ("points", "variants"),
    "syscalls": ("points", "variants"),
    "contend": ("points", "rivals"),
    "limits": ("limits_in_all", "limits"),
}
_COUNTED: Final = frozenset((*_POINTS, "crash"))
_VERDICTS: Final = {
    Exit.HOLDS: "HOLDS: no check failed",
    Exit.FINDING: "FAILED",
    Exit.NOT_TESTED: "INCONCLUSIVE: a part of the run tested nothing",
    Exit.INTERRUPTED: "INTERRUPTED: these are the results until then",
}


def headline(record: RunRecord) -> str:
    """The verdict in one line, as on the terminal."""
    words = _VERDICTS[Exit(record.exit_code)]
    if record.findings:
        causes = len(by_cause(record.findings))
        words += f" with {plural(len(record.findings), 'finding')}"
        words += f", maybe of {plural(causes, 'cause')}" if causes < len(record.findings) else ""
    if record.accepted:
        words += f", {len(record.accepted):,} accepted by the baseline"
    if record.observations:
        words += f", {plural(len(record.observations), 'observation')} of checks it does not promise"
    if is_partial(record):
        words += f" (PARTIAL: {why_partial(record)})"
    if record.shard:
        words += f" (share {record.shard} of the work; tornpage report merge judges the whole)"
    tried = extent(record) if record.exit_code == Exit.HOLDS else ""
    return f"{record.target}: {words}. {evidence(record) or 'Nothing was tested'}" + (f". {tried}" if tried else "")


def extent(record: RunRecord) -> str:
    """How much of the space was tried, such as "SAMPLED: every operation failed (40 of 40), 60 of 300 variants"."""
    if not record.extent:
        return ""
    searches = searches_of(record)
    parts = [part for ended in searches if (part := _tried_of(ended))]
    if there := sum(max(one.enumerable, one.states) for one in record.crash_states):
        parts.append(_share(sum(one.states for one in record.crash_states), there, "crash states"))
        if any(one.left_out for one in record.crash_states):
            parts.append("faults and recoveries before a crash in part")
    rest = [one.search for one in searches if one.search not in _COUNTED and one.extent != "exhaustive"]
    parts += [f"{', '.join(rest)} in part"] if rest else []
    return f"{record.extent}: {'; '.join(parts)}"


def _tried_of(ended: SearchEnded) -> str:
    """The operations that have failed, and the points that were tried, of all that there are."""
    counts, parts = ended.counts, []
    known = "" if ended.complete else " of the calls reached"
    if there := counts.get("operations", 0):
        failed = counts.get("operations_failed", 0)
        is_every = failed == there and ended.complete
        parts.append(f"{'every operation' if is_every else 'operations'} failed ({failed:,} of {there:,}{known})")
    name, what = _POINTS.get(ended.search, ("", ""))
    if points := counts.get(name, 0):
        parts.append(_share(counts.get("tried", 0), points, what) + ("" if parts else known))
    return ", ".join(parts)


def _share(tried: int, there: int, what: str) -> str:
    named = unit(there, what)
    return f"all {there:,} {named}" if tried >= there > 1 else f"{tried:,} of {there:,} {named}"


def is_partial(record: RunRecord) -> bool:
    """Whether it ended early by itself; a run with enough findings, or an interrupted one, has another reason."""
    return not record.complete and not record.findings and record.exit_code != Exit.INTERRUPTED


def why_partial(record: RunRecord) -> str:
    """What a partial run says of itself; where a search died or could not go on, its own line has the reason."""
    return "not everything was tried" if record.vacuous else "the time was up before everything was tried"


def evidence(record: RunRecord) -> str:
    """The evidence of a run, such as "5,210 faults fired"; "" for none."""
    counts = {name: sum(ended.counts.get(name, 0) for ended in record.searches) for name in EVIDENCE}
    return ", ".join(f"{count:,} {unit(count, EVIDENCE[name])}" for name, count in counts.items() if count)


def searches_of(record: RunRecord) -> tuple[SearchEnded, ...]:
    """Each search of each target once: those of a merged record, which has those of every run, are added up."""
    united: dict[tuple[str, str], SearchEnded] = {}
    for ended in record.searches:
        key = (ended.search, ended.target)
        before = united.get(key)
        if before is None:
            united[key] = ended
            continue
        counts = Counter(before.counts)
        counts.update(ended.counts)
        seconds, complete = before.seconds + ended.seconds, before.complete and ended.complete
        united[key] = SearchEnded(
            *key, dict(counts), seconds, complete, (*before.notes, *ended.notes), extent=_extent_of(before, ended)
        )
    return tuple(united.values())


def _extent_of(one: SearchEnded, other: SearchEnded) -> Extent:
    if one.extent == other.extent:
        return one.extent
    return "sampled" if one.extent and other.extent else ""


def place_of(found: FoundRecord) -> tuple[str, int] | None:
    """The file and the line of a finding; None if unknown."""
    file, _, line = found.where.rpartition(":")
    return (file, int(line)) if file and line.isdigit() else None


def shortest(findings: Iterable[FoundRecord]) -> FoundRecord:
    """The finding with the fewest steps."""
    return min(findings, key=lambda found: len(found.scenario.steps))


def plural(number: int, noun: str, many: str = "") -> str:
    """Such as "1 finding" and "2 findings"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {many or noun + 's'}"


def left_out(crashes: Iterable[CrashesTried]) -> list[str]:
    """What the crash search has not tried of each configuration, a line each; empty for nothing."""
    lines = []
    for one in crashes:
        rest = {"crash states": one.enumerable - one.states, **one.left_out}
        if shown := [f"{number:,} {unit(number, what)}" for what, number in sorted(rest.items()) if number > 0]:
            lines.append(f"{one.configuration}: left out: {'; '.join(shown)}")
    return lines


_ONE_OF: Final = {
    "crashes": "crash", "processes killed": "process killed", "crash states tried": "crash state tried",
    "faults fired": "fault fired", "locks contended": "lock contended", "limits met": "limit met",
    "schedules of two callers": "schedule of two callers", "recoveries": "recovery",
    "operations_failed": "operation_failed",
    "faults of a recovery": "fault of a recovery", "single losses": "single loss",
    **{
        many: many.removesuffix("s")
        for many in (
            "states", "disks", "points", "scenarios", "steps", "calls", "restarts", "power_cuts", "limits", "jumps",
            "actions", "shapes", "kills", "kinds", "hangs", "contentions", "findings", "leaks", "operations",
            "variants", "rivals", "crash states", "schedules", "pairs", "answers",
        )
    },
}  # fmt: skip


def counted(number: int, name: str) -> str:
    """A count of a search with its unit, such as "78 failed a check": one finding may be met at many points."""
    what = "failed a check" if name == "findings" else unit(number, name)
    return f"{number:,} {what.replace('_', ' ')}"


def unit(number: int, many: str) -> str:
    """The unit of a count: "findings", or "finding" for one."""
    return _ONE_OF.get(many, many) if number == 1 else many
