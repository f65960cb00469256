"""A replay file carries the store's files of before and after, and nothing that it says can write anywhere else."""

import contextlib
import json
import sqlite3
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tornpage.scenarios.run.reproduce import artifacts as artifact
from tornpage.scenarios.run.reproduce import replay_file as reproducer
from tornpage.scenarios.run.reproduce.artifacts import Artifact, ArtifactError, put_down

Command = Callable[..., Any]


def found(command: Command, target: str, *more: object, search: str = "sweep") -> Path:
    ran = command(search, "--target", target, "--configuration", "wal/FULL", "--quiet", "--json", *more)
    assert ran.code == 1, ran
    return Path(json.loads(ran.out)["findings"][0]["replay"].split()[2])


def keys(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT key FROM t")}


def test_the_files_are_those_of_before_and_after_the_step_that_went_wrong(command: Command, tmp_path: Path) -> None:
    file = found(command, "tiny_stores:RemembersFirst", "--plan", "write:wal@1..=FULL")
    ran = command("replay", file, "--files", "kept")
    assert ran.code == 0, ran
    assert "kept/before/tiny.db" in ran.out
    # The write failed, so the disk is as it was; memory is what went wrong.
    assert keys(tmp_path / "kept/before/tiny.db") == keys(tmp_path / "kept/after/tiny.db")
    again = command("replay", file, "--files", "kept")
    assert again.code == 2
    assert "here already" in again.err


@pytest.mark.slow
def test_a_crash_has_files_and_a_killed_process_has_none(command: Command) -> None:
    crashed = found(command, "crashing_stores:SaysFull", "--states", 60, search="crash")
    assert reproducer.read(crashed).files.before.keys() >= {"tiny.db"}
    killed = found(command, "dying_stores:RecoversAway", "--kills", 40, search="kill")
    assert not reproducer.read(killed).files
    ran = command("replay", killed, "--files", "kept")
    assert ran.code == 2
    assert "no database files" in ran.err


def test_files_that_are_too_large_are_left_out(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "LARGEST_BYTES", 100)
    file = found(command, "tiny_stores:RemembersFirst", "--plan", "write:wal@1..=FULL")
    assert not reproducer.read(file).files


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="not the name of a file"):
        put_down(Artifact(before={name: zlib.compress(b"x")}), tmp_path / "kept")
    assert not (tmp_path / "outside").exists()


def test_links_are_put_down_last_and_nothing_is_written_through_one(tmp_path: Path) -> None:
    packed = {"current\0": zlib.compress(b"\0v1"), "v1/a": zlib.compress(b"1")}
    written = put_down(Artifact(before=packed), tmp_path / "kept")
    assert written == [tmp_path / "kept" / "before" / "v1" / "a", tmp_path / "kept" / "before" / "current"]
    assert (tmp_path / "kept" / "before" / "current" / "a").read_bytes() == b"1"
    through = {"a\0": zlib.compress(b"../../.."), "a/outside": zlib.compress(b"x")}
    with pytest.raises(FileExistsError):
        put_down(Artifact(before=through), tmp_path / "twice")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("packed", "message"),
    [(b"nonsense", "can't be unpacked"), (zlib.compress(bytes(1000))[:-4], "cut short"), (b"", "cut short")],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, packed: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        put_down(Artifact(before={"a.db": packed}), tmp_path / "kept")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "_LARGEST_UNPACKED_BYTES", 10_000)
    with pytest.raises(ArtifactError, match="larger than"):
        put_down(Artifact(after={"a.db": zlib.compress(bytes(100_000))}), tmp_path / "kept")


def test_a_file_is_read_strictly(command: Command) -> None:
    file = found(command, "tiny_stores:RemembersFirst", "--plan", "write:wal@1..=FULL")
    content = json.loads(file.read_bytes())
    content["files"]["before"] = {"tiny.db": b64encode(b"x").decode(), "more": 3}
    file.write_text(json.dumps(content))
    ran = command("replay", file, "--files", "kept")
    assert ran.code == 2
    assert "files.before" in ran.err
