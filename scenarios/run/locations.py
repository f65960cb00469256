"""Where each finding of a run is in the code under test, as far as there is time to play it once more."""

import contextlib
import time

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.finding.source_location import locate
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run.campaign import Exit
from tornpage.scenarios.run.record import FoundRecord, RunRecord
from tornpage.scenarios.run.scratch import scratch


def with_places(record: RunRecord, target: Target, most_seconds: float = 10.0) -> RunRecord:
    """The record with the place of each finding, accepted finding and observation; "" where it can't be told."""
    if record.exit_code == Exit.INTERRUPTED:
        return record
    until = time.monotonic() + most_seconds
    with faults.install() as shim, shim.deterministic(), scratch() as directory:

        def placed(found: FoundRecord) -> FoundRecord:
            late = time.monotonic() > until
            return found if late else msgspec.structs.replace(found, where=locate(found.scenario, target, directory))

        # Whoever interrupts this still wants to see what there is.
        with contextlib.suppress(KeyboardInterrupt):
            return msgspec.structs.replace(
                record,
                findings=tuple(map(placed, record.findings)),
                accepted=tuple(map(placed, record.accepted)),
                observations=tuple(map(placed, record.observations)),
            )
    return record
