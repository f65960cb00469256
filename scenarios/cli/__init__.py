"""The command ``tornpage``. Exit codes: 0 holds, 1 a finding, 2 could not run or tested nothing, 130 interrupted."""

import sys
from typing import Any, NoReturn


def main() -> NoReturn:
    """Run the command; a Ctrl-C while modules are still loading prints one line."""
    try:
        from tornpage.scenarios.cli.entry import run  # noqa: PLC0415 - loading it takes most of a second
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None
    run()


def __getattr__(name: str) -> Any:
    if name != "tornpage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tornpage.scenarios.cli.group import tornpage  # noqa: PLC0415 - as above

    return tornpage


__all__ = ["main", "tornpage"]
