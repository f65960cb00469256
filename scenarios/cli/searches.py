"""The commands that search: ``check``, and each search by itself."""

import dataclasses
from typing import Any

import click
from click.core import ParameterSource

from tornpage.faults import Device, FaultPlan
from tornpage.scenarios.cli.device import DeviceSetting
from tornpage.scenarios.cli.one_run import canary_is_caught, require_one_process, run_searches
from tornpage.scenarios.cli.options import FaultPlanText, could_not_run, search_options, target_option
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.scenario import CALLERS, Callers
from tornpage.scenarios.model.target import Target, TargetError
from tornpage.scenarios.run import campaign
from tornpage.scenarios.search.fuzz.checkpoint import seed_in


@click.command()
@target_option
@search_options
@click.pass_context
def check(context: click.Context, /, target: Target, **options: Any) -> None:
    """Run all searches: faults, crashes, rivals, two callers, limits, kills, and fuzz scenarios.

    First the canary, a build with an obvious bug, has to be caught: a run that can't detect it proves nothing.
    """
    require_one_process(context, options)
    if not canary_is_caught(quiet=options["quiet"]):
        click.echo("The canary was not caught: this run would prove nothing, and is not started.", err=True)
        context.exit(Exit.NOT_TESTED)
    run_searches(context, target, campaign.searches_for(target), options)


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
        run_searches(context, target, ("syscalls",), options)
    if depth is not None and depth not in target.depths:
        raise click.UsageError(f"{target.name} can be reached at: {', '.join(target.depths)}; not at {depth}")
    run_searches(context, target, ("sweep",), options, depths=(depth,) if depth else None, by_hand=faults_by_hand)


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
    run_searches(context, target, ("fuzz",), options, scenarios=scenarios, steps=steps)


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
    run_searches(context, target, ("crash",), options, crash_states=crash_states)


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
    run_searches(context, target, ("kill",), options, kills=kills)


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
    run_searches(context, target, ("contend",), options, rival_points=rival_points)


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
    tornpage interleave --callers shared                two threads, or tasks, on one store

    A target for one caller only (callers = (), or one that does not see what others commit) is not tried; the run
    reports that, and ends with exit code 2.
    """
    run_searches(context, target, ("interleave",), {**options, "callers": callers}, schedules=schedules)


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
    run_searches(context, target, ("limits",), options, limit_points=points)


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
    run_searches(context, target, ("syscalls",), options, points_per_call=points_per_call)
