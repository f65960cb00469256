"""The group ``tornpage``: all its commands, each loaded on use."""

import importlib
import importlib.util
from pathlib import Path
from typing import Final

import click

_CLI: Final = "tornpage.scenarios.cli"
# The module of each command: one command must not load what another one needs, such as rich or Hypothesis.
_MODULES: Final = {
    **dict.fromkeys(
        ("check", "sweep", "crash", "contend", "interleave", "limits", "fuzz", "kill", "syscalls"), f"{_CLI}.searches"
    ),
    **dict.fromkeys(("bugs", "probe"), f"{_CLI}.selftest.known_bugs"),
    **dict.fromkeys(("replay", "explain", "targets"), f"{_CLI}.replays"),
    **dict.fromkeys(("doctor", "adapter"), f"{_CLI}.project.doctor"),
    **dict.fromkeys(("new", "completion"), f"{_CLI}.project.first_steps"),
    "libraries": f"{_CLI}.project.libraries",
    "report": f"{_CLI}.reports",
    "ledger": "tornpage.ledger.command",
    # The wheel leaves this command out: it changes this project's own source, which only a checkout has.
    "mutants": f"{_CLI}.selftest.mutants",
}
_ATTRIBUTES: Final = {"ledger": "ledger_group"}


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(_MODULES[name]) is not None


class _LoadedLater(click.Group):
    """A group whose commands are imported by name on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names; `ctx` is click's."""
        del ctx
        return sorted(filter(_is_there, _MODULES))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None for none."""
        del ctx
        # Not those of all: a module is looked for in its package, which is loaded for that, such as the ledger.
        if cmd_name not in _MODULES or not _is_there(cmd_name):
            return None
        command: click.Command = getattr(
            importlib.import_module(_MODULES[cmd_name]), _ATTRIBUTES.get(cmd_name, cmd_name)
        )
        return command


def _version(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if not is_asked or context.resilient_parsing:
        return
    from tornpage.scenarios.model.version import tornpage_version  # noqa: PLC0415 - few ask for it

    click.echo(f"tornpage, version {tornpage_version()}")
    context.exit()


@click.group(cls=_LoadedLater, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
@click.pass_context
def tornpage(context: click.Context) -> None:
    """Make every I/O call below a SQLite-backed store fail, and check that memory, disk and answers still agree.

    \b
    Start with:
      tornpage probe                 the original bug, on two builds
      tornpage check                 every fault point of the reference ledger, then scenarios
      tornpage check --target diskcache
      tornpage new target --from module:Class        a first target for your own store

    \b
    Exit codes:
      0    holds
      1    a finding; each ends with the line that replays it
      2    could not run, or tested nothing
      130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP); the results so far are reported
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        _suggest()
        # Nothing was tested.
        context.exit(2)


def _suggest() -> None:
    """Suggest the next steps, if this directory is a project with a store."""
    from tornpage.scenarios.run.first_steps.suggestion import next_steps  # noqa: PLC0415 - only this needs it

    if lines := next_steps(Path.cwd()):
        click.echo("\nNext, here:")
        for line in lines:
            click.echo(f"  {line}")
