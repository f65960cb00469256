"""``check``, ``sweep``, ``fuzz`` and one fault point by hand."""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console

from tornpage.faults import Device, FaultPlan
from tornpage.scenarios.cli import ci
from tornpage.scenarios.cli.device import DeviceSetting
from tornpage.scenarios.cli.options import (
    FaultPlanText,
    as_typed,
    could_not_run,
    output,
    progress_output,
    search_options,
    target_option,
)
from tornpage.scenarios.cli.reports import write_page
from tornpage.scenarios.model.events import Finding, Handler
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.plan import PROFILES, Plan, Profile
from tornpage.scenarios.model.scenario import CALLERS, Callers
from tornpage.scenarios.model.target import Target, TargetError, has_plain_files_only
from tornpage.scenarios.report.terminal import verdict
from tornpage.scenarios.report.terminal.error_paths import show_error_paths
from tornpage.scenarios.report.terminal.error_paths import summary as error_paths_summary
from tornpage.scenarios.report.terminal.progress import Progress
from tornpage.scenarios.run import campaign
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.error_paths import ErrorPathTracer, SourceError
from tornpage.scenarios.run.estimate import estimated
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.run.traces import with_traces
from tornpage.scenarios.search.fuzz.checkpoint import seed_in
from tornpage.scenarios.search.recorder import Recorder, nothing_accepted
from tornpage.scenarios.targets.known_bugs import find_bug

# The options without a limit under --exhaustive.
_ENDLESS = ("points_per_call", "rival_points", "limit_points", "crash_states")
_CANARY_PROFILE = Profile("canary", configurations=1, points_per_call=4, scenarios=0, steps=0)


@click.command()
@target_option
@search_options
@click.pass_context
def check(context: click.Context, /, target: Target, **options: Any) -> None:
    """Run all searches: faults, crashes, rivals, two callers, limits, kills, and fuzz scenarios.

    First the canary, a build with an obvious bug, has to be caught: a run that can't detect it proves nothing.
    """
    _require_one_process(context, options)
    if not _canary_is_caught(options["quiet"]):
        click.echo("The canary was not caught: this run would prove nothing, and is not started.", err=True)
        context.exit(Exit.NOT_TESTED)
    _run(context, target, campaign.searches_for(target), options)


@click.command()
@target_option
@click.option("--depth", type=click.Choice(["vfs", "statement"]), help="Only faults at this depth.")
@click.option(
    "--plan", "faults_by_hand", type=FaultPlanText(), help="Only this fault plan, at every call: write:wal@1=FULL."
)
@search_options
@click.pass_context
def sweep(
    context: click.Context,
    /,
    target: Target,
    depth: str | None,
    faults_by_hand: FaultPlan | None,
    **options: Any,
) -> None:
    """Fail operation 1, 2, 3 … of each call, with every effect that a real system has, once and sticky.

    A program in any language (command:...) is reached at its system calls: see tornpage syscalls.
    """
    if depth is None and faults_by_hand is None and "syscall" in target.depths:
        _run(context, target, ("syscalls",), options)
    if depth is not None and depth not in target.depths:
        raise click.UsageError(f"{target.name} can be reached at: {', '.join(target.depths)}; not at {depth}")
    _run(context, target, ("sweep",), options, depths=(depth,) if depth else None, by_hand=faults_by_hand)


