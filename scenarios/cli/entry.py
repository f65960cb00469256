"""From the command group to a process: signals, limited streams, and exit codes."""

import codecs
import os
import sys
import threading
import traceback
from typing import NoReturn

import click

from tornpage.scenarios.cli.group import tornpage
from tornpage.scenarios.cli.project.completion import VARIABLE, register
from tornpage.scenarios.execution.left_threads import daemons, do_not_wait_for
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.run import stop
from tornpage.scenarios.run.crashes import show_the_stack
from tornpage.scenarios.run.scratch import choose


def run() -> NoReturn:
    """Run the command."""
    _require_streams()
    show_the_stack()
    try:
        with stop.listening(), daemons():
            code = _code()
    finally:
        choose(None)
        for thread in threading.enumerate():
            do_not_wait_for(thread)
    raise SystemExit(stop.exit_code() if code == Exit.INTERRUPTED else code)


def _code() -> int:
    if VARIABLE in os.environ:
        return _complete()
    try:
        # Outside its standalone mode click hands the exit code back.
        return int(tornpage(prog_name="tornpage", standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    except SystemExit:
        # click ends this way if the output's reader has gone, with an exit code that here means a finding.
        return Exit.NOT_TESTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - Python's own exit code for it would mean a finding
        from tornpage.ledger.command import is_output_lost  # noqa: PLC0415 - only what fails needs it

        if isinstance(error, OSError) and is_output_lost():
            click.echo(f"the operating system refused the answer: {error}", err=True)
        else:
            traceback.print_exc()
            click.echo("internal error in tornpage; no verdict on the target", err=True)
        return Exit.NOT_TESTED


def _complete() -> int:
    """Answer a completion request of the shell, whose script interprets the output."""
    register()
    try:
        tornpage(prog_name="tornpage", complete_var=VARIABLE, standalone_mode=False)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _require_streams() -> None:
    """Give a process without standard streams null ones; let streams with a narrow encoding escape other characters.

    A free descriptor below 3 would otherwise be used for a file, and output would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open to the end
    codecs.register_error("tornpage", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="tornpage")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Characters that an encoding lacks, as JSON escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    text = "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
    return text, error.end
