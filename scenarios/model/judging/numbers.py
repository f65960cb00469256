"""Numbers that say nothing: those that a failed call has used up, and the ids of rows that two callers have made.

A failed call may use up an AUTOINCREMENT id, or one that a store counts in memory. Later calls then get other numbers
than in a shadow where the failed call never ran. That is correct: ids may have gaps.

SQLite gives a new row the largest id of its table and one more, and so the id of a row that was deleted just before. A
row that another caller is about to delete still counts: the new one has a larger id than in the order of the calls.

A store that counts in memory reads its largest number when it is opened. Where the row with that number is gone, the
next call after a restart gets a smaller one than without the restart. That is correct if it is one of the next after
all that are there: a store that counts from the beginning again soon gives a number twice, and one that has lost a part
of a sum writes any number.

A store may take numbers in blocks, and keep the rest of a block in memory: a session that is opened later begins
another one. So where the shadow's session and the store's were not opened at one time, new rows may have larger
numbers, or smaller ones that come next after all that are there.

A store that appends to a file beside its rows, and keeps the places in rows, gets larger places after a call that has
failed and left bytes there: larger by that many bytes.

Not covered: ids that are not decimal numbers, and numbers that appear in another order in a value.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from tornpage.scenarios.model.as_json import in_order
from tornpage.scenarios.model.target import View

_NUMBER: Final = re.compile(r"\d+")
# The parts of an item's key and of its value, by their places.
_Item = dict[tuple[Any, ...], str]


def is_among(
    view: View, before: View, possible: Iterable[View], *, numbers_used: bool, since_restart: int | None = None
) -> bool:
    """Whether a view is one of those `possible`.

    With `numbers_used` also one of them with higher new numbers, and with a number of calls `since_restart` one with
    lower new numbers, which those calls may have used.
    """
    return any(
        view == one
        or (numbers_used and is_renumbered(before, one, view))
        or (since_restart is not None and is_counted_anew(before, one, view, since_restart))
        for one in possible
    )


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


def is_of_another_block(before: View, wanted: View, seen: View, calls: int) -> bool:
    """Whether `seen` is `wanted` with other numbers in what the call added, as another session has in reserve.

    Larger ones; or smaller ones that come next after all that are there, which the session's `calls` may have used.
    """
    is_later = is_renumbered(before, wanted, seen)
    return is_later or (is_renumbered(before, seen, wanted) and is_counted_anew(before, wanted, seen, calls))


def is_moved_on(wanted: View, seen: View, bytes_left: Collection[int]) -> bool:
    """Whether `seen` is `wanted` but for numbers that are each larger by one of `bytes_left`."""
    changed = (_in_place_of([wanted], [seen]) if bytes_left else None) or {}
    return bool(changed) and all(new - old in bytes_left for old, new in changed.items())


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


def larger_ids(before: View, wanted: View, seen: View) -> dict[int, int]:
    """The ids of rows in `seen`, by those in `wanted`, if nothing else differs; empty if something does.

    The smallest is the id of a row of `before` that is in neither.
    """
    added, found = (_changed(before, view) for view in (wanted, seen))
    stays, still = wanted.keys() - added.keys(), seen.keys() - found.keys()
    pairs = list(zip(sorted(added, key=_by_number), sorted(found, key=_by_number), strict=False))
    if len(added) != len(found) or stays != still:
        return {}
    ids = _in_place_of([one for one, _ in pairs], [other for _, other in pairs])
    values = _in_place_of([added[one] for one, _ in pairs], [found[other] for _, other in pairs])
    if not ids or values is None or not values.items() <= ids.items() or any(new < old for old, new in ids.items()):
        return {}
    reused = [before.get(one) for one, other in pairs if one != other and min(ids) in _by_number(one)[0]]
    is_gone = all(row is not None and row not in (*wanted.values(), *seen.values()) for row in reused)
    return ids if is_gone else {}


def is_with_ids(ids: dict[int, int], wanted: Any, seen: Any) -> bool:
    """Whether a value is the wanted one, but for such ids in it."""
    changed = _in_place_of([wanted], [seen])
    return changed is not None and changed.items() <= ids.items()


def is_counted_on(value: Any, seen: Any) -> bool:
    """Whether one is the other with larger numbers in it, and no other change."""
    changed = _in_place_of([value], [seen]) or {}
    return bool(changed) and all(new > old for old, new in changed.items())


def is_counted_anew(before: View, wanted: View, seen: View, calls: int) -> bool:
    """Whether `seen` is `wanted` but for smaller numbers in what the last of some calls has added or changed.

    In its place in an item, each of them is larger than those of all other items of its kind, and than the one that
    was there `before`, by no more than the `calls` can have used.
    """
    added, found = (_changed(before, view) for view in (wanted, seen))
    if before.keys() - wanted.keys() != before.keys() - seen.keys() or len(added) != len(found):
        return False
    others = [_leaves(key, value) for key, value in seen.items() if key not in found]
    others += [_leaves(key, before[key]) for key in found if key in before]
    pairs = zip(sorted(added, key=_by_number), sorted(found, key=_by_number), strict=True)
    most = calls * len(found)
    return all(_is_next(_leaves(one, added[one]), _leaves(other, found[other]), others, most) for one, other in pairs)


def _leaves(key: str, value: Any) -> _Item:
    """The parts of a key and of its value as text, by their places."""
    found: _Item = {("key", place): part for place, part in enumerate(key.split("/"))}
    waiting: list[tuple[tuple[Any, ...], Any]] = [(("value",), value)]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += [((*place, name), part) for name, part in one.items()]
        elif isinstance(one, list | tuple):
            waiting += [((*place, number), part) for number, part in enumerate(one)]
        else:
            found[place] = in_order(one)
    return found


def _is_next(wanted: _Item, seen: _Item, others: list[_Item], most: int) -> bool:
    """Whether two items differ in numbers alone, each smaller, and larger than in items of their kind by at `most`."""
    alike = [one for one in others if one.keys() == seen.keys() and _table(one) == _table(seen)]
    return wanted.keys() == seen.keys() and all(
        text == wanted[place]
        or (_is_less(text, wanted[place]) and _comes_next(text, [one[place] for one in alike], most))
        for place, text in seen.items()
    )


def _comes_next(text: str, others: list[str], most: int) -> bool:
    largest = max((int(number) for one in others for number in _NUMBER.findall(one)), default=0)
    return all(_is_less(one, text) for one in others) and int(_NUMBER.findall(text)[0]) <= largest + most


def _table(item: _Item) -> str:
    return item["key", 0] if ("key", 1) in item else ""


def _is_less(one: str, other: str) -> bool:
    """Whether the texts differ in their only number, which is smaller in the first."""
    numbers = [*_NUMBER.findall(one), *_NUMBER.findall(other)]
    return len(numbers) == 2 and _NUMBER.split(one) == _NUMBER.split(other) and int(numbers[0]) < int(numbers[1])


def _changed(before: View, view: View) -> View:
    return {key: value for key, value in view.items() if key not in before or before[key] != value}


def _in_place_of(wanted: list[Any], seen: list[Any]) -> dict[int, int] | None:
    """The numbers in `seen` by those in `wanted` that they differ from; None if something else differs."""
    words, others = in_order(wanted), in_order(seen)
    if _NUMBER.split(words) != _NUMBER.split(others):
        return None
    pairs = zip(map(int, _NUMBER.findall(words)), map(int, _NUMBER.findall(others)), strict=True)
    changed = {(one, other) for one, other in pairs if one != other}
    return dict(changed) if len(dict(changed)) == len(changed) else None
