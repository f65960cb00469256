"""``replay``, ``explain`` and ``targets``."""

import shlex
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from tornpage import faults
from tornpage.scenarios.cli.options import TargetName, call_timeout_option, output, scratch_option
from tornpage.scenarios.cli.project.completion import complete_code, complete_target
from tornpage.scenarios.execution.call_timeout import patience
from tornpage.scenarios.execution.finding.trace import Trace, trace_of
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.explain import explanation
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.report.terminal.trace import show_trace
from tornpage.scenarios.run.reproduce import replay_file as reproducer
from tornpage.scenarios.run.reproduce.artifacts import ArtifactError, put_down
from tornpage.scenarios.run.reproduce.emit_test import as_test_file
from tornpage.scenarios.run.reproduce.replay_file import ReplayFileError, Verdict
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.targets.names import UnknownTargetError, is_imported
from tornpage.scenarios.targets.registry import CLASSES, SHIPPED, find

_NOT_IN_STEPS: Final = "seen when it is played without the reads between the steps, which change what comes after"
_EXITS: Final = {Verdict.FIXED: Exit.HOLDS, Verdict.NOT_REPRODUCED: Exit.NOT_TESTED}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=TargetName(),
    shell_complete=complete_target,
    help="Play it on this target instead of the file's own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@call_timeout_option
@scratch_option
@click.option("--explain", "in_steps", is_flag=True, help="Show the scenario step by step, to the first difference.")
@click.option("--emit-test", is_flag=True, help="Write a pytest file that fails as long as the check does.")
@click.option(
    "--files",
    "files_to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Only write the store's files from before and after into this directory.",
)
@click.pass_context
def replay(
    context: click.Context,
    /,
    file: Path,
    target: Target | None,
    as_json: bool,
    call_timeout_s: float,
    in_steps: bool,
    emit_test: bool,
    files_to: Path | None,
) -> None:
    """Replay a finding three times: FIXED, FAILED, FLAKY, NOT REPRODUCED or ERROR.

    FIXED ends with exit code 0, FAILED and FLAKY with 1. NOT REPRODUCED (2) means that nothing fails, but that this
    proves nothing: the scenario did not reproduce the finding at first, either, or the target's code has not changed.

    The file is data: it is never executed, and it never causes an import.

    \b
    tornpage replay FILE               the verdict
    tornpage replay FILE --explain     memory, disk and reopened side by side where they first differ
    tornpage replay FILE --emit-test   a test to commit with the fix
    tornpage replay FILE --files DIR   the database before the failing step, and after it
    """
    if in_steps + emit_test + (files_to is not None) > 1:
        raise click.UsageError("--explain, --emit-test and --files exclude each other")
    if files_to is not None:
        _put_files_down(context, file, files_to)
    trace, verdict, lines = None, None, list[str]()
    try:
        read = reproducer.read(file)
        chosen = target or _named(read.scenario.target)
        reproducer.require_calls_of(chosen, read.scenario)
        if not emit_test:
            with patience(call_timeout_s), faults.install() as shim, shim.deterministic(), scratch() as directory:
                if in_steps:
                    trace = _traced(read, chosen, directory)
                if trace is None or not trace.check:
                    verdict, lines = reproducer.replay(read, chosen, directory)
    except (ReplayFileError, UnknownTargetError, faults.FaultError, RuntimeError) as error:
        _tell({"verdict": Verdict.ERROR, "error": str(error)}, as_json, f"ERROR: {error}")
        context.exit(Exit.NOT_TESTED)
    if emit_test:
        _emit(context, read, file, chosen)
    said = f"{verdict}: {_what(read, verdict, lines)} on {chosen.name}"
    if trace is not None:
        _explain(context, _judged(trace, verdict, lines), as_json, verdict, said)
    runs = "\n".join(f"  run {number}: {line}" for number, line in enumerate(lines, start=1))
    text = f"{read.scenario}\n{runs}\n{said}"
    _tell({"verdict": verdict, "check": read.check, "target": chosen.name, "runs": lines}, as_json, text)
    context.exit(_EXITS.get(verdict, Exit.FINDING) if verdict else Exit.FINDING)


