"""``new target`` and ``completion``: from nothing to a first verdict, and to names that complete themselves."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from tornpage import faults
from tornpage.scenarios.cli.options import could_not_run
from tornpage.scenarios.cli.project.completion import SHELLS, install, script
from tornpage.scenarios.report.words import plural
from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.run.unlogged import unlogged
from tornpage.scenarios.targets.registry import hint_for, imported

_NAME = re.compile(r"[\w.]+(?::\w+)?")


@click.group()
def new() -> None:
    """Write the first files of a project."""


@new.command()
@click.option(
    "--from",
    "name",
    metavar="MODULE:CLASS",
    required=True,
    help="The store: a class, a function that returns one, or a module of plain functions.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; MODULE_target.py by default.",
)
def target(name: str, out: Path | None) -> None:
    """Write a first target for your store, ready for `tornpage sweep` and `tornpage check`.

    \b
    tornpage new target --from names:Names          names_target.py
    tornpage new target --from names:make           the same, with a function: def make(path): return Names(...)
    tornpage new target --from shop.db:Orders --out tests/orders_target.py
    tornpage new target --from shop.notes           a store that is a module's plain functions

    The store is created in an empty directory and its public methods are called, without any fault, to find out which
    of them change its tables and which of its data matches them. The target meets the contract of view and rows; read
    it, and add the calls that your users make.
    """
    from tornpage.scenarios.run.first_steps.observed import observe  # noqa: PLC0415 - `completion` doesn't need it
    from tornpage.scenarios.run.first_steps.skeleton import write_target  # noqa: PLC0415 - as above

    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"--from {name!r} is not MODULE:CLASS, such as names:Names, nor MODULE:FUNCTION, a function that takes a "
            "path and returns a store, with the class method to call in it, nor MODULE, a module of plain functions"
        )
    module, _, attribute = name.partition(":")
    path = out or Path(f"{module.rpartition('.')[2]}_target.py")
    if path.exists():
        raise click.UsageError(f"{path} is here already; move it away first, or name another file with --out")
    store = _imported(module, attribute)
    # Open connections are looked for among all objects, often; those of the store are made in here.
    with (
        could_not_run(), scratch() as directory, faults.install() as shim, shim.deterministic(), faults.frozen(),
        unlogged(),
    ):  # fmt: skip
        observed = observe(store, directory / "observed")
        written = write_target(observed, module, attribute, directory, here=_module_of(path))
    try:
        path.write_text(written.text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {error.strerror}") from error
    names = ", ".join(dict.fromkeys(one.name for one in observed.calls))
    click.echo(f"{path} was written: {plural(len(observed.calls), 'call')}: {names}")
    for note in written.notes:
        click.echo(f"  {note}")
    click.echo(f"Next: tornpage sweep --target {_module_of(path)}:{written.name}")


def _imported(module: str, attribute: str) -> Callable[..., Any] | ModuleType:
    try:
        found: Callable[..., Any] | ModuleType = imported(module, attribute)
    except Exception as error:
        # The user's module is imported, and may fail in any way.
        what = f"{type(error).__name__}: {error}{hint_for(error)}"
        raise click.UsageError(f"cannot import {f'{module}:{attribute}'.rstrip(':')}: {what}") from error
    if attribute and not callable(found):
        raise click.UsageError(
            f"{module}:{attribute} is a {type(found).__name__}; name the class, or a function that returns one"
        )
    return found


def _module_of(path: Path) -> str:
    """The file's module name from here; if it is in another directory, that has to be on the path."""
    inside = not path.is_absolute() and ".." not in path.parts
    return ".".join(path.with_suffix("").parts) if inside else path.stem


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", "is_installed", is_flag=True, help="Install it for the shell's next start.")
def completion(shell: str | None, is_installed: bool) -> None:
    """Complete commands, options, and the names of targets, checks and bugs with the Tab key.

    \b
    tornpage completion --install       for the shell that SHELL names
    tornpage completion zsh             print the script
    """
    try:
        lines = install(shell) if is_installed else [script(shell)]
    except (LookupError, OSError) as error:
        raise click.UsageError(str(error)) from error
    for line in lines:
        click.echo(line)
