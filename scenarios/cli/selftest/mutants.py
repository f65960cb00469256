"""``mutants``: break one promise of the ledger at a time; the searches have to detect each."""

import os
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import click
import msgspec
from rich.table import Table

from tornpage.scenarios.cli.options import CouldNotRun, output
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.selftest.mutants import OPERATORS, SOURCES, Mutant, all_mutants, chosen_mutants
from tornpage.scenarios.selftest.mutants.equivalent import REVIEWED
from tornpage.scenarios.selftest.mutants.general import OPERATORS as GENERAL
from tornpage.scenarios.selftest.mutants.general import general_mutants, is_general, sample
from tornpage.scenarios.selftest.mutants.hunt import HUNTS, Verdict
from tornpage.scenarios.selftest.mutants.run import FATES, Trials, Tried


@click.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--operator", "operators", type=click.Choice(list(OPERATORS)), multiple=True, help="Only this operator.")
@click.option("--file", "files", type=click.Choice(list(SOURCES)), multiple=True, help="Only mutants of this file.")
@click.option(
    "--general",
    type=click.IntRange(min=1),
    help="In their place so many general ones, by seed: comparisons, constants, guards, all over the ledger.",
)
@click.option(
    "--hunt",
    "hunts",
    type=click.Choice(list(HUNTS)),
    multiple=True,
    help="Use only this hunt: scripts are fast, and survivors can be tried by id.",
)
@click.option("--list", "only_list", is_flag=True, help="List the mutants, and try none.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="How many run at a time.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same run.")
@click.option("--max-time", "max_time_s", type=click.FloatRange(min=0), help="Stop after so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def mutants(
    context: click.Context,
    /,
    names: tuple[str, ...],
    operators: tuple[str, ...],
    files: tuple[str, ...],
    general: int | None,
    hunts: tuple[str, ...],
    only_list: bool,
    jobs: int,
    seed: int,
    max_time_s: float | None,
    as_json: bool,
) -> None:
    """Break one promise in the ledger's own source, check that a search detects it, then try the next one.

    A commit is dropped, a sync, a rollback; memory or an observer comes before the commit; an error is swallowed, a
    pragma weakened, a condition left out. Each mutant runs in its own process, up to its first finding.

    \b
    tornpage mutants                              all of them, some minutes
    tornpage mutants --operator drop-fsync
    tornpage mutants --list --file ledger/disk/database.py
    tornpage mutants --general 600                a sample of general mutants
    tornpage mutants --general 100 --hunt scripts

    Exit code 0: every survivor is explained. 1: one is not, or an explanation no longer holds. 2: nothing was tried, or
    a search also has a finding in the unchanged ledger.
    """
    if general is not None and (names or operators or files):
        raise click.UsageError("--general is a separate sample: give no ids, --operator or --file with it")
    try:
        if general is not None:
            chosen = sample(general, seed)
        else:
            # An id may be of either kind.
            ordinary = [general_mutants()[name] for name in names if name not in all_mutants() and is_general(name)]
            rest = [name for name in names if name not in {one.id for one in ordinary}]
            chosen = ordinary + (chosen_mutants(rest, operators, files) if rest or not names else [])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if only_list:
        _list(chosen, as_json)
        return
    started = time.monotonic()
    tried, is_interrupted = _try_all(
        chosen, Trials(seed=seed, hunts=hunts), jobs, started + max_time_s if max_time_s else None
    )
    if not tried:
        raise CouldNotRun("no mutant was tried")
    control = Verdict(killed=False) if is_interrupted else _control(tried, seed)
    stale = _stale(tried)
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        _print_json(tried, control, stale, len(chosen), seconds, seed)
    else:
        _show(tried, stale, len(chosen), seconds, seed)
    if control.killed or control.error:
        raise CouldNotRun(f"the unchanged ledger fails, so no kill proves anything: {control}")
    if is_interrupted:
        context.exit(Exit.INTERRUPTED)
    if any(one.fate == "unknown" for one in tried):
        context.exit(Exit.NOT_TESTED)
    context.exit(Exit.FINDING if stale or any(one.fate == "survived" for one in tried) else Exit.HOLDS)


def _try_all(chosen: Sequence[Mutant], trials: Trials, jobs: int, deadline: float | None) -> tuple[list[Tried], bool]:
    """The mutants that were tried, in the order of the catalogue, and whether the user has stopped it."""
    tried: dict[str, Tried] = {}
    is_interrupted = False
    try:
        for mutant, verdict in trials.verdicts(chosen, jobs=jobs, deadline=deadline):
            one = tried[mutant.id] = Tried(mutant, verdict, REVIEWED.get(mutant.id))
            by = f" by {verdict.check}, {verdict.hunt or 'no hunt'}" if verdict.killed else ""
            click.echo(f"{len(tried)}/{len(chosen)} {mutant.id}: {one.fate}{by} ({verdict.seconds:.1f} s)", err=True)
    except KeyboardInterrupt:
        is_interrupted = True
        trials.stop()
    return [tried[mutant.id] for mutant in chosen if mutant.id in tried], is_interrupted


def _control(tried: Collection[Tried], seed: int) -> Verdict:
    """The findings of the successful hunts in the unchanged ledger, of which there must be none."""
    hunts = {one.verdict.hunt for one in tried if one.verdict.killed and one.verdict.hunt not in ("", "import")}
    return Trials(seed=seed).verdict(None, sorted(hunts)) if hunts else Verdict(killed=False)


def _stale(tried: Collection[Tried]) -> list[str]:
    """The explanations that no longer hold, each with the reason."""
    gone = [f"{name}: there is no such mutant any more" for name in REVIEWED if name not in all_mutants()]
    killed = [one for one in tried if one.known is not None and one.verdict.killed]
    return gone + [f"{one.mutant.id}: it was killed by {one.verdict.check}" for one in killed]


def _list(chosen: Sequence[Mutant], as_json: bool) -> None:
    if as_json:
        rows = [{"id": one.id, "line": one.line, "description": one.description} for one in chosen]
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    for one in chosen:
        click.echo(f"{one.id}  {one.description}")
    click.echo(f"{len(chosen)} mutants")


def _print_json(
    tried: Sequence[Tried], control: Verdict, stale: Sequence[str], total: int, seconds: float, seed: int
) -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": one.mutant.id,
            "operator": one.mutant.operator,
            "description": one.mutant.description,
            "fate": one.fate,
            "reason": one.known.reason if one.known is not None else None,
            "test": one.known.test or None if one.known is not None else None,
            "diff": one.mutant.diff,
            **msgspec.to_builtins(one.verdict),
        }
        for one in tried
    ]
    counts = Counter(one.fate for one in tried)
    data = {
        "mutants": rows,
        "counts": {fate: counts[fate] for fate in FATES},
        "not_tried": total - len(tried),
        "stale": list(stale),
        "control": msgspec.to_builtins(control),
        "seconds": seconds,
        "seed": seed,
    }
    click.echo(msgspec.json.format(msgspec.json.encode(data)).decode())


