"""``bugs`` and ``probe``: proof that the harness detects known bugs."""

from pathlib import Path

import click
import msgspec
from rich.table import Table

from tornpage import faults
from tornpage.scenarios.cli.options import could_not_run, jobs_option, output
from tornpage.scenarios.cli.project.completion import complete_bug
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.report.words import plural
from tornpage.scenarios.run import gate_record as bugs_record
from tornpage.scenarios.run.gate_record import Catch
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.selftest import gate
from tornpage.scenarios.selftest import probe as probing
from tornpage.scenarios.targets.known_bugs import all_bugs, find_bug
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.names import UnknownTargetError

_SLOWEST = 5
_UNITS = {"fuzz": "steps", "crash": "states", "kill": "kills"}


@click.command()
@click.argument("names", nargs=-1, shell_complete=complete_bug)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same run.")
@click.option(
    "--seeds",
    metavar="FIRST-LAST",
    callback=lambda _context, _parameter, text: _seeds(text),
    help="Count with how many of these seeds each search catches each bug; the reference is left out then.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".tornpage"),
    show_default=True,
    help="Where replay files and bugs.json are written.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the matrix as JSON.")
@jobs_option("How many bugs are tried at a time, auto: one for each processor")
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Let a cluster of dask.distributed do the work: tcp://HOST:PORT, or local for --jobs workers here.",
)
@click.pass_context
def bugs(
    context: click.Context,
    /,
    names: tuple[str, ...],
    seed: int,
    seeds: range | None,
    report: Path,
    as_json: bool,
    jobs: int,
    cluster: str | None,
) -> None:
    """Catch every known bug (or the named ones), each by each of its searches; the reference must stay silent."""
    try:
        chosen = [find_bug(name.removeprefix("bug:")) for name in names] or list(all_bugs().values())
    except UnknownTargetError as error:
        raise click.UsageError(str(error)) from error
    if seeds is not None:
        counted: _Counts = {}
        try:
            with could_not_run(), gate.over(jobs, cluster) as over:
                _count(chosen, seeds, over, counted)
            end = Exit.HOLDS if all(one.caught == one.tried for one in counted.values()) else Exit.FINDING
        except KeyboardInterrupt:
            end = Exit.INTERRUPTED
        _show_counts(list(counted.values()), seeds, as_json=as_json)
        context.exit(end)
    catches: list[tuple[KnownBug, Catch]] = []
    interrupted = False
    try:
        with could_not_run(), gate.over(jobs, cluster) as over:
            caught, heard = gate.catches(chosen, seed, report, over), gate.noise(chosen, seed, over)
            for bug, catch in caught:
                catches.append((bug, catch))
                click.echo(f"{bug.name} by {catch.search}: {catch.check or 'MISSED'} after {catch.work}", err=True)
            noise = list(heard)
    except KeyboardInterrupt:
        interrupted, noise = True, ["interrupted before its searches had ended"]
    try:
        record = bugs_record.record_of_bugs(catches, noise, seed, complete=not interrupted)
        bugs_record.write(record, report / "bugs.json")
    except OSError as error:
        # An unwritable file must not lose the verdict.
        click.echo(f"no record of this run: {error}", err=True)
    if as_json:
        rows = [{**msgspec.to_builtins(catch), "caught": catch.caught, "budget": bug.budget} for bug, catch in catches]
        click.echo(msgspec.json.format(msgspec.json.encode({"bugs": rows, "reference": noise, "seed": seed})).decode())
    else:
        _show(catches, noise)
    if interrupted:
        context.exit(Exit.INTERRUPTED)
    good = all(catch.caught and gate.within_budget(catch, bug) for bug, catch in catches) and not noise
    context.exit(Exit.HOLDS if good else Exit.FINDING)


def _seeds(text: str | None) -> range | None:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
        raise click.BadParameter(f"{text!r} is not a range of seeds; give two numbers, such as 0-19, or one")
    return range(int(first), int(last if dash else first) + 1)


class _Counted(msgspec.Struct):
    """One search of one bug: with how many seeds it was tried and caught, and the results of the others."""

    build: str
    search: str
    tried: int = 0
    caught: int = 0
    # By seed: the check that failed first instead, or too late; None for no finding.
    others: dict[int, str | None] = {}


