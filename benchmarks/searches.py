"""The costs of whole searches: a longer workload, two processes, and all known bugs.

*Ten times the calls.* The sweep of a workload of ten calls that restore the tables, against the sweep of the same calls
repeated ten times. A sweep also tries three openings and a closing, in a short workload as often as in a long one; so
the time per fault point is compared, with the same number of points of each call. The short sweep runs ten times for
each long one. At wal/FULL the files of a later call hold a longer log, and each cold start recovers it; at delete/EXTRA
they stay the same, and only the harness can grow.

*Two processes.* ``tornpage check`` with ``--jobs 1`` and with ``--jobs 2``, as separate processes, in wall-clock time;
the CPU column is the sum over all their processes. It needs two idle cores.

*All known bugs.* ``tornpage bugs --jobs 2``, in seconds; it must end with success, so every bug was caught and the
reference had no finding.
"""

import gc
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from benchmarks.measuring import Ratio, Round, Spent, summed_up

from tornpage.scenarios.model.events import Event, PointTried
from tornpage.scenarios.model.plan import PROFILES, Plan, Profile
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.run import campaign
from tornpage.scenarios.targets.reference.scripts import Script
from tornpage.scenarios.targets.reference.target import Reference

_ROOT = Path(__file__).parents[1]
_NEW = {"runtime": "cli", "requester_session_key": "main", "task": "work"}
_BLOCK = (
    Action("tasks.create", {"id": "a", **_NEW}),
    Action("tasks.create", {"id": "b", **_NEW, "run_id": "run-1", "requester_origin": {"channel": "mail"}}),
    Action("tasks.start", {"task_id": "a"}),
    Action("tasks.progress", {"task_id": "a", "text": "half way"}),
    Action("tasks.set_delivery_state", {"task_id": "a", "last_notified_event_at": 5}),
    Action("tasks.progress", {"task_id": "a", "text": "nearly there"}),
    Action("tasks.finish", {"task_id": "a", "status": "succeeded", "terminal_summary": "done"}),
    Action("tasks.cancel", {"task_id": "b"}),
    Action("tasks.delete", {"task_id": "a"}),
    Action("tasks.delete", {"task_id": "b"}),
)
CALLS_A_BLOCK = len(_BLOCK)
WAL = Configuration("wal", "FULL")


class Repeated(Reference):
    """The reference with a workload of the same ten calls, so many times; and without scripts, which are no points."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self._blocks = blocks

    @property
    def scripts(self) -> tuple[Script, ...]:  # type: ignore[override]  # read, never set
        """None."""
        return ()

    def workload(self) -> tuple[Action, ...]:
        """The calls."""
        return _BLOCK * self._blocks


def searched(search: str, blocks: int, profile: Profile, configuration: Configuration = WAL) -> tuple[Spent, int]:
    """Search this many blocks of ten calls; returns the time and the fault points tried."""
    points = 0

    def count(event: Event) -> None:
        nonlocal points
        points += isinstance(event, PointTried)

    plan = Plan(searches=(search,), profile=profile, report=None, configurations=(configuration,))
    target = Repeated(blocks)
    recorders = []
    gc.collect()
    spent = Spent().on(lambda: recorders.append(campaign.run(target, plan, (count,))))
    if recorders[0].findings or recorders[0].vacuous:
        raise RuntimeError("the search found something, or nothing fired: its times mean nothing")
    return spent, points


def ten_times_the_calls(
    place: str, configuration: Configuration, *, rounds: int, blocks: int, points_per_call: int
) -> Ratio:
    """A sweep of so many blocks against as many sweeps of one block."""
    profile = msgspec.structs.replace(PROFILES["quick"], points_per_call=points_per_call)
    measured = []
    for _ in range(rounds):
        short, of_short = Spent(), 0
        for _ in range(blocks):
            spent, points = searched("sweep", 1, profile, configuration)
            short.add(spent)
            of_short += points
        long, of_long = searched("sweep", blocks, profile, configuration)
        measured.append(Round(long, short, of_long, theirs_count=of_short))
    calls = CALLS_A_BLOCK * blocks
    sides = (f"sweep of {calls} calls, per point", f"{blocks} sweeps of {CALLS_A_BLOCK} calls, per point")
    return summed_up("calls", f"{place}, {configuration}", sides, measured, per="point", aim=1.1)


def _ran(*arguments: str) -> Spent:
    """Run ``tornpage`` in a separate process; raises RuntimeError if it fails."""
    with tempfile.TemporaryDirectory(prefix="tornpage-benchmark-") as report:
        start = "from tornpage.scenarios.cli import main; main()"
        command = [sys.executable, "-c", start, *arguments, "--report", report]
        before, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
        wall_s = time.perf_counter() - wall_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"tornpage {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return Spent(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def checked(jobs: int, *arguments: str) -> Spent:
    """One ``tornpage check`` with so many jobs."""
    return _ran("check", "--quiet", "--jobs", str(jobs), *arguments)


def two_jobs(place: str, *, rounds: int, arguments: tuple[str, ...]) -> Ratio:
    """A check by two processes against the same check by one."""
    measured = []
    for number in range(rounds):
        order = (1, 2) if number % 2 else (2, 1)
        spent = {jobs: checked(jobs, *arguments) for jobs in order}
        measured.append(Round(spent[2], spent[1], 1))
    sides = ("check --jobs 2", "check --jobs 1")
    return summed_up("jobs", place, sides, measured, per="check", aim=1.8, faster=True)


def all_known_bugs(place: str, names: tuple[str, ...] = ()) -> Ratio:
    """How long it takes to catch all known bugs, or those of the names, in seconds."""
    spent = _ran("bugs", "--jobs", "2", *names)
    caught = ", ".join(names) or "all known bugs"
    return Ratio(
        name="bugs",
        place=place,
        ours=f"{caught} caught, the reference silent, --jobs 2",
        theirs="the clock",
        median=spent.wall_s,
        lowest=spent.wall_s,
        highest=spent.wall_s,
        cpu=spent.cpu_s,
        ours_us=1e6 * spent.wall_s,
        theirs_us=0.0,
        per="run",
        rounds=1,
        aim=120.0,
        unit="s",
    )
