"""Options that several commands share, and how their values are read."""

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console

from tornpage.faults import KILL, STATEMENT_KINDS, FaultError, FaultPlan, ShimUnavailableError, require_possible
from tornpage.faults.strace import SyscallsUnavailableError
from tornpage.scenarios.cli import ci
from tornpage.scenarios.cli.project.completion import complete_target
from tornpage.scenarios.model.exit_codes import Exit
from tornpage.scenarios.model.plan import PROFILES, without_password
from tornpage.scenarios.model.target import Configuration, Target, TargetError
from tornpage.scenarios.model.work import Shard
from tornpage.scenarios.run.scratch import ScratchError, choose
from tornpage.scenarios.targets.names import UnknownTargetError
from tornpage.scenarios.targets.registry import SHIPPED, find_or_import

# The system's errors if nothing can be written; not a defect.
_NO_PLACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
_Command = TypeVar("_Command", bound=Callable[..., Any])


class TargetName(click.ParamType[Target]):
    """The name of a target."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """Find the target, or fail with the known ones."""
        try:
            return find_or_import(str(value))
        except UnknownTargetError as error:
            self.fail(str(error), param, ctx)


class ConfigurationName(click.ParamType[Configuration]):
    """A journal mode and a synchronous level, such as wal/FULL."""

    name = "configuration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Configuration:
        """Parse it, or fail with what is allowed."""
        try:
            return Configuration.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ShardName(click.ParamType[Shard]):
    """A share of a run, such as 2/3."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Parse it, or fail with what is allowed."""
        try:
            return Shard.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class JobsNumber(click.ParamType[int]):
    """The number of processes: a number, or auto for the processors that this one may use."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it, or fail with what is allowed."""
        if value == "auto":
            return processors()
        try:
            jobs = int(value)
        except ValueError:
            jobs = 0
        if jobs < 1:
            self.fail(f"{value!r} is not a number of processes: give 1 or more, or auto for all processors", param, ctx)
        return jobs


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def jobs_option(what: str) -> Callable[[_Command], _Command]:
    """``--jobs``; `what` describes the work of the processes."""
    return click.option(
        "--jobs",
        type=JobsNumber(),
        default="auto",
        envvar="TORNPAGE_JOBS",
        show_default=True,
        show_envvar=True,
        help=f"{what}; the result is the same for any number.",
    )


class FaultPlanText(click.ParamType[FaultPlan]):
    """A fault plan, such as write:wal@1=FULL."""

    name = "fault plan"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FaultPlan:
        """Parse it, or fail with the place of the error and what is allowed there, or with possible faults."""
        try:
            plan = FaultPlan.parse(str(value))
            require_possible(plan)
        except FaultError as error:
            self.fail(str(error), param, ctx)
        if any(fault.effect == KILL for fault in plan.faults):
            self.fail(f"{plan} would kill tornpage itself", param, ctx)
        if len({fault.kind in STATEMENT_KINDS for fault in plan.faults}) > 1:
            self.fail(f"{plan} mixes the two depths; a plan is for one depth", param, ctx)
        return plan


def target_option(command: _Command) -> _Command:
    """``--target``."""
    return click.option(
        "--target",
        type=TargetName(),
        shell_complete=complete_target,
        default="reference",
        show_default=True,
        help=f"What to test: {', '.join(SHIPPED)}, bug:NAME, module:attribute of your own, or command:PROGRAM ...",
    )(command)


def search_options(command: _Command) -> _Command:
    """Options that check, sweep and fuzz share."""
    for option in reversed(_SEARCH_OPTIONS):
        command = option(command)
    return command


def _keep_below(_context: click.Context, _option: click.Parameter, directory: Path | None) -> None:
    choose(directory)


scratch_option: Final = click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    expose_value=False,
    callback=_keep_below,
    help="Keep the stores under test below this directory, not in TMPDIR or in memory.",
)

call_timeout_option: Final = click.option(
    "--call-timeout",
    "call_timeout_s",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Stop a call that has not returned after so many seconds; it is a finding.",
)

# From the most to the least used; `--help` shows them in this order.
_SEARCH_OPTIONS: Final = (
    click.option(
        "--profile",
        type=click.Choice(list(PROFILES)),
        default="quick",
        show_default=True,
        help="How much to search.",
    ),
    click.option(
        "--exhaustive",
        is_flag=True,
        help="Try every fault, rival, limit and crash state; print an estimate of the time first.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same run."),
    click.option("--max-time", "max_time_s", type=click.FloatRange(min=0), help="Stop after so many seconds."),
    call_timeout_option,
    click.option(
        "--configuration",
        "configurations",
        type=ConfigurationName(),
        multiple=True,
        help="Only this journal mode and synchronous level, such as wal/FULL; may be given several times.",
    ),
    jobs_option("The number of worker processes, auto: one for each processor"),
    click.option(
        "--report",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(".tornpage"),
        show_default=True,
        help="Where replay files are written.",
    ),
    click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write the run as an HTML page."),
    click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object."),
    click.option("--quiet", is_flag=True, help="Print no progress, only the result."),
    click.option("--verbose", is_flag=True, help="Also print a line for each call and configuration."),
    *ci.OPTIONS,
    click.option(
        "--shard",
        type=ShardName(),
        metavar="NUMBER/OF",
        help="Do only this share of the work, such as 1/3; tornpage report merge judges all shares together.",
    ),
    click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Let a cluster of dask.distributed do the work: tcp://HOST:PORT, or local for --jobs workers here.",
    ),
    click.option(
        "--error-paths",
        "error_paths",
        metavar="PACKAGE",
        multiple=True,
        help="Report which handlers of this package ran under which fault; may be given several times.",
    ),
    click.option(
        "--fail-under-error-paths",
        "least_error_paths",
        metavar="PERCENT",
        type=click.FloatRange(0, 100),
        help="Fail if fewer of them ran under a fault; those with a reason don't count.",
    ),
    scratch_option,
)

# The output files and the output format don't change the run.
_NOT_REPEATED = frozenset(("report", "html", "as_json", "quiet", "verbose")) | ci.NOT_REPEATED


def as_typed(context: click.Context) -> str:
    """The command line of a search again, without options for output."""
    words = ["tornpage", str(context.info_name)]
    for option in context.command.params:
        name = str(option.name)
        if (
            name in _NOT_REPEATED
            or name not in context.params
            or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE
        ):
            continue
        value = context.params[name]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [option.opts[0], one.name if isinstance(one, Target) else without_password(str(one))]
    return shlex.join(words)


def output() -> Console:
    """Standard output; if it is not a terminal, wide enough for every table."""
    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 120)


def progress_output() -> Console:
    """Standard error, for progress."""
    return Console(stderr=True, highlight=False, emoji=False)


class CouldNotRun(click.ClickException):
    """Nothing was tested, and why. click's own exit code would mean a finding."""

    exit_code = int(Exit.NOT_TESTED)


@contextlib.contextmanager
def could_not_run() -> Iterator[None]:
    """Turn an error that prevents a search into one clear line and exit code 2."""
    try:
        yield
    except (ShimUnavailableError, SyscallsUnavailableError, TargetError, ScratchError) as error:
        raise CouldNotRun(without_password(str(error))) from error
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise CouldNotRun(f"{error.strerror}: {error.filename or 'the files of the run can not be written'}") from error


def usage(error: FaultError | ValueError) -> click.UsageError:
    """A misuse as click reports it: exit code 2."""
    return click.UsageError(str(error))
