"""``tornpage libraries``: the depths that each SQLite library installed here supports, tried for real."""

import platform

import click
import msgspec

from tornpage.scenarios.run.scratch import scratch
from tornpage.scenarios.selftest.libraries import DEPTHS, LibraryRow, rows

_MEANING = (
    "vfs: file operations fail; crash: power cuts are built from a recording; contend: rivals hold real locks;\n"
    "statement: BEGIN, statements and COMMIT fail; pages, heap: a full database, no more memory; allocation: the nth\n"
    "allocation fails; seed: the same salts in every run."
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def libraries(*, as_json: bool) -> None:
    """List the depths that each SQLite library installed here supports.

    For each binding of Python (sqlite3, pysqlite3, sqlean, sqlcipher3, apsw) that can be imported, each depth is tried
    on a small database. Ends with exit code 2 if sqlite3 itself supports none.
    """
    with scratch() as directory:
        found = rows(directory)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        click.echo("\n".join(table(found)))
        click.echo(f"\n{_MEANING}")
    if not found[0].works.get("vfs"):
        raise SystemExit(2)


def table(found: list[LibraryRow]) -> list[str]:
    """The rows as a table in Markdown."""
    head = ("binding", "SQLite", "functions", *DEPTHS)
    lines = [f"Python {platform.python_version()} on {platform.system()}", "", _line(head), _line(["---"] * len(head))]
    for one in found:
        if one.reason:
            lines.append(_line([one.binding, one.reason, *[""] * (len(head) - 2)]))
            continue
        shown = "shown" if one.shows_functions else "hidden"
        lines.append(
            _line([one.binding, one.version, shown, *("yes" if one.works[depth] else "-" for depth in DEPTHS)])
        )
    return lines


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
