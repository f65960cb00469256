"""Numbers that a failed call has used up, which no view shows.

A failed call may use up an AUTOINCREMENT id, or one that a store counts in memory. Later calls then get other numbers
than in a shadow where the failed call never ran. That is correct: ids may have gaps.

Not covered: ids that are not decimal numbers, and numbers that appear in another order in a value.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from tornpage.scenarios.model.as_json import in_order
from tornpage.scenarios.model.target import View

_NUMBER: Final = re.compile(r"\d+")


def is_among(view: View, before: View, possible: Iterable[View], *, numbers_used: bool) -> bool:
    """Whether a view is one of those `possible`; with `numbers_used` also one of them with higher new numbers."""
    return any(view == one or (numbers_used and is_renumbered(before, one, view)) for one in possible)


def is_renumbered(before: View, wanted: View, seen: View) -> bool:
    """Whether `seen` is `wanted` with larger numbers in the keys and values that the call added to `before`.

    It has as many additions as `wanted`, each equal but for one number, and no other change.
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
    """Whether two items are equal, or differ in one number, which is larger in the second wherever it appears."""
    words, other_words = (in_order(thing) for thing in (one, other))
    if _NUMBER.split(words) != _NUMBER.split(other_words):
        return False
    numbers = zip(_NUMBER.findall(words), _NUMBER.findall(other_words), strict=True)
    changed = {(int(number), int(new)) for number, new in numbers if number != new}
    return not changed or (len(changed) == 1 and all(new > number for number, new in changed))