@click.command()
@target_option
@click.option("--scenarios", type=click.IntRange(min=1), help="How many scenarios to run.")
@click.option("--steps", type=click.IntRange(min=1), help="How many steps a scenario has at most.")
@click.option(
    "--machine", "machines", multiple=True, help="Only this machine, such as tasks, history, outbox or ledger."
)
@click.option(
    "--examples",
    metavar="PLACE",
    help="Share failing examples with other runs: a directory, or redis://HOST. They run first.",
)
@click.option("--continue", "goes_on", is_flag=True, help="Continue after the last finished batch.")
@search_options
@click.pass_context
def fuzz(
    context: click.Context,
    /,
    target: Target,
    scenarios: int | None,
    steps: int | None,
    machines: tuple[str, ...],
    examples: str | None,
    goes_on: bool,
    **options: Any,
) -> None:
    """Let Hypothesis draw scenarios of calls and faults; a failing one is shrunk.

    Faults at either depth, restarts, crashes, power cuts, rivals, limits and clocks that jump, in the middle of any
    calls. Each machine calls a part of the target; machines and configurations take turns.

    \b
    tornpage fuzz --machine tasks                          one part
    tornpage fuzz --profile nightly --max-time 28800       a night
    tornpage fuzz --profile nightly --max-time 28800 --continue     the next one

    Its progress is kept in fuzz.json in the report's directory. The same seed gives the same scenarios, whether or not
    it was stopped in between; the trace printed at the end proves it.
    """
    from tornpage.scenarios.search.fuzz.search import machines_of  # noqa: PLC0415 - brings Hypothesis with it
    from tornpage.scenarios.search.fuzz.shared_examples import shared_examples  # noqa: PLC0415 - as above

    known = machines_of(target)
    if unknown := [name for name in machines if name not in known]:
        raise click.UsageError(f"{target.name} has no machine {unknown[0]}; it has: {', '.join(known) or 'none'}")
    options["progress"] = options["report"] / "fuzz.json"
    with could_not_run():
        kept = seed_in(options["progress"]) if goes_on else None
    if kept is not None and context.get_parameter_source("seed") is ParameterSource.DEFAULT:
        options["seed"] = kept
    if examples is not None:
        try:
            shared_examples(examples, "")
        except TargetError as error:
            raise click.UsageError(str(error)) from error
    options |= {"machines": machines, "goes_on": goes_on, "examples": examples}
    _run(context, target, ("fuzz",), options, scenarios=scenarios, steps=steps)


@click.command()
@target_option
@click.option("--states", "crash_states", type=click.IntRange(min=1), help="At most so many crash states of each call.")
@click.option("--every-state", is_flag=True, help="Every crash state, however many there are.")
@click.option(
    "--device",
    "device_settings",
    type=DeviceSetting(),
    multiple=True,
    metavar="NAME=VALUE",
    help="A guarantee of the disk and its system, such as failed-sync=drops; see docs/crash.md.",
)
@click.option(
    "--sector",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Bytes of a sector; writes tear there.",
)
@click.option(
    "--powersafe-overwrite/--no-powersafe-overwrite",
    default=True,
    show_default=True,
    help="Whether a torn write leaves the rest of its sector unchanged. SQLite assumes it does.",
)
@click.option(
    "--atomic-write",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Aligned writes of up to so many bytes don't tear.",
)
@click.option("--latent", is_flag=True, help="Also make pages unreadable, old, or with a flipped bit.")
@search_options
@click.pass_context
def crash(
    context: click.Context,
    /,
    target: Target,
    crash_states: int | None,
    every_state: bool,
    device_settings: tuple[tuple[str, Any], ...],
    sector: int,
    powersafe_overwrite: bool,
    atomic_write: int,
    latent: bool,
    **options: Any,
) -> None:
    """Cut the power, or kill the process, at every point of the workload, and open every possible disk state.

    The workload is recorded once. At each operation the process dies, or the power fails: what was synced stays, every
    unsynced write, create, delete or truncate is kept, lost or torn. Each different disk state is opened and judged by
    the answers that callers had by then. Then the same after faults, and from inside the recovery.

    \b
    tornpage crash                                   a sample of the states of each call
    tornpage crash --every-state                     all of them
    tornpage crash --latent                          and damage to files at rest
    tornpage crash --configuration wal/NORMAL        how many acknowledged changes a power cut may lose
    tornpage replay .tornpage/FILE                   a finding, at the very same operation

    Where a configuration promises nothing (OFF, or a rollback journal at NORMAL), damage is counted, not reported as a
    finding.
    """
    if every_state and crash_states is not None:
        raise click.UsageError("--states and --every-state exclude each other")
    if every_state:
        options["unlimited"] = ("crash_states",)
    options["latent"] = latent
    options["device"] = dataclasses.replace(Device(sector, powersafe_overwrite, atomic_write), **dict(device_settings))
    _run(context, target, ("crash",), options, crash_states=crash_states)


@click.command()
@target_option
@click.option(
    "--kills", type=click.IntRange(min=1), help="How many processes to kill, instead of the profile's number."
)
@search_options
@click.pass_context
def kill(context: click.Context, /, target: Target, kills: int | None, **options: Any) -> None:
    """Run the target in child processes, SIGKILL each inside an operation, restart and check.

    A process dies before, after or, for a write, half-way through one operation of SQLite, or around a BEGIN, a
    statement, a COMMIT. One in four has made the whole workload up to there; the others start on the files before one
    call. Every acknowledged change must be there, and of the pending call all or nothing.

    \b
    tornpage kill --kills 500             spread over every kind of operation, file and timing
    tornpage kill --configuration wal     only one journal mode
    tornpage replay .tornpage/FILE        a finding, in processes that are really killed again

    The job of each process is on disk before it begins, in kill-* below the report's directory.
    """
    _run(context, target, ("kill",), options, kills=kills)


