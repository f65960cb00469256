"""The group ``tornpage report``: reports from the record of a run (``run.json``)."""

from pathlib import Path

import click

from tornpage.scenarios.cli.options import CouldNotRun
from tornpage.scenarios.cli.report_files import COMMANDS
from tornpage.scenarios.run import gate_record as bugs_record
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.gate_record import BugsRecord
from tornpage.scenarios.run.record import RunFileError, RunRecord
from tornpage.scenarios.run.whole_file import write_whole


@click.group()
def report() -> None:
    """Make a page, or a file for another tool, from the record of a run."""


for _command in COMMANDS:
    report.add_command(_command)


@report.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path(".tornpage/run.json"), metavar="[RUN.json]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the page is written; by default report.html beside the record.",
)
def html(file: Path, output: Path | None) -> None:
    """Make an HTML page: the evidence of the verdict, the fault map, each finding step by step.

    The page is self-contained: it opens from a disk, or from the artifacts of a CI run. RUN.json is in the report's
    directory of a run; a bugs.json of tornpage bugs makes a page of known bugs, and one beside RUN.json is included in
    its page.
    """
    output = output or file.with_name("report.html" if not bugs_record.is_one(file) else "bugs.html")
    try:
        if bugs_record.is_one(file):
            from tornpage.scenarios.report.html import page_of_bugs  # noqa: PLC0415 - only a page needs the templates

            write_whole(output, page_of_bugs(bugs_record.read(file)))
        else:
            write_whole(output, _page_of(run_record.read(file), file.parent))
    except RunFileError as error:
        raise CouldNotRun(str(error)) from error
    except OSError as error:
        raise CouldNotRun(f"{output} can't be written: {error.strerror or error}") from error
    click.echo(f"{output} was written")


def write_page(record: RunRecord, path: Path, kept: Path | None) -> None:
    """Write the page of a run; `kept` is where a record of known bugs may be. Raises OSError."""
    write_whole(path, _page_of(record, kept))


def _page_of(record: RunRecord, kept: Path | None) -> str:
    from tornpage.scenarios.report.html import page_of_run  # noqa: PLC0415 - only a page needs the templates

    return page_of_run(record, _bugs_in(kept))


def _bugs_in(kept: Path | None) -> BugsRecord | None:
    if kept is None or not bugs_record.is_one(kept / "bugs.json"):
        return None
    try:
        return bugs_record.read(kept / "bugs.json")
    except RunFileError as error:
        click.echo(f"the known bugs are left out: {error}", err=True)
        return None
