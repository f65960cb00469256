"""``python -m benchmarks.crash_cases FOLDER TARGET=VERDICT...``: the crash search on many targets, with many seeds.

A target is ``file:CLASS`` of the folder. Its expected verdict is ``holds``, ``finds`` (any check), ``refused`` (it
can't be judged, which the command reports with exit code 2), or the code of a check that must be among the findings.
Each target is searched once with each seed at the quick profile, or once with all states of each call
(``--every-state``). The table has the seconds, the disks and the verdict of each; the exit code is 1 if one differs
from the expected.

The author of the stores decides which are correct, so there is no list of them here; the project's own are in
``tests/scenarios`` (``crash_places``, ``plain_stores``).
"""

import sys
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from tornpage.scenarios.model.plan import PROFILES, Plan
from tornpage.scenarios.model.target import TargetError
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.targets.registry import find_or_import

_HOLDS: Final = "holds"
_FINDS: Final = "finds"
_REFUSED: Final = "refused"


class Case(msgspec.Struct, frozen=True):
    """A target, and the expected verdict."""

    target: str
    wanted: str

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Read ``file:CLASS=VERDICT``."""
        target, _, wanted = text.partition("=")
        if not wanted:
            allowed = f"FILE:CLASS={_HOLDS}, ={_FINDS}, ={_REFUSED}, or =CODE"
            raise click.BadParameter(f"{text!r} says no verdict; write {allowed}")
        return cls(target, wanted)

    def is_met_by(self, verdict: tuple[str, ...]) -> bool:
        """Whether a verdict, the codes that were found, is the wanted one."""
        if self.wanted == _HOLDS:
            return not verdict
        if self.wanted == _REFUSED:
            return any(one.startswith(_REFUSED) for one in verdict)
        codes = [one for one in verdict if " " not in one]
        return bool(codes) and (self.wanted == _FINDS or self.wanted in codes)


class Tried(msgspec.Struct, frozen=True):
    """What one search came to."""

    verdict: tuple[str, ...]
    disks: int
    left_out: int
    seconds: float

    def __str__(self) -> str:
        left_out = f", {self.left_out:,} states left out" if self.left_out else ""
        return f"{self.seconds:7.1f} s {self.disks:7,} disks{left_out}  {' '.join(self.verdict) or _HOLDS}"


def tried(case: Case, seed: int, *, every: bool) -> Tried:
    """Search the crash states of a case; a search that could not judge it has that in its verdict."""
    profile = PROFILES["quick"]
    if every:
        profile = msgspec.structs.replace(profile, crash_states=None)
    started = time.monotonic()
    try:
        recorder = run(find_or_import(case.target), Plan(("crash",), profile, seed=seed, report=None))
    except TargetError as error:
        return Tried((f"{_REFUSED} ({error})",), 0, 0, time.monotonic() - started)
    verdict = {one.finding.code for one in recorder.findings} | {
        f"inconclusive ({one.reason})" for one in recorder.vacuous
    }
    return Tried(
        tuple(sorted(verdict)),
        sum(one.disks for one in recorder.crashes),
        sum(max(one.enumerable - one.states, 0) for one in recorder.crashes),
        time.monotonic() - started,
    )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("cases", nargs=-1, required=True)
@click.option("--seeds", default="0-9", show_default=True, help="The first and the last one.")
@click.option("--every-state", is_flag=True, help="All states of each call, with seed 0.")
def main(folder: Path, cases: tuple[str, ...], seeds: str, every_state: bool) -> None:
    """Search the crash states of the targets in FOLDER; CASES are FILE:CLASS=VERDICT."""
    sys.path.insert(0, str(folder))
    first, last = (0, 0) if every_state else map(int, seeds.split("-"))
    wrong = 0
    for case in map(Case.parse, cases):
        for seed in range(first, last + 1):
            found = tried(case, seed, every=every_state)
            met = case.is_met_by(found.verdict)
            wrong += not met
            how = "every state" if every_state else f"seed {seed}"
            click.echo(f"{case.target:28} {how:11} {found}{'' if met else f'  WANTED {case.wanted}'}")
    if wrong:
        raise click.ClickException(f"{wrong} verdicts differ from the expected ones")


if __name__ == "__main__":
    main()
