"""Checks that a target matches its declarations, the journal mode of its file, and the shape of its views.

A wrong declaration would make every verdict wrong, so these errors are reported before any search.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tornpage import faults
from tornpage.faults.vfs.passed_by import in_words, is_database
from tornpage.scenarios.model.judging import unpromised
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.model.scenario import CALLERS
from tornpage.scenarios.model.target import Action, Configuration, Target, TargetError, binding_of


def what_is_wrong(target: Any) -> str:
    """The error in a target's declarations, and what is allowed; "" for none."""
    configurations = target.configurations
    if not isinstance(configurations, tuple) or not configurations:
        return f"configurations is {configurations!r}; give a tuple such as (Configuration('wal', 'FULL'),)"
    if wrong := [one for one in configurations if not isinstance(one, Configuration)]:
        return f"configurations has {wrong[0]!r}; give Configuration('wal', 'FULL') or the like"
    if wrong_binding := _wrong_binding(target):
        return wrong_binding
    if wrong_promise := unpromised.what_is_wrong(target.unpromised, CHECKS):
        return wrong_promise
    return _wrong_callers(target) or _what_is_wrong_with_calls(target)


def _wrong_callers(target: Any) -> str:
    """The error in `callers`; "" for none."""
    callers = getattr(target, "callers", None)
    if callers is None or (isinstance(callers, tuple) and set(callers) <= set(CALLERS)):
        return ""
    known = ", ".join(map(repr, CALLERS))
    return f"callers is {callers!r}; give a tuple of {known}, or () for a store with one caller only"


def _what_is_wrong_with_calls(target: Any) -> str:
    """The error in the calls and the beat; "" for none."""
    try:
        beat: object = target.heartbeat()
    except AttributeError as error:
        return f"there is no `beat` ({error}); give a call that adds one key, such as Action('put', {{'name': 'beat'}})"
    if not isinstance(beat, Action):
        return f"the beat is {beat!r:.100}; give a call such as Action('put', {{'name': 'beat'}})"
    calls: object = target.workload()
    if not isinstance(calls, Iterable):
        return f"the calls are {calls!r:.100}; give a tuple of Action('name', {{'argument': 'value'}})"
    calls = tuple(calls)
    if wrong := [one for one in calls if not isinstance(one, Action)]:
        return f"the calls have {wrong[0]!r:.100}; give Action('name', {{'argument': 'value'}})"
    return ""


def _wrong_binding(target: Any) -> str:
    binding: object = binding_of(target)
    if not isinstance(binding, ModuleType) or not hasattr(binding, "Connection"):
        return f"binding is {binding!r}; give the module that opens the connections, such as pysqlite3"
    if "statement" in target.depths and not hasattr(binding, "connect"):
        return f"depths has 'statement', which replaces connect(), and {binding.__name__} has none: leave it out"
    return ""


def require_as_declared(
    target: Target, configuration: Configuration, directory: Path, journal_mode: str, view: Any
) -> None:
    """Raise `TargetError` if a store that was opened without a fault does not match its target's declarations.

    `journal_mode` is SQLite's answer to another connection; "": there is no database yet.
    """
    is_wal = journal_mode == "wal"
    if journal_mode and is_wal != (configuration.journal_mode == "wal"):
        found = "wal" if is_wal else "a rollback journal"
        raise TargetError(
            f"{target.name}: the file has {found}, but the configuration is {configuration}: set "
            "`PRAGMA journal_mode` to the configuration's, or declare the actual `configurations`"
        )
    database = target.database(directory)
    is_seen = not faults.shims().is_installed or faults.shims().has_opened(database)
    if "vfs" in target.depths and is_database(database) and not is_seen:
        raise TargetError(f"{target.name}: {in_words([database])}")
    if not isinstance(view, Mapping) or not all(isinstance(key, str) for key in view):
        raise TargetError(f"{target.name}: a view is a mapping from text to plain values, not {view!r:.200}")
