"""The group ``tornpage``: all its commands."""

import importlib
import importlib.util

import click

from tornpage.ledger.command import ledger_group
from tornpage.scenarios.cli.known_bugs import bugs, probe
from tornpage.scenarios.cli.libraries import libraries
from tornpage.scenarios.cli.replays import explain, replay, targets
from tornpage.scenarios.cli.reports import report
from tornpage.scenarios.cli.searches import check, contend, crash, fuzz, interleave, kill, limits, sweep, syscalls
from tornpage.scenarios.run.record import tornpage_version


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tornpage_version(), prog_name="tornpage")
def tornpage() -> None:
    """Make every I/O call beneath a SQLite-backed store fail, and see whether memory, disk and answers still agree.

    \b
    Start with:
      tornpage probe                 the bug that began it, on two builds
      tornpage check                 every fault point of the reference ledger, then scenarios
      tornpage check --target diskcache

    \b
    Exit codes:
      0    holds
      1    a finding; each ends with the line that replays it
      2    could not run, or tested nothing
      130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP); what was done until then is reported
    """


for _command in (
    check, sweep, crash, contend, interleave, limits, fuzz, kill, syscalls, probe, bugs, replay, explain, targets,
    libraries, report,
):  # fmt: skip
    tornpage.add_command(_command)
tornpage.add_command(ledger_group, "ledger")
# The wheel leaves this command out: it breaks this project's own source, which only a checkout has.
if importlib.util.find_spec("tornpage.scenarios.cli.mutants") is not None:
    tornpage.add_command(importlib.import_module("tornpage.scenarios.cli.mutants").mutants)
