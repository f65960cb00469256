"""What a failed call leaves beside what a view shows: numbers that are used up.

An id of AUTOINCREMENT, and one that a store counts in memory, may be used up by a call that failed: later calls are
then numbered otherwise than those of a shadow in which it never happened. That is right: ids may have gaps.

Not covered: ids that are not decimal numbers, and a number whose order among others in a value differs.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tornpage.scenarios.model.target import View

_NUMBER: Final = re.compile(r"\d+")


def is_among(view: View, before: View, possible: Iterable[View], *, numbers_used: bool) -> bool:
    """Whether a view is one of those `possible`, or where `numbers_used` one of them that is numbered on."""
    return any(view == one or (numbers_used and is_renumbered(before, one, view)) for one in possible)


def is_renumbered(before: View, wanted: View, seen: View) -> bool:
    """Whether a call that leads from `before` to `wanted` has led to `seen`, with larger numbers for what it added.

    It has added as many things as wanted, each the same but for one number, and changed nothing else.
    """
    added, found = wanted.keys() - before.keys(), seen.keys() - before.keys()
    stays = {key: value for key, value in wanted.items() if key in before}
    if not added or len(added) != len(found) or stays != {key: seen[key] for key in seen.keys() & before.keys()}:
        return False
    pairs = zip(sorted(added, key=_by_number), sorted(found, key=_by_number), strict=True)
    return all(_is_numbered_on((one, wanted[one]), (other, seen[other])) for one, other in pairs)


def _by_number(key: str) -> tuple[list[int], str]:
    return [int(number) for number in _NUMBER.findall(key)], key


def _is_numbered_on(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Whether two things are the same, or the second one has one larger number wherever the first one has its own."""
    words, other_words = (msgspec.json.encode(thing, order="deterministic").decode() for thing in (one, other))
    if _NUMBER.split(words) != _NUMBER.split(other_words):
        return False
    numbers = zip(_NUMBER.findall(words), _NUMBER.findall(other_words), strict=True)
    changed = {(int(number), int(new)) for number, new in numbers if number != new}
    return not changed or (len(changed) == 1 and all(new > number for number, new in changed))
