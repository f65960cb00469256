"""Latent faults: the disk returns other data for a store at rest than was written.

There are four (`Damage`): all reads fail from one on; one page can't be read; one bit is flipped; a page is as it was
before the last call (a write that the disk reported and did not make). SQLite detects some of these and returns the
rest. So a store may return what a plain reader sees, or refuse. It may not hide an error: if it met one (of SQLite, of
the system, or bytes that can't be decoded) and answers all the same, the answer must be the right one, or what a plain
reader sees. Nor may it change the file because reads fail: data that can't be read now may be readable later.

Python's trace function on the thread that opens and reads the store records the errors that it met. Not covered: errors
on other threads of the store, unreadable plain files, and damage that neither SQLite nor the store detects.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from tornpage import faults
from tornpage.faults.sqlite_library import sqlite3
from tornpage.scenarios.execution.call_timeout import TookTooLongError, in_time
from tornpage.scenarios.execution.dropped import collected
from tornpage.scenarios.execution.in_place import another_process
from tornpage.scenarios.execution.reopen import view_of
from tornpage.scenarios.execution.snapshots import Files, place
from tornpage.scenarios.model.judging.checks import Violation, describe, differences
from tornpage.scenarios.model.scenario import Damage
from tornpage.scenarios.model.target import Configuration, Target, View, environment_of

PAGE: Final = 4096
_CODE: Final = "damage-is-not-hidden"
_ERRORS: Final = (sqlite3.DatabaseError, OSError, UnicodeError, json.JSONDecodeError)
# A missing or existing file is an answer, not an error.
_ANSWERS: Final = (FileNotFoundError, FileExistsError, InterruptedError, BlockingIOError)


def damaged(files: Mapping[str, bytes], before: Mapping[str, bytes], damage: Damage) -> Files:
    """The files with the damage; `before` are those before the last call. Unreadable files are unchanged."""
    made = dict(files)
    content = bytearray(made.get(damage.file, b""))
    if damage.way == "flipped" and damage.at < 8 * len(content):
        content[damage.at // 8] ^= 1 << damage.at % 8
    elif damage.way == "old":
        old = before.get(damage.file, b"")[damage.at : damage.at + PAGE]
        content[damage.at : damage.at + len(old)] = old
    if damage.file in made:
        made[damage.file] = bytes(content)
    return made


def judge(
    target: Target, configuration: Configuration, directory: Path, files: Files, view: View, damage: Damage, now_ms: int
) -> str:
    """Open damaged files where they were written: "same", "returned", "refused" or "unmet". Raises `Violation`.

    `view` is the state without the damage. No session may be open there.
    """
    unreadable = damage.way in ("unreadable", "bad-page")
    place(files, directory)
    plain, said = (view, "") if unreadable else _plain(target, directory)
    place(files, directory)
    met: list[BaseException] = []
    with contextlib.ExitStack() as scope:
        scope.enter_context(another_process())
        armed: faults.Armed | faults.UnreadablePart | None = None
        if unreadable:
            armed = scope.enter_context(_out_of_reach(target, directory, damage))
        shown = _shown(target, configuration, directory, now_ms, met)
    if unreadable and (left := _plain(target, directory)[0]) != view:
        detail = describe(differences(view, left or {}), "the file before it", "the file after it")
        raise Violation(_CODE, f"{damage}, and the store changed it: {detail}", {"before": view, "disk": left or {}})
    if armed is not None and not armed.fired:
        return "unmet"
    if shown is None:
        return "refused"
    if shown == view:
        return "same"
    if shown == plain or not met:
        return "returned"
    what = describe(differences(view, shown), "the acknowledged state", "the store")
    said = f"; a plain reader sees {said}" if said else ""
    raise Violation(_CODE, f"{damage}: the store met {met[0]!r} and answered: {what}{said}", {"before": view})


def _out_of_reach(
    target: Target, directory: Path, damage: Damage
) -> AbstractContextManager[faults.Armed | faults.UnreadablePart]:
    """The context in which reads of the damaged part fail."""
    if damage.way == "bad-page":
        return faults.unreadable(directory / damage.file, damage.at, damage.at + PAGE)
    return faults.arm(f"read:db@{damage.at}..=IOERR_READ", target.database(directory))


def _plain(target: Target, directory: Path) -> tuple[View | None, str]:
    """The state that a plain reader sees, or why it can't read it."""
    try:
        if target.files_view is not None:
            return target.files_view(directory), ""
        database = target.database(directory)
        return view_of(target, database, integrity=False), ""
    except Exception as error:  # noqa: BLE001 - damaged files can make a reader fail in any way
        error.__traceback__ = None
        return None, repr(error)


def _shown(
    target: Target, configuration: Configuration, directory: Path, now_ms: int, met: list[BaseException]
) -> View | None:
    """The state that the store returns, None where it refuses; its errors are added to `met`."""
    environment = environment_of(target)
    environment.now_ms = now_ms
    try:
        with collected(), in_time("on damaged files, opening and looking"), _errors_met(met):
            session = target.open(directory, configuration, environment)
            try:
                return session.live_view()
            finally:
                session.close()
    except TookTooLongError as hang:
        raise Violation("still-usable-after-the-fault", str(hang)) from None
    except Exception as error:  # noqa: BLE001 - whatever it raises is its refusal
        for one in (error, *met):
            one.__traceback__ = None
        return None


@contextlib.contextmanager
def _errors_met(met: list[BaseException]) -> Iterator[None]:
    """Note the errors that pass through Python code inside this scope, each once."""

    def trace(_frame: FrameType, event: str, argument: Any) -> Any:
        if event == "exception":
            error = argument[1]
            if isinstance(error, _ERRORS) and not isinstance(error, _ANSWERS) and all(error is not one for one in met):
                met.append(error)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        for one in met:
            one.__traceback__ = None
