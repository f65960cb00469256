"""What a disk gives back of files at rest: who hides the error is found; who refuses, or can't know of it, is not."""

import contextlib
import sqlite3
from pathlib import Path

import crash_places
import pytest

from tornpage import faults
from tornpage.scenarios.execution.crash.latent import damaged
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.plan import PROFILES, Plan
from tornpage.scenarios.model.scenario import Call, Damage, Restart, Scenario, Step
from tornpage.scenarios.run.campaign import run
from tornpage.scenarios.search.recorder import Recorder

CODE = "damage-is-not-hidden"


def played(target: crash_places.Base, damage: Damage, directory: Path) -> tuple[str, dict[str, int]]:
    """The code of what a scenario shows that ends in the damage, and what it came to."""
    steps: list[Step] = [step for action in target.workload() for step in (Call(action), Restart())]
    scenario = Scenario(target.name, target.configurations[0], (*steps, damage))
    with faults.install(), faults.shims().deterministic():
        violation, counts = play(scenario, target, directory / "here")
    return violation.code if violation else "", dict(counts)


@pytest.mark.parametrize(
    ("broken", "sound", "damage"),
    [
        (crash_places.HidesErrors, crash_places.Base, Damage("unreadable", "store.sqlite", 4)),
        (crash_places.DeletesWhatItCannotRead, crash_places.Base, Damage("unreadable", "store.sqlite", 4)),
        (crash_places.HidesErrors, crash_places.Base, Damage("bad-page", "store.sqlite", 4096)),
        (crash_places.DeletesWhatItCannotRead, crash_places.Base, Damage("bad-page", "store.sqlite", 4096)),
        (crash_places.HidesBadJson, crash_places.OneFile, Damage("flipped", "store.sqlite", 63)),
    ],
)
def test_an_error_on_damaged_files_is_not_hidden(
    broken: type[crash_places.Base], sound: type[crash_places.Base], damage: Damage, tmp_path: Path
) -> None:
    assert played(broken(), damage, tmp_path / "broken")[0] == CODE
    code, counts = played(sound(), damage, tmp_path / "sound")
    assert (code, counts["latent_refused"]) == ("", 1)


def test_only_reads_of_the_bad_page_fail(tmp_path: Path) -> None:
    home = tmp_path / "a.db"
    with faults.install():
        with contextlib.closing(sqlite3.connect(home, isolation_level=None)) as connection:
            for name in ("t", "u"):
                connection.execute(f"CREATE TABLE {name} (x)")
                connection.execute(f"INSERT INTO {name} VALUES (1)")
        with faults.unreadable(home, 4096, 8192) as part, contextlib.closing(sqlite3.connect(home)) as connection:
            assert connection.execute("SELECT * FROM u").fetchall() == [(1,)]
            assert not part.fired
            for number in (1, 2):
                with pytest.raises(sqlite3.OperationalError, match="disk I/O error") as caught:
                    connection.execute("SELECT * FROM t").fetchall()
                assert caught.value.sqlite_errorname == "SQLITE_IOERR_READ"
                assert part.fired >= number
        with contextlib.closing(sqlite3.connect(home)) as connection:
            assert connection.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_a_page_that_is_not_read_is_told_as_not_met(tmp_path: Path) -> None:
    code, counts = played(crash_places.Base(), Damage("bad-page", "store.sqlite", 2**20), tmp_path)
    assert (code, counts["latent_unmet"]) == ("", 1)


@pytest.mark.parametrize("way", ["flipped", "old"])
def test_what_sqlite_returns_without_an_error_no_store_can_know(way: str, tmp_path: Path) -> None:
    came_to = set()
    # The pages of the table and of its index: bits in the middle of their rows, or all of them as they were.
    for page in (1, 2):
        for bit in range(0, 800, 100) if way == "flipped" else (0,):
            at = 8 * (4096 * page + 4096) - 8 - bit if way == "flipped" else 4096 * page
            code, counts = played(crash_places.Base(), Damage(way, "store.sqlite", at), tmp_path)  # type: ignore[arg-type]
            assert not code
            came_to |= {name for name, count in counts.items() if count and name.startswith("latent_")}
    assert "latent_returned" in came_to


def test_damage_is_done_to_one_place_and_only_where_there_is_one() -> None:
    files, before = {"a": bytes(8192), "b": b"b"}, {"a": b"1" * 4096 + b"2" * 100}
    assert damaged(files, before, Damage("flipped", "a", 10))["a"] == b"\0\4" + bytes(8190)
    assert damaged(files, before, Damage("old", "a", 4096))["a"] == bytes(4096) + b"2" * 100 + bytes(3996)
    for nothing in (
        Damage("flipped", "b", 8),
        Damage("old", "b", 0),
        Damage("old", "c", 0),
        Damage("unreadable", "a", 1),
    ):
        assert damaged(files, before, nothing) == files


def searched(target: crash_places.Base) -> Recorder:
    """As `tornpage crash --latent` does it by default."""
    return run(target, Plan(("crash",), PROFILES["quick"], report=None, latent=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "sound"),
    [
        (crash_places.HidesErrors, crash_places.Base),
        (crash_places.DeletesWhatItCannotRead, crash_places.SideFile),
        (crash_places.HidesBadJson, crash_places.OneFile),
    ],
)
def test_latent_faults_are_searched_where_they_are_asked_for(
    broken: type[crash_places.Base], sound: type[crash_places.Base]
) -> None:
    assert CODE in {found.finding.code for found in searched(broken()).findings}
    recorder = searched(sound())
    assert not recorder.findings
    assert recorder.count("latent_faults") >= 10