@click.command()
@target_option
@click.option("--points", "rival_points", type=click.IntRange(min=1), help="At most so many points of each call.")
@search_options
@click.pass_context
def contend(context: click.Context, /, target: Target, rival_points: int | None, **options: Any) -> None:
    """Let rivals take real locks just before each lock operation of each call, in virtual time.

    A rival is another connection of this process, or another process. It holds a read transaction, the write lock, or
    the whole file; or it stops in the middle of its own COMMIT, checkpoint or recovery; or it commits between a read
    and the write that follows it. It holds its lock until the call has ended, so that a busy timeout expires (in
    virtual time), or for 50 ms, for which a store has to wait.

    \b
    tornpage contend                               the reference, some points of each call
    tornpage contend --profile nightly             every rival at every lock operation
    tornpage contend --configuration delete/EXTRA  only one journal mode
    tornpage contend --target diskcache --configuration delete/FULL

    The table counts a point as fired only if the store was refused a lock, waited for one, or got busy. A kind of rival
    that blocked the store at no point is reported in a note; if no rival ever did, the run ends with exit code 2.
    """
    _run(context, target, ("contend",), options, rival_points=rival_points)


@click.command()
@target_option
@click.option(
    "--schedules",
    type=click.IntRange(min=1),
    help="Schedules of one configuration and kind of callers; one more for each pair.",
)
@click.option("--preemptions", type=click.IntRange(1, 2), default=2, show_default=True, help="2: B is stopped, too.")
@click.option(
    "--callers", type=click.Choice(CALLERS), multiple=True, help="The kinds of callers, instead of the target's own."
)
@search_options
@click.pass_context
def interleave(
    context: click.Context, /, target: Target, schedules: int | None, callers: tuple[Callers, ...], **options: Any
) -> None:
    """Let two callers make a call each, switch between them at every lock, and compare with the serial orders.

    At states of the workload one call runs up to a lock operation, another caller's call to its end, then the rest of
    the first. Both answers, both views and the file must match one of the two serial orders. Time is virtual; busy is
    an answer like any other.

    \b
    tornpage interleave                                 the reference, some schedules
    tornpage interleave --profile nightly               every schedule of every pair of calls
    tornpage interleave --callers threads               two threads with a store each
    tornpage interleave --callers shared                two threads on one store

    A target for one caller only (callers = (), or one that does not see what others commit) is not tried; the run
    reports that, and ends with exit code 2.
    """
    _run(context, target, ("interleave",), {**options, "callers": callers}, schedules=schedules)


@click.command()
@target_option
@click.option("--points", type=click.IntRange(min=1), help="The most points of one call, instead of the profile's.")
@search_options
@click.pass_context
def limits(context: click.Context, /, target: Target, points: int | None, **options: Any) -> None:
    """Make memory run out, the database full, or a statement interrupted, at each point of each call.

    \b
    allocation  SQLite's 1st, 2nd, 3rd ... allocation fails, once or with all after it
    heap        SQLite may take no more than so many further bytes
    pages       the database may grow by so many pages: a real "database or disk is full"
    steps       the 1st, 2nd, 3rd ... step of SQLite's virtual machine interrupts its statement
    awaits      the call of an asynchronous store is cancelled at its 1st, 2nd, 3rd ... await

    \b
    tornpage limits                       a sample of the points, over the reference ledger
    tornpage limits --profile nightly     every one of them
    tornpage replay .tornpage/FILE        a finding, under the very same limit

    A point counts only if the limit was really met. Pages and steps reach only a target that connects through the
    environment; memory limits reach every target.
    """
    _run(context, target, ("limits",), options, limit_points=points)


