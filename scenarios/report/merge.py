"""Several runs as one: the jobs of a matrix, the nights of a week, one target or many.

Findings of one fingerprint and one target are one finding, with its shortest scenario; a finding that one run accepts
and another one doesn't counts. Counts are added, points and crash states concatenated, vacuous parts united. The
verdict follows the rule of a single run.

Nothing is counted twice: a run is identified by its id, and one that is given again, alone or inside a merged record,
is skipped and reported. Records that share a run, and each have one that the other has not, can't be separated: that is
an error.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from tornpage.scenarios.model.events import SearchEnded, Vacuous, extent_of
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.fingerprint import fingerprint
from tornpage.scenarios.model.work import Shard, unmet
from tornpage.scenarios.run.campaign import EVIDENCE
from tornpage.scenarios.run.record import FoundRecord, PartRecord, PointRecord, RunRecord, SeriesRecord

_Item = TypeVar("_Item")


class MergeError(ValueError):
    """Records that can't be merged: why."""


class Merged(msgspec.Struct, frozen=True):
    """The record of all runs, and the ids of those that were given more than once."""

    record: RunRecord
    repeated: tuple[str, ...]


def merge(records: Iterable[RunRecord]) -> Merged:
    """One record of several; raises `MergeError` if there is none, or some can't be separated."""
    # A record of many runs comes before those that may be part of it.
    given = sorted(records, key=lambda record: -len(parts_of(record)))
    kept: list[RunRecord] = []
    repeated: list[str] = []
    known: set[str] = set()
    for record in given:
        ids = {part.run_id for part in parts_of(record)}
        if ids <= known:
            repeated += sorted(ids)
        elif ids & known:
            shared = ", ".join(sorted(ids & known))
            raise MergeError(f"two records share the run {shared}, and can't be separated: merge the original records")
        else:
            known |= ids
            kept.append(record)
    if not kept:
        raise MergeError("there is no record to merge")
    kept.sort(key=lambda record: (record.started_at, record.target, record.seed, record.run_id))
    return Merged(_one_of(kept), tuple(repeated))


def parts_of(record: RunRecord) -> tuple[PartRecord, ...]:
    """The single runs in a record."""
    if record.runs:
        return record.runs
    values = {name: getattr(record, name) for name in PartRecord.__struct_fields__}
    # A record without an id is identified by its content.
    return (PartRecord(**{**values, "run_id": record.run_id or _digest(record)}),)


def _digest(record: RunRecord) -> str:
    words = (record.started_at, record.target, str(record.seconds), str(record.seed), record.system)
    return "without-an-id:" + ":".join(words)


def _one_of(records: list[RunRecord]) -> RunRecord:
    findings = _unique(found for record in records for found in record.findings)
    failing = {_key(found) for found in findings}
    accepted = [found for record in records for found in record.accepted if _key(found) not in failing]
    runs = tuple(part for record in records for part in parts_of(record))
    merged = msgspec.structs.replace(
        records[0],
        tornpage_version=_listed(records, lambda one: one.tornpage_version),
        target=_listed(records, lambda one: one.target),
        title=_listed(records, lambda one: one.title),
        profile=_listed(records, lambda one: one.profile),
        sqlite_version=_listed(records, lambda one: one.sqlite_version),
        python_version=_listed(records, lambda one: one.python_version),
        system=_listed(records, lambda one: one.system),
        seconds=round(sum(record.seconds for record in records), 3),
        complete=all(record.complete for record in records),
        findings=findings,
        accepted=_unique(accepted),
        observations=_unique(found for record in records for found in record.observations),
        unpromised={code: why for record in records for code, why in record.unpromised.items()},
        checks=tuple(dict.fromkeys(code for record in records for code in record.checks)),
        vacuous=tuple(dict.fromkeys((*(one for record in records for one in record.vacuous), *_unproved(records)))),
        baseline_notes=tuple(dict.fromkeys(note for record in records for note in record.baseline_notes)),
        crash_states=tuple(one for record in records for one in record.crash_states),
        searches=tuple(one for record in records for one in record.searches),
        fault_points=_fault_points(records),
        error_paths=records[0].error_paths if len(records) == 1 else None,
        command=records[0].command if len(records) == 1 else "",
        depths=_depths(records),
        libraries=tuple(dict.fromkeys(one for record in records for one in record.libraries)),
        run_id=records[0].run_id if len(records) == 1 else "",
        shard=records[0].shard if len(records) == 1 else "",
        runs=runs if len(runs) > 1 else (),
        trend=(),
        extent=extent_of(one for record in records for one in record.searches),
        **_points(records),
    )
    code = _verdict(records, merged)
    return msgspec.structs.replace(merged, verdict=code.name, exit_code=int(code))


