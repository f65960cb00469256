"""Checks that a target matches its declarations, the journal mode of its file, and the shape of its views.

A wrong declaration would make every verdict wrong, so these errors are reported before any search.
"""

import inspect
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tornpage import faults
from tornpage.faults.vfs.passed_by import in_words, is_database
from tornpage.scenarios.model import ambient
from tornpage.scenarios.model.clock import STEP_MS
from tornpage.scenarios.model.judging import unpromised
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.model.scenario import CALLERS
from tornpage.scenarios.model.simple_target import SimpleTarget
from tornpage.scenarios.model.target import (
    JOURNAL_MODES,
    SYNCHRONOUS_LEVELS,
    Action,
    Configuration,
    Target,
    TargetError,
    binding_of,
)

_DEPTHS: Final = ("vfs", "statement", "syscall")
# Members that are collections of names of actions.
_OF_NAMES: Final = ("refuses", "many_commits", "by_others", "hands_out", "by_one_caller")
# Calls that the harness itself makes under these names, to open and close the store.
_OWN_CALLS: Final = (Action("open"), Action("close"))


def what_is_wrong(target: Any) -> str:
    """The error in a target's declarations, and what is allowed; "" for none."""
    try:
        return next(filter(None, (wrong(target) for wrong in _RULES)), "")
    except Exception as error:  # noqa: BLE001 - a property or a method of the target may fail in any way
        return f"its declarations can't be read: {type(error).__name__}: {error}"


def _wrong_methods(target: Any) -> str:
    """The error in a member that has to be a method, such as a tuple of calls as `workload`; "" for none."""
    for base in (SimpleTarget, Target) if isinstance(target, SimpleTarget) else (Target,):
        for name, method in vars(base).items():
            found: object = getattr(target, name, method)
            # Without `actions`, no fuzz draws from it.
            if inspect.isfunction(method) and not callable(found) and (name, found) != ("actions", None):
                calls = "; the calls to try are `calls`" if (base, name) == (SimpleTarget, "workload") else ""
                return f"{name} is {found!r:.100}; it is a method: def {name}{_plain_signature(method)}{calls}"
    return ""


def _plain_signature(method: Any) -> str:
    signature = inspect.signature(method)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def _wrong_configurations(target: Any) -> str:
    configurations = target.configurations
    if not isinstance(configurations, tuple) or not configurations:
        return f"configurations is {configurations!r}; give a tuple such as (Configuration('wal', 'FULL'),)"
    for one in configurations:
        if not isinstance(one, Configuration):
            return f"configurations has {one!r}; give Configuration('wal', 'FULL') or the like"
        if one.journal_mode not in JOURNAL_MODES or one.synchronous not in SYNCHRONOUS_LEVELS:
            allowed = f"one of {', '.join(JOURNAL_MODES)} with one of {', '.join(SYNCHRONOUS_LEVELS)}"
            return f"configurations has {one}, which SQLite would ignore without an error; give {allowed}"
    return ""


def _wrong_depths(target: Any) -> str:
    """The error in `depths`; "" for none. With an unknown name, nothing would fail there."""
    if not isinstance(target.depths, str) and set(target.depths) <= set(_DEPTHS):
        return ""
    return f"depths is {target.depths!r}; give a tuple such as ('vfs',), or ('vfs', 'statement')"


def _wrong_names(target: Any) -> str:
    """The error in a collection of names of actions; "" for none. A text would match each part of itself."""
    for member in _OF_NAMES:
        names: object = getattr(target, member, ())
        if isinstance(names, str) or not isinstance(names, Collection):
            return f"{member} is {names!r:.100}; give a tuple of names of actions, such as ('put',)"
    return ""


def _wrong_touches(target: Any) -> str:
    """The error in `beat_touches`; "" for none. An empty beginning would leave the beat unjudged."""
    touches: Any = getattr(target, "beat_touches", ())
    is_listed = isinstance(touches, Collection) and not isinstance(touches, str)
    if is_listed and all(isinstance(one, str) and one for one in touches):
        return ""
    return f"beat_touches is {touches!r:.100}; give a tuple of beginnings of keys, such as ('totals/',)"


def _wrong_clock(target: Any) -> str:
    """The error in `clock_step_ms`; "" for none."""
    step_ms: object = getattr(target, "clock_step_ms", STEP_MS)
    if isinstance(step_ms, int) and not isinstance(step_ms, bool) and step_ms > 0:
        return ""
    return f"clock_step_ms is {step_ms!r:.100}; give the milliseconds from one call to the next, such as 1_000"


def _wrong_file(target: Any) -> str:
    """The error in `file`; "" for none. Whether it leads out of the directory is seen when the store is opened."""
    file: object = getattr(target, "file", "store.sqlite")
    if isinstance(file, str | Path) and str(file) and "\0" not in str(file):
        return ""
    return f"file is {file!r:.100}; give the database's name inside its directory, without NUL characters"


def _lacks_a_package(target: Any) -> str:
    """The package that the target needs and that is not installed; "" for none."""
    is_missing = getattr(target, "deterministic", False) and not ambient.is_available()
    return ambient.MISSING if is_missing else ""


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
    return next(filter(None, map(_what_is_wrong_with_call, (*calls, beat))), "")


def _what_is_wrong_with_call(action: Action) -> str:
    """The error in the name or the arguments of one call; "" for none."""
    args: object = action.args
    names = (action.name, *args) if isinstance(args, Mapping) else ()
    if not names or not all(isinstance(name, str) for name in names):
        return (
            f"the calls have Action({action.name!r}, {action.args!r:.100}); give its name and a mapping from the names "
            "of its arguments to their values: Action('name', {'argument': 'value'})"
        )
    if wrong := [name for name in names if not name or "\0" in name]:
        return f"a call or an argument has the name {wrong[0]!r}; give a name without NUL characters"
    if action in _OWN_CALLS:
        return (
            f"the calls have {action}, which is what tornpage itself does with the store; leave it out, or let `make` "
            "return a store that has this method under another name"
        )
    return ""


def _wrong_promise(target: Any) -> str:
    return unpromised.what_is_wrong(target.unpromised, CHECKS)


def _wrong_binding(target: Any) -> str:
    binding: object = binding_of(target)
    if not isinstance(binding, ModuleType) or not hasattr(binding, "Connection"):
        return f"binding is {binding!r}; give the module that opens the connections, such as pysqlite3"
    if "statement" in target.depths and not hasattr(binding, "connect"):
        return f"depths has 'statement', which replaces connect(), and {binding.__name__} has none: leave it out"
    return ""


_RULES: Final = (
    _wrong_methods,
    _wrong_configurations,
    _wrong_depths,
    _wrong_binding,
    _wrong_promise,
    _lacks_a_package,
    _wrong_callers,
    _wrong_names,
    _wrong_touches,
    _wrong_clock,
    _wrong_file,
    _what_is_wrong_with_calls,
)


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
    # A store of plain files may save the image of a database in memory (`serialize`): no SQLite writes that file.
    is_sqlites = getattr(target, "files_view", None) is None and is_database(database)
    if "vfs" in target.depths and is_sqlites and not is_seen:
        # Either may be the case: a worker process of the store, or another library.
        itself = "where the code itself writes the image of a database (`serialize`), it is a store of plain files"
        page = "docs/your-own-store.md#a-store-of-plain-files"
        raise TargetError(f"{target.name}: {in_words([database], has_processes=True)}; {itself} [{page}]")
    if not isinstance(view, Mapping) or not all(isinstance(key, str) for key in view):
        raise TargetError(f"{target.name}: a view is a mapping from text to plain values, not {view!r:.200}")
