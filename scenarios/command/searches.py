"""``check``, ``sweep``, ``fuzz`` and one fault point by hand."""

from typing import Any

import click
import msgspec
from rich.console import Console

from faults import FaultPlan
from scenarios import campaign
from scenarios.bugs import find_bug
from scenarios.campaign import Exit
from scenarios.command.options import (
    FaultPlanText,
    could_not_run,
    output,
    progress_output,
    search_options,
    target_option,
)
from scenarios.handlers import verdict
from scenarios.handlers.terminal import Progress
from scenarios.profiles import PROFILES, Plan, Profile
from scenarios.recorder import Recorder
from scenarios.target import Target

_CANARY_PROFILE = Profile("canary", configurations=1, points_per_call=4, stories=0, steps=0)


@click.command()
@target_option
@search_options
@click.pass_context
def check(context: click.Context, /, target: Target, **options: Any) -> None:
    """Search everywhere: sweep every fault point, then let the machine tell stories.

    First the canary, a build that breaks a promise at once, has to be caught: a run that can't see it proves nothing.
    """
    if not _canary_is_caught(options["quiet"]):
        click.echo("The canary was not caught: this run could prove nothing, and is not begun.", err=True)
        context.exit(Exit.NOT_TESTED)
    _run(context, target, ("sweep", "fuzz"), options)


@click.command()
@target_option
@search_options
@click.option("--depth", type=click.Choice(["vfs", "statement"]), help="Only faults at this depth.")
@click.option(
    "--plan", "faults_by_hand", type=FaultPlanText(), help="Only this fault plan, at every call: write:wal@1=FULL."
)
@click.pass_context
def sweep(
    context: click.Context,
    /,
    target: Target,
    depth: str | None,
    faults_by_hand: FaultPlan | None,
    **options: Any,
) -> None:
    """Fail operation 1, 2, 3 … of each call, with every effect a real system knows, once and for good."""
    if depth is not None and depth not in target.depths:
        raise click.UsageError(f"{target.name} can be reached at: {', '.join(target.depths)}; not at {depth}")
    _run(context, target, ("sweep",), options, depths=(depth,) if depth else None, by_hand=faults_by_hand)


@click.command()
@target_option
@search_options
@click.option("--stories", type=click.IntRange(min=1), help="How many stories to tell.")
@click.option("--steps", type=click.IntRange(min=1), help="How many steps a story has at most.")
@click.pass_context
def fuzz(context: click.Context, /, target: Target, stories: int | None, steps: int | None, **options: Any) -> None:
    """Let Hypothesis tell stories of calls, faults, restarts and crashes; a failing one is shrunk."""
    _run(context, target, ("fuzz",), options, stories=stories, steps=steps)


def _run(
    context: click.Context,
    target: Target,
    searches: tuple[str, ...],
    options: dict[str, Any],
    *,
    depths: tuple[str, ...] | None = None,
    by_hand: FaultPlan | None = None,
    **sizes: int | None,
) -> None:
    profile = msgspec.structs.replace(PROFILES[options["profile"]], **{k: v for k, v in sizes.items() if v is not None})
    plan = Plan(
        searches=searches,
        profile=profile,
        seed=options["seed"],
        max_time_s=options["max_time_s"],
        report=options["report"],
        configurations=options["configurations"] or None,
        depths=depths,
        by_hand=by_hand,
    )
    recorder = run_shown(target, plan, quiet=options["quiet"])
    if options["as_json"]:
        click.echo(msgspec.json.format(msgspec.json.encode(verdict.as_data(recorder, target, plan.seed))).decode())
    else:
        verdict.show(recorder, target, plan.seed, output())
    context.exit(campaign.verdict(recorder))


def run_shown(target: Target, plan: Plan, *, quiet: bool = False, console: Console | None = None) -> Recorder:
    """Run a campaign with its progress on standard error; raises `CouldNotRun`."""
    with could_not_run(), Progress(console or progress_output(), quiet=quiet) as progress:
        return campaign.run(target, plan, (progress,))


def _canary_is_caught(quiet: bool) -> bool:
    bug = find_bug("canary")
    with could_not_run():
        recorder = campaign.run(bug.target(), Plan(("sweep",), _CANARY_PROFILE, report=None, most_findings=1))
    if recorder.interrupted:
        raise click.Abort
    caught = any(found.finding.code in bug.checks for found in recorder.findings)
    if not quiet and caught:
        click.echo(f"the canary was caught by {recorder.findings[0].finding.code}", err=True)
    return caught