def _unproved(records: list[RunRecord]) -> Iterator[Vacuous]:
    """What shards can't report themselves: which of them are missing, and the needs that all together have not met."""
    runs: defaultdict[tuple[str, str, int, int], dict[int, RunRecord]] = defaultdict(dict)
    for record in records:
        if record.shard:
            shard = Shard.parse(record.shard)
            runs[record.target, record.profile, record.seed, shard.of][shard.number] = record
    for (target, _, seed, of), shards in runs.items():
        if missing := sorted(set(range(1, of + 1)) - shards.keys()):
            named = ", ".join(f"{number}/{of}" for number in missing)
            yield Vacuous("shards", f"of {target} with seed {seed} these are missing: {named}")
            continue
        ended: defaultdict[str, list[SearchEnded]] = defaultdict(list)
        for record in shards.values():
            for one in record.searches:
                ended[one.search].append(one)
        for search, parts in ended.items():
            if all(one.complete for one in parts):
                counts = [many for one in parts for many in (one.counts, one.seen)]
                yield from (Vacuous(search, reason) for reason in unmet(parts[0].needs, *counts))


def _verdict(records: list[RunRecord], merged: RunRecord) -> Exit:
    """As for one run: an interrupt outranks a finding, a finding the rest; no tests is no success."""
    codes = {record.exit_code for record in records}
    if Exit.INTERRUPTED in codes:
        return Exit.INTERRUPTED
    if merged.findings:
        return Exit.FINDING
    evidence = any(ended.counts.get(name) for ended in merged.searches for name in EVIDENCE)
    return Exit.NOT_TESTED if merged.vacuous or Exit.NOT_TESTED in codes or not evidence else Exit.HOLDS


def _key(found: FoundRecord) -> tuple[str, str]:
    return found.scenario.target, fingerprint(found.check, found.scenario)


def _unique(findings: Iterable[FoundRecord]) -> tuple[FoundRecord, ...]:
    """One of each fingerprint: the shortest; the numbers of times seen are added."""
    best: dict[tuple[str, str], FoundRecord] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for found in findings:
        key = _key(found)
        seen[key] += found.seen
        if key not in best or len(found.scenario.steps) < len(best[key].scenario.steps):
            best[key] = found
    return tuple(msgspec.structs.replace(found, seen=seen[key]) for key, found in best.items())


def _listed(records: list[RunRecord], value: Callable[[RunRecord], str]) -> str:
    """The values, each once."""
    return ", ".join(dict.fromkeys(map(value, records)))


def _depths(records: list[RunRecord]) -> tuple[str, ...] | None:
    known = [record.depths for record in records if record.depths is not None]
    return tuple(dict.fromkeys(depth for depths in known for depth in depths)) if known else None


def _fault_points(records: list[RunRecord]) -> tuple[SeriesRecord, ...]:
    added: dict[tuple[str, str, str, str], SeriesRecord] = {}
    for record in records:
        for one in record.fault_points:
            key = (one.kind, one.role, one.timing, one.effect)
            sums = added.get(key, SeriesRecord(*key, 0, 0, 0))
            added[key] = msgspec.structs.replace(
                sums,
                tried=sums.tried + one.tried,
                fired=sums.fired + one.fired,
                surfaced=sums.surfaced + one.surfaced,
                failed=sums.failed + one.failed,
            )
    return tuple(one for _, one in sorted(added.items()))


def _points(records: list[RunRecord]) -> dict[str, tuple[str, ...] | tuple[PointRecord, ...]]:
    """All points, and the texts that they refer to, each once."""
    texts: dict[str, int] = {}
    points: list[PointRecord] = []
    for record in records:
        places = [texts.setdefault(text, len(texts)) for text in record.texts]
        points += _moved(record.points, places)
    return {"texts": tuple(texts), "points": tuple(points)}


def _moved(points: Iterable[PointRecord], places: list[int]) -> Iterator[PointRecord]:
    for one in points:
        yield msgspec.structs.replace(
            one,
            configuration=places[one.configuration],
            call=places[one.call],
            operation=places[one.operation],
            effect=places[one.effect],
            condition=places[one.condition],
            search=places[one.search] if one.search >= 0 else -1,
        )
