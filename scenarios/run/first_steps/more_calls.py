"""Calls beside those that were found: the same with another value, and with a second key.

Method. Each is tried in a store of its own, after the calls before it, so that one which is refused leaves nothing
behind. A call that adds rows is made for a second key, which must add rows, too; so is each later call that changes
something for the first key: a defect may need two rows, such as a cursor that is not at its end. Of those that take
away only the last is: it meets what the others have left of the second key, such as a reference to it.
A method without an effect so far is called for the second key, and then for the first: it may move one of two rows. If
with the second keys any of the calls that were found has no effect, or has one only then, there are none of them.

A method that takes two keys is called for both at the end, and the other way round: two callers that do so at once may
make a cycle, or wait for each other. It takes two if it has an effect only with two that are there, or if it changes
two rows. Where the second of these calls fails after the first, what the first one has changed is taken away between.

Not covered: stores whose keys are neither text nor numbers, defects that need more rows, and edges between keys that
need not be there.
"""

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.run.first_steps.arguments import other_values
from tornpage.scenarios.run.first_steps.values import second_keys_of

_BOTH_WAYS: Final = (("alpha", "beta"), ("beta", "alpha"))


class Effect(msgspec.Struct, frozen=True):
    """What a call did to the tables: how many rows it added, how many were lost as they were, whether any differs."""

    added: int
    lost: int
    changed: bool


class Player(Protocol):
    """A new store that can be played once."""

    store: Any

    def effects(self, actions: Sequence[Action]) -> list[Effect | None]:
        """Make the calls and close the store; the effect of each, None for one that failed."""


Fresh = Callable[[], Player]
Found = list[tuple[Action, int]]


def overwriting(fresh: Fresh, store: Any, found: Found) -> dict[int, Found]:
    """For calls that added rows, by their place: the same call with another value.

    It replaces a row, or adds one of the same key, as in a log. One that changes the row and leaves in it what the
    first call wrote, such as another name of a JSON object, is made, too: of two callers one may lose the other's.
    """
    calls: dict[int, Found] = {}
    for index, (action, added) in enumerate(found):
        args = other_values(operator.attrgetter(action.name)(store), action.args) if added > 0 else ()
        others = [Action(action.name, one) for one in args]
        before = [one for one, _ in found[: index + 1]]
        for other in others:
            last = fresh().effects([*before, other])[-1]
            if last is not None and (last.lost or last.added > 0):
                calls[index] = [(other, 0)]
                break
        beside = next((one for one in others[1:] if _is_beside(fresh, before, one)), None)
        if beside is not None:
            calls[index] = [*calls.get(index, []), (beside, 0)]
    return calls


def _is_beside(fresh: Fresh, before: Sequence[Action], other: Action) -> bool:
    """Whether a call changes a row, and the last one `before`, made once more, changes nothing: what it wrote stays."""
    changes, again = fresh().effects([*before, other, before[-1]])[-2:]
    is_changed = changes is not None and changes.lost > 0 and changes.added == 0
    return is_changed and again is not None and not again.changed


def second_keys(fresh: Fresh, found: Found, idle: Sequence[Action] = ()) -> dict[int, Found]:
    """By their place: the calls that added rows, and later ones that use them, for a second key.

    Of `idle`, calls without an effect so far, those that have one there are added where the last rows are.
    """
    alone = fresh().effects([action for action, _ in found])
    played: list[Action] = []
    originals: list[int] = []
    calls: dict[int, Found] = {}
    last = max((index for index, (_, added) in enumerate(found) if added > 0), default=-1)
    taking = [index for index, effect in enumerate(alone) if effect is not None and effect.added < 0]
    for index, ((action, added), effect) in enumerate(zip(found, alone, strict=True)):
        originals.append(len(played))
        played.append(action)
        seconds = []
        is_first = action.name not in {one.name for more in calls.values() for one, _ in more}
        if is_first and effect is not None and effect.changed and index not in taking[:-1]:
            seconds += _working(fresh, played, second_keys_of(action), adds=added > 0) if added > 0 or calls else []
        if index == last and (calls or seconds):
            for one in idle:
                moved = _working(fresh, [*played, *seconds], second_keys_of(one))
                seconds += [*moved, *(_working(fresh, [*played, *seconds, *moved], [one]) if moved else [])]
        if seconds:
            calls[index] = [(one, 0) for one in seconds]
            played += seconds
    together = fresh().effects(played) if calls else alone
    same = [together[place] for place in originals]
    does = [[one is not None and one.changed for one in effects] for effects in (alone, same)]
    return calls if does[0] == does[1] else {}


