"""The record of one run: the data of all its reports, as one JSON document with a schema.

``--json`` prints it without its single points; with them it is ``run.json`` in the report's directory. Points are rows
of indexes into one list of texts, since a night has hundreds of thousands of them and few different words.

Not in it: the single steps of a fuzz; its counts are.
"""

import platform
import uuid
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal

import msgspec

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.finding.trace import Trace
from tornpage.scenarios.model.as_json import for_a_file
from tornpage.scenarios.model.events import (
    CrashesTried,
    Event,
    Found,
    PointTried,
    SearchEnded,
    SearchStarted,
    Series,
    Vacuous,
    extent_of,
)
from tornpage.scenarios.model.fingerprint import fingerprint
from tornpage.scenarios.model.judging.checks import CHECKS, applied_to
from tornpage.scenarios.model.judging.unpromised import Unpromised, in_words, reason_not_promised
from tornpage.scenarios.model.plan import Plan
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.model.version import tornpage_version
from tornpage.scenarios.run.campaign import verdict
from tornpage.scenarios.run.error_paths.join import ErrorPaths
from tornpage.scenarios.run.whole_file import write_whole
from tornpage.scenarios.search.recorder import Recorder, Tally

FORMAT: Final = "tornpage-run"
VERSION: Final = 1
LARGEST_FILE_BYTES: Final = 268_435_456

Outcome = Literal["finding", "surfaced", "absorbed", "retried", "not-fired"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("finding", "surfaced", "absorbed", "retried", "not-fired")


class RunFileError(ValueError):
    """A file that is not a run record, or has another version: the error, and what to do."""


class FoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, or an observation of a check that is not promised; `seen` is how often the same one was met.

    `fingerprint` is the same on every machine and with every seed; `where` is ``file:line`` in the code under test, ""
    if unknown; `accepted_because` is a baseline's reason, "" if none accepts it. `also` lists the other places where it
    was seen, a call a line. `timeline` is None if the scenario has not been replayed.
    """

    check: str
    meaning: str
    message: str
    search: str
    scenario: Scenario
    sides: dict[str, Any]
    replay: str
    seen: int
    unpromised_because: str = ""
    timeline: Trace | None = None
    fingerprint: str = ""
    also: tuple[str, ...] = ()
    where: str = ""
    accepted_because: str = ""


class PointRecord(msgspec.Struct, frozen=True, array_like=True):
    """One point: `outcome` by its index in `OUTCOMES`, the others by their indexes in the record's texts.

    `search` is -1 if the record does not name it.
    """

    configuration: int
    step: int
    call: int
    operation: int
    effect: int
    condition: int
    outcome: int
    search: int = -1


class SeriesRecord(msgspec.Struct, frozen=True):
    """How many points of one kind of operation and effect were tried, and their results."""

    kind: str
    role: str
    timing: str
    effect: str
    tried: int
    fired: int
    surfaced: int
    # At how many a check failed; these did not surface.
    failed: int = 0


class PartRecord(msgspec.Struct, frozen=True):
    """One of several merged runs: its id, machine and result."""

    run_id: str
    target: str
    profile: str
    seed: int
    started_at: str
    seconds: float
    verdict: str
    exit_code: int
    tornpage_version: str
    sqlite_version: str
    python_version: str
    system: str


class TrendRecord(msgspec.Struct, frozen=True):
    """One line of a history of runs; `checks` counts the findings of each check."""

    run_id: str
    started_at: str
    target: str
    profile: str
    seed: int
    verdict: str
    complete: bool
    seconds: float
    tried: int
    findings: int
    accepted: int
    vacuous: int
    checks: dict[str, int]
    tornpage_version: str
    sqlite_version: str
    python_version: str

    @property
    def rate(self) -> float:
        """Points, states, processes and steps a second."""
        return self.tried / max(self.seconds, 0.001)


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run on one target, or several merged ones. Times: ISO 8601 in UTC, and seconds.

    `command` is the line that repeats this run, `depths` where faults reach the target; both may be unknown.
    `libraries` are the copies of SQLite that were in the process, each with the depths that it does not support.
    `accepted` are findings that a baseline accepts, which do not count; `baseline_notes` are further notes on it.
    `shard` is the share of the work that was done, such as "1/3"; "": all of it. `runs` are the runs that were merged;
    none: it is one. `trend` is a history of runs, the oldest first. `checks` are the codes of the checks that applied
    to the target. `extent` is SAMPLED, or EXHAUSTIVE if every finite search tried all its points; "" if unknown. Random
    searches (kills, scenarios) have no extent.
    """

    format: str = FORMAT
    version: int = VERSION
    tornpage_version: str
    target: str
    title: str
    profile: str
    seed: int
    started_at: str
    seconds: float
    verdict: str
    exit_code: int
    complete: bool
    sqlite_version: str
    python_version: str
    system: str
    findings: tuple[FoundRecord, ...]
    observations: tuple[FoundRecord, ...]
    unpromised: dict[str, str]
    vacuous: tuple[Vacuous, ...]
    crash_states: tuple[CrashesTried, ...]
    searches: tuple[SearchEnded, ...]
    fault_points: tuple[SeriesRecord, ...]
    texts: tuple[str, ...] = ()
    points: tuple[PointRecord, ...] = ()
    error_paths: ErrorPaths | None = None
    command: str = ""
    depths: tuple[str, ...] | None = None
    libraries: tuple[faults.LibraryFacts, ...] = ()
    run_id: str = ""
    accepted: tuple[FoundRecord, ...] = ()
    baseline_notes: tuple[str, ...] = ()
    shard: str = ""
    runs: tuple[PartRecord, ...] = ()
    trend: tuple[TrendRecord, ...] = ()
    checks: tuple[str, ...] = ()
    extent: str = ""


class Points:
    """A handler that keeps every point, and the time."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self.rows: list[PointRecord] = []
        self._texts: dict[str, int] = {}
        self._search = ""
        self._began = monotonic()

    def __call__(self, event: Event) -> None:  # noqa: D102 - a handler's one method
        if isinstance(event, SearchStarted):
            self._search = event.search
        elif isinstance(event, PointTried):
            series, place, text = event.series, event.place, self._text
            operation = series.kind if series.role == "any" else f"{series.kind}:{series.role}"
            effect = series.effect if series.timing == "before" else f"{series.effect}/{series.timing}"
            row = (text(str(place.configuration)), place.step, text(place.call), text(operation), text(effect))
            outcome = OUTCOMES.index(outcome_of(event))
            self.rows.append(PointRecord(*row, text(place.condition), outcome, text(self._search)))

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that the rows index."""
        return tuple(self._texts)

    @property
    def seconds(self) -> float:
        """The seconds since it was created."""
        return monotonic() - self._began

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))


