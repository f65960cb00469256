"""``tornpage doctor`` and ``tornpage adapter``: a program in any language, on its way to be tested."""

import contextlib
import shutil
from pathlib import Path

import click

from tornpage import faults
from tornpage.scenarios.cli.options import could_not_run, target_option
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.target import Target
from tornpage.scenarios.run import doctor as examination
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.targets.process import ADAPTERS, ProcessTarget


@click.command()
@target_option
@click.pass_context
def doctor(context: click.Context, /, target: Target) -> None:
    """Play the protocol with a program, without any fault; report what it lacks, and the time of a point.

    \b
    tornpage doctor --target 'command:node adapter.mjs'

    Ends with exit code 2 at the first error; docs/any-language.md has the remedies.
    """
    if not isinstance(target, ProcessTarget):
        raise click.UsageError(f"{target.name} runs in this process; doctor is for --target 'command:PROGRAM ...'")
    is_right = True
    with could_not_run(), scratch() as directory, faults.install() as shim, shim.deterministic():
        for one in examination.examine(target, directory):
            is_right = one.is_right
            took = f" ({one.seconds:.2f} s)" if one.is_right else ""
            click.echo(f"{'right' if is_right else 'WRONG'}  {one.what}{took}: {one.found}")
    if is_right:
        click.echo(f"ready: tornpage check --target {click.style(repr(target.name))}")
    context.exit(Exit.HOLDS if is_right else Exit.NOT_TESTED)


@click.command()
@click.argument("language", type=click.Choice(sorted(path.name for path in ADAPTERS.iterdir() if path.is_dir())))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
def adapter(language: str, directory: Path) -> None:
    """Copy the helper of a language, and a small example that uses it, into a directory.

    \b
    tornpage adapter node        tornpage.mjs, which speaks the protocol, and notes.mjs
    tornpage adapter go test/    into a directory of its own

    An existing file is not overwritten, and is reported.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for file in sorted((ADAPTERS / language).iterdir()):
        there = directory / file.name
        with contextlib.suppress(FileExistsError), there.open("xb") as made, file.open("rb") as source:
            shutil.copyfileobj(source, made)
            click.echo(f"made {there}")
            continue
        click.echo(f"{there} exists already, and is not overwritten", err=True)
