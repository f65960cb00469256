"""Seeds of a search whose verdict must be the same with each: the first in each run, the others in the slow tests."""

from collections.abc import Iterable
from typing import Any

import pytest


def first_of(seeds: Iterable[int]) -> list[Any]:
    """Parameters for `seeds`, of which only the first is tried by ``-m "not slow"``."""
    first, *others = seeds
    return [first, *(pytest.param(seed, marks=pytest.mark.slow) for seed in others)]
