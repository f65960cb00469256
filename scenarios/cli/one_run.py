"""One run of the command line: its plan from the options, the campaign, its progress, the record, the verdict."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from tornpage.faults import Device, FaultPlan
from tornpage.scenarios.cli import ci
from tornpage.scenarios.cli.options import as_typed, could_not_run, output, progress_output
from tornpage.scenarios.cli.reports import write_page
from tornpage.scenarios.execution.call_timeout import patience
from tornpage.scenarios.model.events import Finding, Handler
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.plan import PROFILES, Plan, Profile
from tornpage.scenarios.model.target import Target, has_plain_files_only
from tornpage.scenarios.report.terminal import verdict
from tornpage.scenarios.report.terminal.error_paths import show_error_paths
from tornpage.scenarios.report.terminal.error_paths import summary as error_paths_summary
from tornpage.scenarios.report.terminal.progress import Progress
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.error_paths import ErrorPaths, ErrorPathTracer, SourceError
from tornpage.scenarios.run.estimate import estimated
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.run.traces import with_traces
from tornpage.scenarios.search.recorder import Recorder, nothing_accepted

# The options without a limit under --exhaustive.
_ENDLESS = ("points_per_call", "rival_points", "limit_points", "crash_states")
_CANARY_PROFILE = Profile("canary", configurations=1, points_per_call=4, scenarios=0, steps=0)


def require_one_process(context: click.Context, options: dict[str, Any]) -> None:
    """Error paths are traced in this process alone; raises `click.UsageError` for other processes."""
    if not options["error_paths"]:
        return
    is_asked = context.get_parameter_source("jobs") is ParameterSource.COMMANDLINE and options["jobs"] > 1
    if is_asked or options["cluster"] is not None:
        raise click.UsageError("--error-paths sees one process only: leave --jobs and --cluster out")
    options["jobs"] = 1


def run_searches(
    context: click.Context,
    target: Target,
    searches: tuple[str, ...],
    options: dict[str, Any],
    *,
    depths: tuple[str, ...] | None = None,
    by_hand: FaultPlan | None = None,
    **sizes: int | None,
) -> None:
    """Run these searches of a target, show and write what came out, and exit with the verdict.

    `depths`, `by_hand`: of a sweep; `sizes` replace those of the profile. Raises `click.UsageError`, `CouldNotRun`.
    """
    require_one_process(context, options)
    _require_reached(target, searches)
    profile = _profile_of(searches, options, sizes)
    plan = _plan_of(searches, profile, options, depths=depths, by_hand=by_hand)
    _print_estimate(target, plan, options)
    points, baseline, outputs = run_record.Points(), ci.baseline_of(options), ci.Outputs()
    if options["quiet"] and options["verbose"]:
        raise click.UsageError("--quiet and --verbose exclude each other")
    ci.require_writable(plan.report, options)
    accepts = baseline.accepts if baseline else nothing_accepted
    with _tracer(options) as tracer, ci.watching(options) as others:
        handlers: tuple[Handler, ...] = (points, *others, *([tracer] if tracer else []))
        with tracer.running() if tracer else contextlib.nullcontext():
            recorder = _shown(target, plan, handlers, accepts, quiet=options["quiet"], verbose=options["verbose"])
        error_paths = tracer.result() if tracer else None
    record = run_record.record_of(recorder, target, plan, points, error_paths)
    record = msgspec.structs.replace(record, command=as_typed(context))
    with patience(plan.call_timeout_s):
        record = with_traces(record, target)
    record = ci.completed(record, target, baseline, options, outputs)
    if plan.report is not None:
        with outputs.writing("record of this run"):
            run_record.write(record, plan.report / "run.json")
    if options["html"] is not None:
        with outputs.writing("page of this run"):
            write_page(record, options["html"], plan.report)
    if options["as_json"]:
        click.echo(msgspec.json.format(msgspec.json.encode(run_record.without_points(record))).decode())
    else:
        if error_paths:
            show_error_paths(error_paths, output())
        verdict.show(recorder, target, record, output())
    ci.deliver(record, options, outputs)
    code = campaign.verdict(recorder)
    if code is Exit.HOLDS and error_paths and _misses_error_paths(error_paths, options["least_error_paths"]):
        code = Exit.FINDING
    context.exit(Exit.NOT_TESTED if outputs.missing and code is not Exit.INTERRUPTED else code)


def _require_reached(target: Target, searches: tuple[str, ...]) -> None:
    """Raise `click.UsageError` if one of these searches can't reach the target."""
    reached = campaign.searches_for(target)
    if ("syscall" in target.depths and not set(searches) <= {*reached}) or "syscalls" in set(searches) - {*reached}:
        hint = "" if "syscall" in target.depths else "; a separate program is: --target 'command:PROGRAM ARGUMENT ...'"
        shown = ", ".join(reached)
        raise click.UsageError(f"{target.name} can't be reached by {', '.join(searches)}, only by: {shown}{hint}")
    if has_plain_files_only(target) and not set(searches) <= {*reached}:
        hint = "; for interleave declare `callers`" if "interleave" in searches else ""
        raise click.UsageError(
            f"{', '.join(searches)} is for SQLite's locks and limits, and {target.name} declares plain files "
            f"({target.configurations[0]}); it supports: {', '.join(reached)}{hint}"
        )


