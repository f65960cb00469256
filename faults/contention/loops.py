"""The event loop that runs this code: asyncio's, or trio's."""

import asyncio
import sys
from typing import Any


def the_loop() -> Any:
    """The module ``asyncio``, or ``trio``, whose event loop runs this code."""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_run() else asyncio
