"""``python -m benchmarks.model_steps``: compares the reference with its model over many steps, without faults.

A number of seeds with a number of steps each: random calls over the whole space of arguments, each compared with the
model (`scenarios.targets.reference.draws.walk`). Exit code 0: all calls agree; 1: one differs, and the calls before it
are shown.
"""

import tempfile
import time
from pathlib import Path

import click

from tornpage.scenarios.targets.reference.draws.walk import walk


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=20, show_default=True, help="So many walks.")
@click.option("--first", type=int, default=0, show_default=True, help="The first seed.")
@click.option("--steps", type=click.IntRange(min=1), default=50_000, show_default=True, help="So many steps in each.")
@click.option("--max-time", "max_time_s", type=click.FloatRange(min=0), help="Begin no walk after so many seconds.")
@click.pass_context
def main(context: click.Context, seeds: int, first: int, steps: int, max_time_s: float | None) -> None:
    """Walk, and print the number of steps and the time per step."""
    started, before, walked, astray = time.monotonic(), time.process_time(), 0, 0
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(first, first + seeds):
            if max_time_s is not None and time.monotonic() - started > max_time_s:
                break
            found = walk(seed, steps, Path(directory))
            walked += steps if found is None else found.step
            astray += found is not None
            click.echo(f"seed {seed}: " + (f"{steps:,} steps" if found is None else str(found)))
    each_ms = 1_000 * (time.process_time() - before) / walked if walked else 0.0
    click.echo(f"{walked:,} steps, {astray} of the walks left the model; {each_ms:.2f} ms of a core each")
    context.exit(1 if astray else 0)


if __name__ == "__main__":
    main()