def _plan_of(
    searches: tuple[str, ...],
    profile: Profile,
    options: dict[str, Any],
    *,
    depths: tuple[str, ...] | None,
    by_hand: FaultPlan | None,
) -> Plan:
    return Plan(
        searches=searches,
        profile=profile,
        seed=options["seed"],
        max_time_s=options["max_time_s"],
        call_timeout_s=options["call_timeout_s"],
        report=options["report"],
        configurations=options["configurations"] or None,
        depths=depths,
        by_hand=by_hand,
        callers=options.get("callers") or None,
        preemptions=options.get("preemptions", 2),
        device=options.get("device", Device()),
        latent=options.get("latent", False),
        machines=options.get("machines", ()),
        progress=options.get("progress"),
        goes_on=options.get("goes_on", False),
        jobs=options["jobs"],
        cluster=options["cluster"],
        shard=options["shard"],
        examples=options.get("examples"),
    )


def _misses_error_paths(error_paths: ErrorPaths, least: float | None) -> bool:
    """Whether fewer error paths were run than are required, or a reason is invalid; says so on standard error."""
    if least is None or (error_paths.percent >= least and not error_paths.stale):
        return False
    wanted = f"at least {least:g} % are required, and no invalid reason"
    click.echo(f"{error_paths_summary(error_paths)}; {wanted}", err=True)
    return True


def _profile_of(searches: tuple[str, ...], options: dict[str, Any], sizes: dict[str, int | None]) -> Profile:
    """The profile with the requested sizes; raises `click.UsageError` if these contradict each other."""
    chosen: dict[str, int | None] = {name: size for name, size in sizes.items() if size is not None}
    chosen |= dict.fromkeys(options.get("unlimited", ()))
    if "points_per_call" in chosen:
        # A requested number is kept.
        chosen["every_operation"] = False
    if options["exhaustive"]:
        # There are so many pairs of calls that their schedules stay a sample, unless only they are requested.
        endless = [*_ENDLESS, *(["schedules"] if searches == ("interleave",) else [])]
        if limited := [name for name in endless if chosen.get(name) is not None]:
            raise click.UsageError(f"--exhaustive tries all: leave out the option that limits {', '.join(limited)}")
        chosen |= dict.fromkeys(endless)
    return msgspec.structs.replace(PROFILES[options["profile"]], **chosen)


def _print_estimate(target: Target, plan: Plan, options: dict[str, Any]) -> None:
    """Print the expected time of the run before it begins."""
    if (options["exhaustive"] or options.get("unlimited")) and not options["quiet"]:
        with could_not_run():
            click.echo(estimated(target, plan), err=True)


@contextlib.contextmanager
def _tracer(options: dict[str, Any]) -> Iterator[ErrorPathTracer | None]:
    """The tracer of the named packages' error paths, if any."""
    if not options["error_paths"]:
        if options["least_error_paths"] is not None:
            raise click.UsageError("--fail-under-error-paths needs --error-paths PACKAGE")
        yield None
        return
    with scratch() as directory:
        try:
            tracer = ErrorPathTracer(options["error_paths"], directory)
        except SourceError as error:
            raise click.UsageError(str(error)) from error
        yield tracer


def _shown(
    target: Target,
    plan: Plan,
    handlers: tuple[Handler, ...],
    accepts: Callable[[Finding], str],
    *,
    quiet: bool,
    verbose: bool,
) -> Recorder:
    """Run a campaign with its progress on standard error; raises `CouldNotRun`."""
    shown = progress_output()
    elsewhere = plan.jobs > 1 or plan.cluster is not None

    def new_progress() -> Progress:
        return Progress(shown, quiet=quiet, verbose=verbose, max_time_s=plan.max_time_s, live=not elsewhere)

    with could_not_run():
        if elsewhere:
            each = defaultdict[str, Progress](new_progress)
            return campaign.run(target, plan, handlers, accepts, live=lambda name, event: each[name](event))
        with new_progress() as progress:
            return campaign.run(target, plan, (progress, *handlers), accepts)


def canary_is_caught(*, quiet: bool) -> bool:
    """Whether the sweep catches the canary, a build with an obvious bug; raises `CouldNotRun`, `click.Abort`."""
    from tornpage.scenarios.targets.known_bugs import find_bug  # noqa: PLC0415 - it loads the reference

    bug = find_bug("canary")
    with could_not_run():
        plan = Plan(("sweep",), _CANARY_PROFILE, report=None, most_findings=1, rehearses=False)
        recorder = campaign.run(bug.target(), plan)
    if recorder.interrupted:
        raise click.Abort
    caught = any(found.finding.code in bug.checks for found in recorder.findings)
    if not quiet and caught:
        click.echo(f"the canary was caught by {recorder.findings[0].finding.code}", err=True)
    return caught
