"""``python -m benchmarks``: every ratio, measured side by side in one run, as a table, as Markdown or as JSON."""

import os
from pathlib import Path

import click
import msgspec
from benchmarks.measuring import Ratio
from benchmarks.parts import FULL, PARTS, QUICK, Bench, Size, left_out
from benchmarks.places import disk, places
from benchmarks.showing import as_data, as_markdown, as_table
from rich.console import Console


def measured(parts: list[str], directory: Path, size: Size, console: Console) -> list[Ratio]:
    """Every line of some parts; each is printed as soon as it is measured."""
    found: list[Ratio] = []
    with places(directory) as homes:
        for part in parts:
            console.print(f"{part} …", highlight=False)
            for ratio in PARTS[part](Bench(homes, size)):
                found.append(ratio)
                line = f"  {ratio.ours}, {ratio.place}, against {ratio.theirs}: {ratio.median:.2f}"
                console.print(line, highlight=False, soft_wrap=True)
    return found


def _named(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    """The parts of a list with commas, in their own order."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise click.BadParameter(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names or not names]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown, as in docs/performance.md.")
@click.option("--quick", is_flag=True, help="Some seconds instead of twenty minutes; only to see that it runs.")
@click.option("--only", "parts", default="", callback=_named, metavar="PARTS", help=f"Some of: {','.join(PARTS)}.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=disk,
    help="Where to measure on disk; a directory is made there and taken away.  [default: the temporary directory]",
)
def main(as_json: bool, markdown: bool, quick: bool, parts: list[str], directory: Path) -> None:
    """Print what the shim, the searches and the ledger cost, as ratios measured side by side."""
    console = Console(stderr=True)
    reasons = {part: reason for part in parts if (reason := left_out(part, quick=quick))}
    for part, reason in reasons.items():
        console.print(f"{part} is left out: {reason}", highlight=False, soft_wrap=True)
    before = os.getloadavg()[0]
    chosen = [part for part in parts if part not in reasons]
    ratios = measured(chosen, directory, QUICK if quick else FULL, console)
    loads = before, os.getloadavg()[0]
    if as_json:
        data = as_data(ratios, reasons, loads, quick=quick)
        click.echo(msgspec.json.format(msgspec.json.encode(data)).decode())
    elif markdown:
        click.echo(as_markdown(ratios, loads))
    else:
        Console(width=160, highlight=False).print(as_table(ratios, quick=quick))


if __name__ == "__main__":
    main()
