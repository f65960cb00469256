"""Forked child processes: no fault and no virtual wait of a scope in which their parent was applies to them.

A forked child has a copy of everything that its parent had armed. Only the parent's operations are counted and judged:
a fault in the child would be in no report, and a child that waits for its parent's lock has to wait in real time.
"""

import os

_depth = [0]


def depth() -> int:
    """How many forks lie between the first process of this program and this one: it differs in each child."""
    return _depth[0]


def _has_begun() -> None:
    _depth[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_has_begun)
