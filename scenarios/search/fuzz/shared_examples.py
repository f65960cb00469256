"""Failing examples that several runs share: a Hypothesis database in a directory, or in Redis.

Hypothesis keeps the examples of all machines under one key, so each machine gets its own key here: an example of one
machine means something else for another. Shared examples run before the seed's scenarios, so two runs with the same
seed are equal only as long as the database has none.
"""

import hashlib
import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from tornpage.scenarios.model.plan import without_password
from tornpage.scenarios.model.target import TargetError

_REDIS = ("redis://", "rediss://", "unix://")


class _Keyed(ExampleDatabase):
    """A database in which every key is another one for each `salt`."""

    def __init__(self, below: ExampleDatabase, salt: str) -> None:
        super().__init__()
        self._below = below
        self._salt = salt.encode()

    def _key(self, key: bytes) -> bytes:
        return hashlib.sha256(self._salt + b"\0" + key).digest()

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return self._below.fetch(self._key(key))

    def save(self, key: bytes, value: bytes) -> None:
        self._below.save(self._key(key), value)

    def delete(self, key: bytes, value: bytes) -> None:
        self._below.delete(self._key(key), value)

    def move(self, src: bytes, dest: bytes, value: bytes) -> None:
        self._below.move(self._key(src), self._key(dest), value)


def _require_directory(place: str) -> None:
    """Hypothesis ignores a directory that it can't write, so check it here."""
    if not place.strip() or ":/" in place:
        raise TargetError(f"{without_password(place)!r} is not a place for examples; name a directory, or redis://HOST")
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise TargetError(f"{place} is not a directory; name one for examples, or redis://HOST") from None
    except OSError as error:
        raise TargetError(f"no examples can be kept in {place}: {error.strerror}") from error
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise TargetError(f"no examples can be kept in {place}: it can't be written or read")


def shared_examples(place: str, salt: str) -> ExampleDatabase:
    """The examples at a directory or a Redis URL, separate for one machine (`salt`); raises `TargetError`."""
    if not place.startswith(_REDIS):
        _require_directory(place)
        return _Keyed(DirectoryBasedExampleDatabase(place), salt)
    try:
        # Without Redis its library need not be there.
        redis: Any = importlib.import_module("redis")
        extra: Any = importlib.import_module("hypothesis.extra.redis")
    except ImportError as error:
        raise TargetError(f"examples in {without_password(place)} need the redis library: pip install redis") from error
    connection = redis.Redis.from_url(place)
    try:
        connection.ping()
    except redis.RedisError as error:
        raise TargetError(
            f"no examples from {without_password(place)}: {error}; is it running, and is the address right?"
        ) from error
    return _Keyed(extra.RedisExampleDatabase(connection), salt)
