"""A log of records with their length in front: the file may be as long as a record whose end has not arrived."""

import contextlib
import os
import zlib
from pathlib import Path
from typing import Any, ClassVar

import pytest
from renamed_stores import sync_directory

from tornpage import Action, Configuration, SimpleTarget
from tornpage.scenarios.model.plan import Plan, Profile
from tornpage.scenarios.run.campaign import run


class Checked:
    """Each record is its length, a checksum, a name and a value."""

    @staticmethod
    def checksum(body: bytes) -> int:
        return zlib.crc32(body)

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            sync_directory(path.parent)
            self.items, self.end = self.read(path.read_bytes())
        except BaseException:
            os.close(self.file)
            raise

    @classmethod
    def read(cls, data: bytes) -> tuple[dict[str, str], int]:
        items, at = {}, 0
        while size := int.from_bytes(data[at : at + 4]):
            check, body = int.from_bytes(data[at + 4 : at + 8]), data[at + 8 : at + 8 + size]
            if len(body) < size or check != cls.checksum(body):
                break
            name, value = body.decode().split("=")
            items[name] = value
            at += 8 + size
        return items, at

    def put(self, name: str, value: str) -> None:
        body = f"{name}={value}".encode()
        record = len(body).to_bytes(4) + self.checksum(body).to_bytes(4) + body
        try:
            os.ftruncate(self.file, self.end)
            os.fsync(self.file)
            if os.pwrite(self.file, record, self.end) < len(record):
                raise OSError("a short write")  # noqa: TRY301 - undone like the others
            os.fsync(self.file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.end)
            raise
        self.items[name] = value
        self.end += len(record)

    def close(self) -> None:
        os.close(self.file)


class Unchecked(Checked):
    @staticmethod
    def checksum(body: bytes) -> int:  # noqa: ARG004 - the shape of the other's
        return 1


class Log(SimpleTarget):
    title = "a log of records"
    configurations = (Configuration("file", "FULL"),)
    file = "items.log"
    kind: ClassVar[type[Checked]] = Checked
    calls = (Action("put", {"name": "a", "value": "1" * 700}), Action("put", {"name": "a", "value": "2" * 900}))
    beat = Action("put", {"name": "heartbeat", "value": "alive"})

    def make(self, path: Path, *_: Any) -> Checked:
        return self.kind(path)

    def view(self, store: Checked) -> dict[str, str]:
        return dict(store.items)

    def files_view(self, directory: Path) -> dict[str, str]:
        path = directory / self.file
        return self.kind.read(path.read_bytes())[0] if path.exists() else {}


class LogUnchecked(Log):
    kind = Unchecked


@pytest.mark.parametrize(("target", "found"), [(Log(), set()), (LogUnchecked(), {"all-or-nothing"})])
def test_a_record_that_is_torn_inside_a_page_is_found_without_a_checksum(target: Log, found: set[str]) -> None:
    profile = Profile("test", 1, 1, 1, 1, crash_states=40, shrinks=False)
    recorder = run(target, Plan(("crash",), profile, seed=1, report=None))
    assert {one.finding.code for one in recorder.findings} == found