def mirrored(fresh: Fresh, found: Found, failed: Sequence[Action] = ()) -> Found:
    """Calls of a method that takes two keys, for both and the other way round, after all others.

    `failed` are calls of other methods, which have failed with these arguments, or have had no effect.
    """
    calls = [action for action, _ in found]
    choices = [*calls, *failed]
    kinds = {(one.name, *map(type, one.args.values())): one for one in reversed(choices)}
    texts = [(action, [key for key, one in action.args.items() if isinstance(one, str)]) for action in kinds.values()]
    if "beta" not in (one for action in calls for one in action.args.values()) or max(len(one) for _, one in texts) < 2:
        return []
    effects = fresh().effects(calls)
    adding, taking = (
        [one for one, effect in zip(calls, effects, strict=True) if effect is not None and effect.added * sign > 0]
        for sign in (1, -1)
    )
    anew: list[Action] = []
    for one in adding:
        anew += _working(fresh, [*calls, *anew], [one], again=True)
    for action, own in texts:
        for keys in itertools.combinations(own, 2):
            pair = [Action(action.name, action.args | dict(zip(keys, two, strict=True))) for two in _BOTH_WAYS]
            for there in ([], anew):
                if not all(_takes_two(fresh, [*calls, *there], one, keys) for one in pair):
                    continue
                for between in ([], [*taking, *adding]):
                    more = [*there, pair[0], *between, pair[1]]
                    if None not in fresh().effects([*calls, *more])[len(calls) :]:
                        return [(one, 0) for one in more]
    return []


def put_in(fresh: Fresh, found: Found, missed: Sequence[Action]) -> Found:
    """The calls that were found, and each of `missed` at the last place where it has an effect and leaves the others'.

    It is made there only if no call of its name was found.
    """
    for action in (one for one in missed if one.name not in {call.name for call, _ in found}):
        alone = _changes(fresh, found)
        for place in range(len(found), 0, -1):
            more = [*found[:place], (action, 0), *found[place:]]
            changes = _changes(fresh, more)
            if changes.pop(place) and changes == alone:
                found = more
                break
    return found


def _changes(fresh: Fresh, found: Found) -> list[bool | None]:
    effects = fresh().effects([action for action, _ in found])
    return [None if one is None else one.changed for one in effects]


def _takes_two(fresh: Fresh, before: Sequence[Action], both: Action, keys: Sequence[str]) -> bool:
    """Whether a call uses two keys that are there: with both it changes two rows, or with another one nothing."""
    effect = fresh().effects([*before, both])[-1]
    if effect is None or not effect.changed:
        return False
    others = [Action(both.name, both.args | {key: "gamma"}) for key in keys]
    without = [fresh().effects([*before, one])[-1] for one in others]
    return effect.lost > 1 or not any(one is not None and one.changed for one in without)


def _working(
    fresh: Fresh, before: Sequence[Action], choices: Sequence[Action], *, adds: bool = False, again: bool = False
) -> list[Action]:
    """The first of the calls that changes something there, or `adds` rows; an empty list for none.

    Calls made before are left out, but with `again`.
    """
    for one in (one for one in choices if again or one not in before):
        effect = fresh().effects([*before, one])[-1]
        if effect is not None and (effect.added > 0 if adds else effect.changed):
            return [one]
    return []


def with_more(found: Found, calls: dict[int, Found]) -> Found:
    """The calls, each followed by those of its place."""
    return [one for index, call in enumerate(found) for one in (call, *calls.get(index, ()))]