def outcome_of(event: PointTried) -> Outcome:
    """The outcome of a point; a lock that was waited for is retried, any other fault without an error absorbed."""
    if event.is_finding:
        return "finding"
    if not event.fired:
        return "not-fired"
    if event.surfaced:
        return "surfaced"
    is_lock = event.series.effect == "BUSY" or event.series.effect.startswith("held")
    return "retried" if is_lock else "absorbed"


def record_of(
    recorder: Recorder, target: Target, plan: Plan, points: Points, error_paths: ErrorPaths | None = None
) -> RunRecord:
    """The record of a run that has ended, for any reason."""
    code = verdict(recorder)
    return RunRecord(
        tornpage_version=tornpage_version(),
        target=target.name,
        title=target.title,
        profile=plan.profile.name,
        seed=plan.seed,
        started_at=points.started_at.isoformat(timespec="seconds"),
        seconds=round(points.seconds, 3),
        verdict=code.name,
        exit_code=int(code),
        complete=recorder.complete,
        sqlite_version=sqlite3.sqlite_version,
        python_version=platform.python_version(),
        system=platform.platform(),
        findings=tuple(_found(found, recorder, {}) for found in recorder.findings),
        observations=tuple(_found(found, recorder, target.unpromised) for found in recorder.observations),
        unpromised={code: in_words(reasons) for code, reasons in target.unpromised.items()},
        vacuous=tuple(recorder.vacuous),
        crash_states=tuple(recorder.crashes),
        searches=tuple(recorder.ended),
        fault_points=tuple(
            SeriesRecord(
                one.kind, one.role, one.timing, one.effect, tally.tried, tally.fired, tally.surfaced, tally.failed
            )
            for one, tally in sorted(recorder.tallies.items(), key=_by_name)
        ),
        texts=points.texts,
        points=tuple(points.rows),
        error_paths=error_paths,
        depths=tuple(target.depths),
        libraries=faults.shims().facts(),
        shard=str(plan.shard or ""),
        run_id=uuid.uuid4().hex,
        accepted=tuple(_found(found, recorder, {}) for found in recorder.accepted),
        checks=_checks_of(target, plan),
        extent=extent_of(recorder.ended),
    )


def _checks_of(target: Target, plan: Plan) -> tuple[str, ...]:
    configurations = plan.configurations or target.configurations[: plan.profile.configurations]
    modes = {one.journal_mode for one in configurations}
    own = hasattr(target, "check_view") or hasattr(target, "check_change")
    return applied_to(
        plan.searches,
        modes,
        keeps_sqlite=modes != {"file"},
        has_own_rules=own,
        survives_failed_sync=getattr(target, "survives_failed_sync", False),
        latent=plan.latent,
    )


def without_points(record: RunRecord) -> RunRecord:
    """The record without its single points: short enough for people."""
    bare = tuple(msgspec.structs.replace(one, by_position={}) for one in record.crash_states)
    return msgspec.structs.replace(record, texts=(), points=(), crash_states=bare)


def write(record: RunRecord, path: Path) -> None:
    """Write it as JSON; raises OSError."""
    write_whole(path, msgspec.json.encode(record, enc_hook=for_a_file) + b"\n")


def read(path: Path) -> RunRecord:
    """Read it; raises `RunFileError` with the reason and what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFileError(f"{path} can't be read: {reason}; tornpage check leaves one") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise RunFileError(f"{path} is larger than {LARGEST_FILE_BYTES:,} bytes, which no record of a run is")
    try:
        head = msgspec.json.decode(content, type=_Head)
        if (head.format, head.version) != (FORMAT, VERSION):
            found = f"{head.format or 'an unknown format'}, version {head.version}"
            raise RunFileError(f"{path} is {found}; this tornpage reads {FORMAT}, version {VERSION}")
        return msgspec.json.decode(content, type=RunRecord)
    except msgspec.DecodeError as error:
        raise RunFileError(f"{path} is not a tornpage run record: {error}; pass a run.json") from error


class _Head(msgspec.Struct):
    format: str = ""
    version: int = 0


def _found(found: Found, recorder: Recorder, unpromised: Unpromised) -> FoundRecord:
    finding = found.finding
    return FoundRecord(
        check=finding.code,
        meaning=CHECKS[finding.code].meaning,
        message=finding.message,
        search=finding.search,
        scenario=finding.scenario,
        sides=finding.sides,
        replay=found.replay,
        seen=max(recorder.times_seen(finding), 1),
        unpromised_because=reason_not_promised(unpromised, finding),
        fingerprint=fingerprint(finding.code, finding.scenario),
        accepted_because=found.accepted_because,
        also=recorder.also_at(finding),
    )


def _by_name(item: tuple[Series, Tally]) -> str:
    return str(item[0])
