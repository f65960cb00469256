"""A file of an older version of a store, which the store upgrades when it is opened for the first time.

Method. Where there is no file at the store's path, the older one is written beside it, synced, and linked to the path:
it is there as a whole or not at all, and two processes can't put it there twice. A fault in that is an error of the
opening, and each search tries the upgrade as it tries any opening. Until SQLite syncs the directory, with its first
journal, a power cut may take the file away: then the next opening puts it there again.

A new store shows nothing, so what is shown is what differs from the upgraded state (`beyond`).
"""

import contextlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from tornpage.faults.sqlite_library import sqlite3

GONE: Final = "(gone)"
"""The value of a key of the upgraded state that is not there."""


@cache
def content_of(older: str | Path) -> bytes:
    """The bytes of the file, or of one that this SQL makes; raises OSError, ``sqlite3.Error``."""
    if isinstance(older, Path):
        return older.read_bytes()
    # In memory, where no fault is in force.
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(older)
        return bytes(connection.serialize())


def put_in_place(path: Path, content: bytes) -> None:
    """Put a file with this content at `path`, if there is none; raises OSError."""
    if path.exists():
        return
    whole = path.with_name(f"{path.name}.{os.getpid()}.older")
    try:
        with whole.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(whole)
    finally:
        whole.unlink(missing_ok=True)


def beyond(view: Mapping[str, Any], upgraded: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the upgraded state: keys of other values, and those that are not there (`GONE`)."""
    others = {key: value for key, value in view.items() if key not in upgraded or upgraded[key] != value}
    return others | {key: GONE for key in upgraded if key not in view}
