"""A file that is overwritten in place, after a copy elsewhere: one write is torn while an earlier one is lost."""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from plain_stores import Kept, Store
from renamed_stores import sync_directory
from seeds import first_of

from tornpage import Action
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run

PAGE = 4096


def page(data: dict[str, Any]) -> bytes:
    content = json.dumps(data).encode()
    return f"{zlib.crc32(content):010} {len(content):010} ".encode() + content.ljust(PAGE - 22, b"\n")


def whole(content: bytes) -> dict[str, Any] | None:
    """What a page holds; None if it is torn, or empty."""
    checksum, _, rest = content.partition(b" ")
    size, _, text = rest.partition(b" ")
    text = text[: int(size or b"0")]
    return dict(json.loads(text)) if checksum.isdigit() and zlib.crc32(text) == int(checksum) else None


class TwoAreas(Store):
    """The page is written to `copy` first, then in place, and then the copy is emptied."""

    syncs = True

    def __init__(self, path: Path) -> None:
        self.copy = path.with_suffix(".copy")
        for one in (self.copy, path):
            one.touch()
        sync_directory(path.parent)
        super().__init__(path)
        self.recover()

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        copy = path.with_suffix(".copy")
        data = whole(copy.read_bytes()) if copy.exists() else None
        if data is None and path.exists() and any(path.read_bytes()):
            data = whole(path.read_bytes())
            if data is None:
                raise ValueError("the page is torn, and there is no copy of it")
        return data or {}

    def write(self, path: Path, content: bytes, *, syncs: bool = True) -> None:
        with open(path, "r+b", buffering=0) as file:  # noqa: PTH123
            file.write(content)
            if not content:
                file.truncate(0)
            if syncs:
                os.fsync(file)

    def recover(self) -> None:
        """Finish what a crash, or an error, has interrupted."""
        if (data := whole(self.copy.read_bytes())) is not None:
            # An error may have left it unsynced.
            self.change(data)

    def change(self, data: dict[str, Any]) -> None:
        self.write(self.copy, page(data), syncs=self.syncs)
        self.write(self.path, page(data))
        self.write(self.copy, b"")

    def save(self, content: bytes, new: Path) -> None:
        del new
        self.recover()
        self.change(json.loads(content))


class NotSynced(TwoAreas):
    """integrity: a crash may leave the torn page, and not the copy."""

    syncs = False


class SoundInTwoAreas(Kept):
    store = TwoAreas
    # Each is longer than a sector.
    calls = tuple(Action("put", {"name": "a", "value": value * 900}) for value in "xyz")

    def files_view(self, directory: Path) -> dict[str, Any]:
        return TwoAreas.read(directory / self.file)


class CopyNotSynced(SoundInTwoAreas):
    store = NotSynced


def codes(target: Any, seed: int) -> set[str]:
    profile = Profile("test", None, None, 0, 0, crash_states=30)
    recorder = run(target, Plan(("crash",), profile, seed=seed, report=None, most_findings=1))
    assert not recorder.vacuous
    return {found.finding.code for found in recorder.findings}


@pytest.mark.parametrize("seed", first_of([0, 1, 2]))
def test_a_page_is_torn_while_the_copy_of_it_is_lost(seed: int) -> None:
    assert codes(CopyNotSynced(), seed) == {"integrity"}


@pytest.mark.parametrize("seed", first_of([0, 1, 2]))
def test_a_page_whose_copy_is_synced_first_is_silent(seed: int) -> None:
    assert codes(SoundInTwoAreas(), seed) == set()