@click.command()
@target_option
@click.option("--points", "points_per_call", type=click.IntRange(min=1), help="At most so many points of each call.")
@search_options
@click.pass_context
def syscalls(context: click.Context, /, target: Target, points_per_call: int | None, **options: Any) -> None:
    """Fail the system calls of a program in any language, one after the other, and kill it in each (Linux, strace).

    The program is started, gets its directory, and speaks JSON lines; strace is attached to it for one call at a time.
    Each read, write, sync, truncate, unlink and open of the database, the write-ahead log and the rollback journal
    fails with every errno that it can return, once and sticky.

    \b
    tornpage syscalls --target 'command:node store.mjs'
    tornpage syscalls --target command:./store --profile nightly      every point
    tornpage replay .tornpage/FILE --target 'command:node store.mjs'  a finding

    The program's protocol is in docs/any-language.md.
    """
    _run(context, target, ("syscalls",), options, points_per_call=points_per_call)


def _require_one_process(context: click.Context, options: dict[str, Any]) -> None:
    """Error paths are traced in this process alone; raises `click.UsageError` for other processes."""
    if not options["error_paths"]:
        return
    is_asked = context.get_parameter_source("jobs") is ParameterSource.COMMANDLINE and options["jobs"] > 1
    if is_asked or options["cluster"] is not None:
        raise click.UsageError("--error-paths sees one process only: leave --jobs and --cluster out")
    options["jobs"] = 1


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
    _require_one_process(context, options)
    reached = campaign.searches_for(target)
    if ("syscall" in target.depths and not set(searches) <= {*reached}) or "syscalls" in set(searches) - {*reached}:
        hint = "" if "syscall" in target.depths else "; a separate program is: --target 'command:PROGRAM ARGUMENT ...'"
        shown = ", ".join(reached)
        raise click.UsageError(f"{target.name} can't be reached by {', '.join(searches)}, only by: {shown}{hint}")
    if has_plain_files_only(target) and not set(searches) <= {*reached}:
        raise click.UsageError(
            f"{', '.join(searches)} is for SQLite's locks and limits, and {target.name} declares plain files "
            f"({target.configurations[0]}); it supports: {', '.join(reached)}"
        )
    plan = Plan(
        searches=searches,
        profile=_profile_of(searches, options, sizes),
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
    _print_estimate(target, plan, options)
    points, baseline, outputs = run_record.Points(), ci.baseline_of(options), ci.Outputs()
    if options["quiet"] and options["verbose"]:
        raise click.UsageError("--quiet and --verbose exclude each other")
    ci.require_writable(plan.report, options)
    loud = {"quiet": options["quiet"], "verbose": options["verbose"]}
    accepts = baseline.accepts if baseline else nothing_accepted
    with _tracer(options) as tracer, ci.watching(options) as others:
        handlers: tuple[Handler, ...] = (points, *others, *([tracer] if tracer else []))
        with tracer.running() if tracer else contextlib.nullcontext():
            recorder = run_shown(target, plan, *handlers, accepts=accepts, **loud)
        error_paths = tracer.result() if tracer else None
    record = run_record.record_of(recorder, target, plan, points, error_paths)
    record = with_traces(msgspec.structs.replace(record, command=as_typed(context)), target)
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
    least = options["least_error_paths"]
    if code is Exit.HOLDS and error_paths and least is not None and (error_paths.percent < least or error_paths.stale):
        wanted = f"at least {least:g} % are required, and no invalid reason"
        click.echo(f"{error_paths_summary(error_paths)}; {wanted}", err=True)
        code = Exit.FINDING
    context.exit(Exit.NOT_TESTED if outputs.missing and code is not Exit.INTERRUPTED else code)


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
    if options["exhaustive"] and not options["quiet"]:
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


def run_shown(
    target: Target,
    plan: Plan,
    *handlers: Handler,
    quiet: bool = False,
    verbose: bool = False,
    console: Console | None = None,
    accepts: Callable[[Finding], str] = nothing_accepted,
) -> Recorder:
    """Run a campaign with its progress on standard error; raises `CouldNotRun`."""
    shown = console or progress_output()

    elsewhere = plan.jobs > 1 or plan.cluster is not None

    def new_progress() -> Progress:
        return Progress(shown, quiet=quiet, verbose=verbose, max_time_s=plan.max_time_s, live=not elsewhere)

    with could_not_run():
        if elsewhere:
            each = defaultdict[str, Progress](new_progress)
            return campaign.run(target, plan, handlers, accepts, live=lambda name, event: each[name](event))
        with new_progress() as progress:
            return campaign.run(target, plan, (progress, *handlers), accepts)


def _canary_is_caught(quiet: bool) -> bool:
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
