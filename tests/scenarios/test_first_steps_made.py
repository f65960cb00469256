"""How a first target makes the store: with a path, with a connection, or not at all."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.run.first_steps.arguments import ways_to_make

Command = Callable[..., Any]


class Registry:
    pass


@pytest.mark.parametrize(
    ("make", "connects"),
    [
        (lambda db: db, True),
        (lambda path: path, False),
        (lambda db_path: db_path, False),
    ],
)
def test_a_connection_is_tried_where_the_name_does_not_say_path(make: Any, connects: bool) -> None:
    assert any("environment.connect" in way for way in ways_to_make(make)) is connects


@pytest.mark.parametrize(
    ("annotation", "connects"), [(Registry, True), (sqlite3.Connection, True), (str, False), (Path | None, False)]
)
def test_a_connection_is_tried_where_the_annotation_allows_one(annotation: Any, connects: bool) -> None:
    def make(db: Any) -> Any:
        return db

    make.__annotations__["db"] = annotation
    assert any("environment.connect" in way for way in ways_to_make(make)) is connects


TEXTS = """
from pathlib import Path

class Texts:
    def __init__(self, path):
        self.path = Path(f"{path}.d")
        self.path.mkdir(exist_ok=True)

    def put(self, name: str):
        (self.path / name).write_text("one")
"""


def test_a_store_of_plain_files_is_told_by_them_and_writes_none_elsewhere(command: Command, tmp_path: Path) -> None:
    (tmp_path / "texts.py").write_text(TEXTS)
    ended = command("new", "target", "--from", "texts:Texts")
    assert ended.code == 2, ended
    assert "it was created, and there is no SQLite file in its directory, only store.sqlite.d/" in ended.err
    assert "your-own-store.md#a-store-of-plain-files" in ended.err
    # Given a connection for its path, it would make a folder of that name.
    assert {path.name for path in tmp_path.iterdir()} <= {"texts.py", "__pycache__"}
