"""The search for a mutant: small searches, one after the other, up to the first finding.

The same searches find nothing in the unchanged ledger; they are also run on it, otherwise a kill would prove nothing. A
finding is not shrunk: its existence is enough.

Beside the reference's own workload there are the calls of the known bugs, for cases that it leaves out: two processes
on one file, damaged rows, a log that grows.

Not covered: real kills, and defects that need more than a sample of the fault points.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.scenarios.execution.finding.shrink import Shown
from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.judging.unpromised import reason_not_promised
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.model.scenario import Scenario
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError
from tornpage.scenarios.model.work import Part
from tornpage.scenarios.run.campaign import SEARCHES
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.search.crash.search import CrashSearch
from tornpage.scenarios.search.recorder import DedupKeys, Recorder
from tornpage.scenarios.search.scripts import parts_of_scripts
from tornpage.scenarios.search.sweep import Sweep
from tornpage.scenarios.targets.known_bugs import all_bugs
from tornpage.scenarios.targets.known_bugs.fence_not_synced import FENCED_CALLS
from tornpage.scenarios.targets.libraries.json_file import JsonFile
from tornpage.scenarios.targets.reference.draws.walk import walk
from tornpage.scenarios.targets.reference.target import Reference


class Hunt(msgspec.Struct, frozen=True):
    """One search of one target in one configuration."""

    search: str
    target: Target
    configuration: Configuration
    profile: Profile

    @property
    def name(self) -> str:
        """The search, and its calls."""
        on = "" if self.target.name == "reference" else f" of {self.target.name}"
        return f"{self.search}{on} at {self.configuration}"


class Verdict(msgspec.Struct, frozen=True):
    """The result of one mutant: killed by which hunt and which check, or not; after `seconds`.

    `error` is what prevented the hunt; then nothing is known of the mutant.
    """

    killed: bool
    hunt: str = ""
    check: str = ""
    message: str = ""
    seconds: float = 0.0
    error: str = ""


# Everything that needs no fault to be found.
SCRIPTS: Final = "scripts"
# Random calls, without a fault as well.
_WALK: Final = "walk"
_STEPS_OF_A_WALK: Final = 6_000
# The most effective hunt comes first.
_OF_THE_REFERENCE: Final[tuple[tuple[str, str, dict[str, int]], ...]] = (
    ("sweep", "wal/FULL", {"points_per_call": 12}),
    ("crash", "wal/FULL", {"crash_states": 10}),
    ("sweep", "delete/EXTRA", {"points_per_call": 8}),
    ("fuzz", "wal/FULL", {"scenarios": 40, "steps": 15}),
    ("contend", "wal/FULL", {"rival_points": 2}),
    ("contend", "delete/EXTRA", {"rival_points": 3}),
    ("limits", "wal/FULL", {"limit_points": 2}),
    ("crash", "delete/EXTRA", {"crash_states": 10}),
    ("crash", "wal/NORMAL", {"crash_states": 10}),
    ("sweep", "wal/NORMAL", {"points_per_call": 4}),
)
_QUICK: Final = 2
# For crash states in numbers that a whole workload can't have in a short time.
_FEW: Final = (
    Action("tasks.create", {"id": "a", "runtime": "cli", "requester_session_key": "main", "task": "work"}),
    Action("tasks.start", {"task_id": "a"}),
    Action("tasks.delete", {"task_id": "a"}),
)
# A mutant that fails without any fault has no durability to check, and neither has one that ends a hunt with an error.
DOES_NOT_RUN: Final = "does-not-run"


def _sizes(**sizes: int) -> Profile:
    small = Profile("mutants", 1, points_per_call=1, scenarios=0, steps=0, shrinks=False)
    return msgspec.structs.replace(small, **sizes)


def hunts() -> Iterator[Hunt]:
    """All of them, in their order."""
    reference = Reference()
    yield Hunt(SCRIPTS, reference, reference.configurations[0], _sizes())
    yield Hunt(_WALK, reference, reference.configurations[0], _sizes(steps=_STEPS_OF_A_WALK))
    for search, configuration, sizes in _OF_THE_REFERENCE[:_QUICK]:
        yield Hunt(search, reference, Configuration.parse(configuration), _sizes(**sizes))
    for bug in all_bugs().values():
        if bug.calls and bug.make is None:
            target = Reference(f"the calls of bug:{bug.name}", calls=bug.calls)
            yield Hunt("sweep", target, target.configurations[0], _sizes(points_per_call=1))
    few = Reference("a few calls", calls=_FEW)
    yield Hunt("crash", few, few.configurations[0], _sizes(crash_states=150))
    # Only at NORMAL a fence has to be synced separately, and only faults with a crash after them show it.
    fenced = Reference("calls that fail at NORMAL", calls=FENCED_CALLS)
    yield Hunt("crash", fenced, Configuration("wal", "NORMAL"), _sizes(crash_states=60))
    json_file = JsonFile()
    yield Hunt("crash", json_file, json_file.configurations[0], _sizes(crash_states=20))
    for search, configuration, sizes in _OF_THE_REFERENCE[_QUICK:]:
        yield Hunt(search, reference, Configuration.parse(configuration), _sizes(**sizes))


def hunted(seed: int, names: Collection[str] = ()) -> Verdict:
    """Hunt in the ledger as loaded in this process, up to the first finding, by all hunts or the named ones.

    An error in a hunt is a finding as well: the same hunt with the same seed ends without one in the unchanged ledger.
    Raises OSError and MemoryError, which may be the machine's.
    """
    started = time.monotonic()
    for hunt in hunts():
        if names and not {hunt.name, hunt.search} & set(names):
            continue
        check = message = ""
        try:
            with scratch() as directory, faults.install():
                plan = Plan(
                    (hunt.search,),
                    hunt.profile,
                    seed,
                    report=None,
                    configurations=(hunt.configuration,),
                )
                recorder = _First(hunt.target)
                _SEARCHES[hunt.search](hunt.target, recorder, directory, plan).run()
        except _Caught as caught:
            check, message = caught.finding.code, caught.finding.message
        except (TargetError, ImportError) as error:
            check, message = DOES_NOT_RUN, str(error)
        except (OSError, MemoryError):
            # Of this machine, perhaps.
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a mutant may raise anything
            check, message = DOES_NOT_RUN, repr(error)
        if check:
            return Verdict(killed=True, hunt=hunt.name, check=check, message=message, seconds=_since(started))
    return Verdict(killed=False, seconds=_since(started))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


class _Caught(BaseException):
    """The first finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class _First(Recorder):
    """Ends the search at its first finding, before it is shrunk."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    def repeats_one(self, finding: Finding) -> bool:
        """Every finding is the first."""
        self.found(finding, self._target)
        return True

    def found(self, finding: Finding, target: Target, dedup_keys: DedupKeys | None = None) -> None:  # noqa: ARG002 - it is the first
        """Raise it, unless it is not promised."""
        if not reason_not_promised(target.unpromised, finding):
            raise _Caught(finding)


class _Scripts(Sweep):
    """The scripts of the target, and nothing else."""

    def parts(self) -> Iterator[Part]:
        """The scripts."""
        return parts_of_scripts(self.target, self.configurations[0])


class _Walk:
    """A walk beside the model; its remainder is in no scenario."""

    def __init__(self, target: Target, recorder: "_First", directory: Path, plan: Plan) -> None:
        self._target, self._recorder = target, recorder
        self._directory, self._plan = directory, plan

    def run(self) -> None:
        """Walk until the model is left."""
        self._directory.mkdir(exist_ok=True)
        astray = walk(self._plan.seed, self._plan.profile.steps, self._directory)
        if astray is not None:
            nothing = Scenario(self._target.name, self._target.configurations[0], ())
            self._recorder.found(Finding.of(astray.violation, nothing, _WALK), self._target)


class _Crashes(CrashSearch):
    """The crash search, without a shorter scenario."""

    def _shortest(self, violation: Violation, scenario: Scenario) -> Shown:
        return Shown(scenario, violation)


HUNTS: Final = (SCRIPTS, _WALK, *dict.fromkeys(search for search, _, _ in _OF_THE_REFERENCE))
"""The ways to hunt, by name."""

_SEARCHES: Final[Mapping[str, Callable[..., Any]]] = {
    **SEARCHES,
    "crash": _Crashes.of,
    SCRIPTS: _Scripts.of,
    _WALK: _Walk,
}