def _show(tried: Sequence[Tried], stale: Sequence[str], total: int, seconds: float, seed: int) -> None:
    console = output()
    fates = [fate for fate in FATES if fate != "unknown" or any(one.fate == fate for one in tried)]
    table = Table(title="mutants", title_justify="left")
    for name in ("operator", "tried", *fates):
        table.add_column(name, justify="left" if name == "operator" else "right")
    for operator in [one for one in (*OPERATORS, *GENERAL) if any(tri.mutant.operator == one for tri in tried)]:
        counts = Counter(one.fate for one in tried if one.mutant.operator == operator)
        table.add_row(operator, str(counts.total()), *(str(counts[fate]) for fate in fates))
    counts = Counter(one.fate for one in tried)
    table.add_section()
    table.add_row("all", str(counts.total()), *(str(counts[fate]) for fate in fates))
    console.print(table)
    _show_killers([one.verdict for one in tried if one.verdict.killed])
    for one in tried:
        if one.fate != "killed":
            _show_alive(one)
    for line in stale:
        click.echo(f"explained, but no longer true: {line}")
    left = f", {total - len(tried)} not tried" if total > len(tried) else ""
    click.echo(f"\n{len(tried)} tried in {seconds:.0f} s{left}; seed {seed}")


def _show_killers(verdicts: Sequence[Verdict]) -> None:
    table = Table(title="killed by", title_justify="left")
    table.add_column("hunt")
    table.add_column("check")
    table.add_column("mutants", justify="right")
    for (hunt, check), count in Counter((one.hunt or "none", one.check) for one in verdicts).most_common():
        table.add_row(hunt, check, str(count))
    if verdicts:
        output().print(table)


def _show_alive(one: Tried) -> None:
    click.echo(f"\n{one.fate}: {one.mutant.id}")
    click.echo(f"  {one.verdict.error or one.mutant.description}")
    if one.known is not None:
        click.echo(f"  {one.known.reason}" + (f" It fails: {one.known.test}" if one.known.test else ""))
        return
    click.echo("".join(f"    {line}\n" for line in one.mutant.diff.splitlines()), nl=False)
