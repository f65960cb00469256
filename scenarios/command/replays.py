"""``replay``, ``explain`` and ``targets``."""

from pathlib import Path
from typing import Any

import click
import msgspec

import faults
from scenarios import reproducer
from scenarios.campaign import Exit, scratch
from scenarios.checks import CHECKS
from scenarios.command.options import TargetName
from scenarios.explanations import explanation
from scenarios.naming import SHIPPED, find
from scenarios.reproducer import ReplayFileError, Verdict
from scenarios.target import Target
from scenarios.targets.names import UnknownTargetError, is_imported


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", type=TargetName(), help="Play it on this target instead of the one that the file names.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.pass_context
def replay(context: click.Context, /, file: Path, target: Target | None, as_json: bool) -> None:
    """Play a finding again, three times: FIXED, FAILED, FLAKY or ERROR.

    The file is data: it is never executed, and nothing is imported because it says so.
    """
    try:
        read = reproducer.read(file)
        chosen = target or _named(read.story.target)
        with faults.install(), scratch() as directory:
            verdict, lines = reproducer.replay(read, chosen, directory)
    except (ReplayFileError, UnknownTargetError, faults.FaultError, RuntimeError) as error:
        _tell({"verdict": Verdict.ERROR, "error": str(error)}, as_json, f"ERROR: {error}")
        context.exit(Exit.NOT_TESTED)
    runs = "\n".join(f"  run {number}: {line}" for number, line in enumerate(lines, start=1))
    text = f"{read.story}\n{runs}\n{verdict}: {read.check} on {chosen.name}"
    _tell({"verdict": verdict, "check": read.check, "target": chosen.name, "runs": lines}, as_json, text)
    context.exit(Exit.HOLDS if verdict is Verdict.FIXED else Exit.FINDING)


def _named(name: str) -> Target:
    if is_imported(name):
        raise UnknownTargetError(f"the file names the target {name!r}; a file imports nothing: add --target {name}")
    return find(name)


def _tell(data: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(msgspec.json.encode(data).decode() if as_json else text)


@click.command()
@click.argument("code")
def explain(code: str) -> None:
    """Say what a check, an SQLite result code or a fault means, and what to do about it.

    CODE is a check such as no-resurrection, a result such as IOERR_FSYNC, or a fault plan such as write:wal@1=FULL.
    """
    found = explanation(code)
    if found is None:
        if "=" in code:
            raise click.UsageError(_what_is_wrong_with(code))
        raise click.UsageError(
            f"{code!r} is neither a check, nor an SQLite result code, nor a fault plan. Checks: {', '.join(CHECKS)}. "
            "Result codes: FULL, BUSY, IOERR_WRITE and so on. Fault plans: write:wal@1=FULL and so on."
        )
    click.echo(found)


def _what_is_wrong_with(plan: str) -> str:
    try:
        return f"nothing is wrong with {faults.FaultPlan.parse(plan)}"
    except faults.PlanError as error:
        return str(error)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def targets(as_json: bool) -> None:
    """List what can be put under test."""
    rows: dict[str, str] = {}
    for name in SHIPPED:
        try:
            rows[name] = find(name).title
        except UnknownTargetError as error:
            rows[name] = f"not available: {error}"
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    for name, title in rows.items():
        click.echo(f"{name:12} {title}")
    click.echo("bug:NAME     the reference with a known bug put back; see tornpage bugs")
    click.echo("MODULE:NAME  a target of your own; see docs/your-own-store.md")
