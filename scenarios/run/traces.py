"""Each finding of a run, replayed and traced, within the time limit."""

import contextlib
import time
from pathlib import Path
from typing import Final

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.finding.trace import Trace, trace_of
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run.record import FoundRecord, RunRecord
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.run.unlogged import unlogged

# A longer trace would not be read; the scenario itself has all steps.
_MOST_STEPS: Final = 60


def with_traces(record: RunRecord, target: Target, most_seconds: float = 10.0) -> RunRecord:
    """The record with the trace and the place of each finding, observation and accepted finding."""
    kinds = {"findings": record.findings, "observations": record.observations, "accepted": record.accepted}
    if record.exit_code == Exit.INTERRUPTED or not any(kinds.values()):
        return record
    until = time.monotonic() + most_seconds
    traced: dict[str, list[FoundRecord]] = {name: list(them) for name, them in kinds.items()}
    # After Ctrl-C the finished traces are still used.
    with (
        contextlib.suppress(KeyboardInterrupt),
        unlogged(),
        faults.install() as shim,
        shim.deterministic(),
        scratch() as directory,
    ):
        for them in traced.values():
            for index, found in enumerate(them):
                them[index] = _traced(found, target, directory, is_late=time.monotonic() > until)
    return msgspec.structs.replace(record, **{name: tuple(them) for name, them in traced.items()})


def _traced(found: FoundRecord, target: Target, directory: Path, *, is_late: bool) -> FoundRecord:
    if is_late:
        trace = Trace(reason="there was no time left to replay it")
    elif len(found.scenario.steps) > _MOST_STEPS:
        trace = Trace(reason=f"it has {len(found.scenario.steps)} steps; up to {_MOST_STEPS} are drawn")
    else:
        trace = trace_of(found.scenario, target, directory)
    return msgspec.structs.replace(found, timeline=trace.shortened(), where=trace.where)
