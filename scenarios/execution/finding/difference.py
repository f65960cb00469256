"""Whether two violations show the same difference.

A shorter scenario reproduces a finding only if it shows the same difference: the same check, of a call with the same
kind of answer, with the same views on either side, which differ in the same way: a key that only the first has, that
only the second has, or that both have. Which keys these are may change with the calls before.

Without views the message decides, without what varies from run to run: numbers, quoted texts, and arguments.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tornpage.scenarios.model.judging.checks import Violation

# Innermost parentheses, quoted texts, file names and numbers.
_PARTICULARS = (r"\([^()]*\)", r"'[^']*'", r'"[^"]*"', r"\S*/\S*", r"\d+(?:[.,]\d+)*")


class Difference(NamedTuple):
    """The part of a violation that has to stay the same."""

    code: str
    answer: str
    sides: tuple[str, ...]
    ways: frozenset[str]
    words: str


def difference_of(violation: Violation) -> Difference:
    """The difference that a violation shows."""
    names = tuple(violation.sides)
    if len(names) < 2:
        return Difference(violation.code, violation.answer, names, frozenset(), in_general(violation.message))
    return Difference(violation.code, violation.answer, names, ways_of(violation.sides), "")


def ways_of(sides: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """In which ways the first two of some views differ."""
    if len(sides) < 2:
        return frozenset()
    left, right, *_ = sides.values()
    return frozenset(way for key in {*left, *right} if (way := _way(key, left, right)))


def _way(key: str, left: Any, right: Any) -> str:
    if key not in right:
        return "only the first"
    if key not in left:
        return "only the second"
    return "" if left[key] == right[key] else "another value"


def is_same(one: Violation, other: Violation) -> bool:
    """Whether both show the same difference."""
    return difference_of(one) == difference_of(other)


def in_general(message: str) -> str:
    """A message without its particulars."""
    before = ""
    while before != message:
        before = message
        for pattern in _PARTICULARS:
            message = re.sub(pattern, "…", message)
    return message