def _what(read: reproducer.Reproducer, verdict: Verdict | None, lines: list[str]) -> str:
    """The check of the file, and notes on the runs."""
    check = read.check
    seen = lines[0].partition(":")[0] if lines else check
    if verdict is Verdict.NOT_REPRODUCED and read.shows_again:
        made, here = read.origin, reproducer.origin()
        elsewhere = f"; found with Python {made.python} and SQLite {made.sqlite}" if made != here else ""
        return f"{check} (nothing of the target's code has changed since it was found{elsewhere})"
    if verdict is Verdict.FAILED and seen != check:
        return f"{seen} (the file was made for {check})"
    if verdict is Verdict.FIXED and all("(0 of 0 " not in line and "(0 of " in line for line in lines):
        return f"{check} (but none of its faults fired: the operations have changed)"
    return check


def _put_files_down(context: click.Context, file: Path, directory: Path) -> NoReturn:
    try:
        written = put_down(reproducer.read(file).files, directory)
    except (ReplayFileError, ArtifactError, OSError) as error:
        raise click.UsageError(str(error)) from error
    for path in written:
        click.echo(f"{path}  {path.stat().st_size:,} bytes")
    context.exit(Exit.HOLDS)


def _emit(context: click.Context, read: reproducer.Reproducer, file: Path, target: Target) -> NoReturn:
    name, text = as_test_file(read, file.name, target.name)
    try:
        with Path(name).open("x", encoding="utf-8") as made:
            made.write(text)
    except FileExistsError as error:
        raise click.UsageError(f"{name} is here already; move it away first, nothing was overwritten") from error
    except OSError as error:
        raise click.UsageError(f"cannot write {name}: {error.strerror}") from error
    click.echo(f"{name} was written; run it: pytest {name}")
    context.exit(Exit.HOLDS)


def _traced(read: reproducer.Reproducer, target: Target, directory: Path) -> Trace:
    trace = trace_of(read.scenario, target, directory)
    if trace.reason:
        raise ReplayFileError(f"it can't be explained step by step: {trace.reason}")
    return trace


def _judged(trace: Trace, verdict: Verdict | None, lines: list[str]) -> Trace:
    """The trace, with the check that failed in a replay without reads between the steps."""
    if verdict not in (Verdict.FAILED, Verdict.FLAKY):
        return trace
    code, _, message = next(line for line in lines if not line.startswith(reproducer.NOTHING)).partition(": ")
    return msgspec.structs.replace(trace, check=code, message=f"{message}; {_NOT_IN_STEPS}")


def _explain(context: click.Context, trace: Trace, as_json: bool, verdict: Verdict | None, said: str) -> NoReturn:
    """Show a trace; `verdict` is that of a replay without it, `said` its words; None if the trace shows the finding."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(trace)).decode())
    else:
        show_trace(trace, output())
        if verdict is not None:
            click.echo(said)
    context.exit(Exit.FINDING if trace.check or verdict is None else _EXITS[verdict])


def _named(name: str) -> Target:
    if is_imported(name):
        quoted = shlex.quote(name)
        raise UnknownTargetError(f"the file names the target {name!r}; a file imports nothing: add --target {quoted}")
    return find(name)


def _tell(data: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(msgspec.json.encode(data).decode() if as_json else text)


@click.command()
@click.argument("code", shell_complete=complete_code)
def explain(code: str) -> None:
    """Explain a check, an SQLite result code or a fault, and what to do about it.

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
        return f"no fault in {faults.FaultPlan.parse(plan)}"
    except faults.PlanError as error:
        return str(error)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def targets(as_json: bool) -> None:
    """List the targets."""
    rows: dict[str, dict[str, str]] = {}
    for name in SHIPPED:
        try:
            title = find(name).title
        except UnknownTargetError as error:
            title = f"not available: {error}"
        rows[name] = {"class": CLASSES[name], "title": title}
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    for name, row in rows.items():
        click.echo(f"{name:21} {row['class']:11} {row['title']}")
    click.echo("bug:NAME              store       the reference with a known bug reintroduced; see tornpage bugs")
    click.echo("MODULE:NAME           your own    a target of your own; see docs/your-own-store.md")
    click.echo("command:...           your own    a program in any language; see docs/any-language.md")
