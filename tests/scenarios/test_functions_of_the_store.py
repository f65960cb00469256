"""A schema that names functions and collations of its program: no other connection can check or compare all of it."""

from collections.abc import Callable
from typing import Any

import others_stores

from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]


class Named(others_stores.ShelfTarget):
    """Keys are compared by a collation of the store's own, and checked by a function."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        schema = "CREATE TABLE IF NOT EXISTS item(key TEXT PRIMARY KEY COLLATE by_name CHECK (is_name(key)), value)"

        def set_up(self) -> None:
            self.db.create_collation("by_name", lambda one, other: (one > other) - (one < other))
            self.db.create_function("is_name", 1, bool, deterministic=True)
            super().set_up()


class NamedInMemoryFirst(Named):
    """The same with a defect: the cache is changed before the row."""

    class kind(Named.kind):  # type: ignore[name-defined, misc]  # noqa: N801
        def set_up(self) -> None:
            super().set_up()
            self.cache = super().all()

        def put(self, key: str, value: object = 1) -> None:
            self.cache[key] = value
            super().put(key, value)

        def all(self) -> dict[str, Any]:
            return self.cache


def test_a_sound_store_with_functions_of_its_own_is_not_accused(search: Search) -> None:
    recorder = search(Named(), "sweep", "crash", points=6, crash_states=100)
    assert [found.finding.message for found in recorder.findings] == []
    assert recorder.count("fired")
    assert recorder.count("states")


def test_a_defect_of_such_a_store_is_found(search: Search) -> None:
    recorder = search(NamedInMemoryFirst(), "sweep", points=6)
    assert {found.finding.code for found in recorder.findings} == {"memory-equals-disk"}