# By build and search.
_Counts = dict[tuple[str, str], _Counted]


def _count(chosen: list[KnownBug], seeds: range, over: gate.Map, counted: _Counts) -> None:
    """Try the bugs with each seed; `counted` has the results so far, also after Ctrl-C."""
    for seed in seeds:
        for bug, catch in gate.catches(chosen, seed, None, over):
            one = counted.setdefault((bug.name, catch.search), _Counted(bug.name, catch.search))
            one.tried += 1
            if catch.caught and gate.within_budget(catch, bug):
                one.caught += 1
            else:
                one.others[seed] = f"{catch.check} over budget" if catch.caught else catch.check
                click.echo(f"seed {seed}: {bug.name} by {catch.search}: {one.others[seed] or 'MISSED'}", err=True)
        click.echo(f"seed {seed}: done", err=True)


def _show_counts(counted: list[_Counted], seeds: range, *, as_json: bool) -> None:
    if as_json:
        data = {"seeds": list(seeds), "bugs": counted}
        click.echo(msgspec.json.format(msgspec.json.encode(data)).decode())
        return
    table = Table(title=f"known bugs with {plural(len(seeds), 'seed')}", title_justify="left")
    for name in ("build", "search", "caught", "else"):
        table.add_column(name, justify="right" if name == "caught" else "left", overflow="fold")
    for one in counted:
        others = ", ".join(f"seed {seed}: {check or 'MISSED'}" for seed, check in one.others.items())
        table.add_row(one.build, one.search, f"{one.caught}/{one.tried}", others)
    output().print(table)


def _show(catches: list[tuple[KnownBug, Catch]], noise: list[str]) -> None:
    table = Table(title="known bugs", title_justify="left")
    for name in ("build", "search", "caught by", "after", "scenario"):
        table.add_column(name, justify="right" if name == "after" else "left", overflow="fold")
    for bug, catch in catches:
        unit = _UNITS.get(catch.search, "points")
        by = catch.check or "MISSED"
        if catch.check and not catch.caught:
            by += f" (expected {', '.join(bug.checks)})"
        over = "" if gate.within_budget(catch, bug) else f" (budget {bug.budget})"
        scenario = (
            f"{plural(catch.scenario_steps, 'step')}, {plural(catch.scenario_faults, 'fault')}" if catch.check else ""
        )
        table.add_row(bug.name, catch.search, by, f"{catch.work:,} {unit}{over}", scenario)
    console = output()
    console.print(table)
    for bug, catch in catches:
        if catch.replay and catch.search == bug.searches[0]:
            click.echo(f"\n{bug.name} ({bug.source}): {catch.message}\n  Reproduce with:\n    {catch.replay}")
    missed = sorted({bug.name for bug, catch in catches if not catch.caught})
    click.echo(
        f"\n{plural(len(catches), 'try', 'tries')}, " + (f"MISSED: {', '.join(missed)}" if missed else "all caught")
    )
    late = [f"{bug.name} by {catch.search}" for bug, catch in catches if not gate.within_budget(catch, bug)]
    if late:
        click.echo(f"OVER BUDGET: {', '.join(late)}")
    slow = sorted(catches, key=lambda one: -one[1].cpu_s)[:_SLOWEST]
    click.echo("slowest: " + ", ".join(f"{one.build} by {one.search} {one.cpu_s:.1f} s" for _, one in slow))
    click.echo("reference: " + ("; ".join(noise) if noise else "no finding by the same searches"))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.pass_context
def probe(context: click.Context, /, as_json: bool) -> None:
    """Run the reported bug on two builds: the one that changes memory first, and the reference.

    A write fails while one task is updated and another deleted. After each failure, does the process agree with the
    file? After a restart, does the deleted task come back?
    """
    with could_not_run(), faults.install(), scratch() as directory:
        results = [probing.probe(target, directory / target.name) for target in probing.builds()]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        for result in results:
            click.echo(f"{result.build}: {result}")
    memory_first, reference = results
    shown = memory_first.divergence_count == 2 and memory_first.resurrected_count == 1
    context.exit(Exit.HOLDS if shown and reference.holds else Exit.FINDING)
