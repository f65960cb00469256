"""Views and arguments that JSON can't hold: a finding about them is written and replayed, a sound store is silent."""

import datetime
import decimal
import enum
import pathlib
import sqlite3
import types
from collections.abc import Callable
from typing import Any

import msgspec
import others_stores
import pytest

from tornpage import Action
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.execution.finding.trace import Trace, trace_of
from tornpage.scenarios.model.as_json import in_order, plain
from tornpage.scenarios.run.campaign import Exit, verdict
from tornpage.scenarios.run.reproduce import replay_file
from tornpage.scenarios.search.recorder import Recorder

Search = Callable[..., Recorder]
SHOWN: dict[str, Callable[[str], Any]] = {
    "a path": lambda text: pathlib.PurePosixPath("/") / text,
    "a set of mixed types": lambda text: {text, 1},
    "keys of mixed types": lambda text: {1: text, "one": text, None: 2},
    "undecodable text": lambda text: f"{text}\udcff",
    "an object": lambda text: types.SimpleNamespace(text=text),
    "a number": decimal.Decimal,
}


class Shelf(others_stores.Shelf):
    """Shows each value in a form of its own."""

    def __init__(self, path: Any, shown: Callable[[str], Any]) -> None:
        super().__init__(path)
        self.shown = shown

    def set_up(self) -> None:
        super().set_up()
        self.memory = others_stores.Shelf.all(self)

    def put(self, key: str, value: object = "1") -> None:
        super().put(key, value)
        self.memory[key] = value

    def all(self) -> dict[str, Any]:
        return {key: self.shown(value) for key, value in others_stores.Shelf.all(self).items()}


class MemoryFirst(Shelf):
    """Changes its memory first, and shows that."""

    def put(self, key: str, value: object = "1") -> None:
        self.memory[key] = value
        super().put(key, value)

    def all(self) -> dict[str, Any]:
        return {key: self.shown(value) for key, value in self.memory.items()}


class Shown(others_stores.ShelfTarget):
    calls = (Action("put", {"key": "a", "value": "1"}), Action("put", {"key": "a", "value": "2"}))
    beat = Action("put", {"key": "beat", "value": "3"})
    unpromised = {"memory-equals-disk": {"limits": "memory is not read again"}}  # noqa: RUF012 - as a user writes it
    kind = Shelf

    def __init__(self, shown: Callable[[str], Any]) -> None:
        self.shown = shown

    def make(self, path: pathlib.Path, configuration: Any, environment: Any) -> Any:
        return self.kind(path, self.shown)

    def rows(self, connection: sqlite3.Connection) -> Any:
        return {key: self.shown(value) for key, value in connection.execute("SELECT key, value FROM item")}


class WrongShown(Shown):
    unpromised = {}  # noqa: RUF012 - as a user writes it
    kind = MemoryFirst


@pytest.mark.parametrize("what", SHOWN)
def test_a_sound_store_may_show_it(what: str, search: Search) -> None:
    recorder = search(Shown(SHOWN[what]), "fuzz", scenarios=2, steps=8)
    assert [found.finding.message for found in recorder.findings] == []
    assert verdict(recorder) is Exit.HOLDS


@pytest.mark.parametrize("what", SHOWN)
def test_a_finding_about_it_is_one_with_its_views(what: str, search: Search) -> None:
    recorder = search(WrongShown(SHOWN[what]), points=2)
    assert {found.finding.code for found in recorder.findings} == {"memory-equals-disk"}
    finding = recorder.findings[0].finding
    assert finding.shows_again
    assert finding.sides == plain(finding.sides)


@pytest.mark.usefixtures("shim")
def test_a_finding_about_undecodable_names_is_shown_step_by_step(search: Search, tmp_path: pathlib.Path) -> None:
    class Target(WrongShown):
        def view(self, store: Any) -> Any:
            return {f"{key}\udcff": value for key, value in super().view(store).items()}

        def rows(self, connection: sqlite3.Connection) -> Any:
            return {f"{key}\udcff": value for key, value in super().rows(connection).items()}

    target = Target(str)
    found = search(target, points=1).findings[0].finding
    trace = trace_of(found.scenario, target, tmp_path)
    assert [row.key for row in trace.rows] == ["a\\udcff"]
    # As the record of the run and `--explain --json` are written.
    assert trace == msgspec.json.decode(msgspec.json.encode(trace), type=Trace)


def test_the_text_of_a_view_does_not_depend_on_the_order_of_its_parts() -> None:
    for shown in SHOWN.values():
        one = {key: shown("1") for key in ("a", "b", "c")}
        assert in_order(one) == in_order(dict(reversed(one.items())))


class Colour(enum.Enum):
    RED = "red"


GIVEN = (b"1\xff", datetime.date(2024, 1, 1), decimal.Decimal("1.5"), Colour.RED, pathlib.PurePosixPath("/a"), (1, "b"))


class Particular(MemoryFirst):
    """Takes values of one type only, as most stores do."""

    def put(self, key: str, value: object = "1") -> None:
        if type(value) is not self.takes:
            raise TypeError(f"put takes {self.takes}, not {value!r}")
        super().put(key, repr(value))


@pytest.mark.usefixtures("shim")
@pytest.mark.parametrize("given", GIVEN, ids=lambda given: type(given).__name__)
def test_a_scenario_with_such_an_argument_is_replayed_with_it(
    given: object, search: Search, tmp_path: pathlib.Path
) -> None:
    class Target(WrongShown):
        kind = type("Kind", (Particular,), {"takes": type(given)})
        calls = (Action("put", {"key": "a", "value": given}),)
        beat = Action("put", {"key": "beat", "value": given})

    target = Target(str)
    found = search(target, points=1).findings[0].finding
    assert found.code == "memory-equals-disk"
    read = replay_file.read(replay_file.write(found, tmp_path, seed=0))
    assert read.scenario != found.scenario
    violation, _ = play(read.scenario, target, tmp_path / "again")
    assert violation is not None
    assert (violation.code, violation.sides) == (found.code, found.sides)
