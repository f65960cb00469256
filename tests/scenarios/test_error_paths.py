"""Error-path coverage: which handler ran under which fault is what really ran, and excuses are held to their word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenarios import run_record
from scenarios.error_paths import ErrorPath, SourceError, places_of
from scenarios.error_paths.places import sources_of

Command = Callable[..., Any]

SOURCE = """\
# no fault in this file: it is only read
def one():
    try:
        work()
    except (OSError, ValueError) as error:
        connection.rollback()
        raise
    finally:
        # Why the line counts is here, and not above.
        done()

class Two:
    def three(self):
        try:
            work()
        except:  # no fault: nobody calls it
            self._roll_back(); connection.execute("ROLLBACK TO s")
        log("ROLLBACK failed")
"""


def test_handlers_finally_blocks_and_rollbacks_are_found_with_their_excuses(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text(SOURCE)
    found = [
        (one.line, one.kind, one.what, one.function, one.entry, one.rollbacks) for one in places_of(path, "one.py")
    ]
    assert found == [
        (5, "except", "except (OSError, ValueError)", "one", 6, (6,)),
        (6, "rollback", "connection.rollback()", "one", 6, ()),
        (8, "finally", "finally", "one", 10, ()),
        (16, "except", "except", "Two.three", 17, (17,)),
        (17, "rollback", "connection.execute('ROLLBACK TO s')", "Two.three", 17, ()),
        (17, "rollback", "self._roll_back()", "Two.three", 17, ()),
    ]
    # What is inside a handler that has a reason shares it.
    reasons = ["it is only read"] * 3 + ["nobody calls it"] * 3
    assert [one.excuse for one in places_of(path, "one.py")] == reasons


@pytest.mark.parametrize(
    ("package", "message"), [("nobody.at.all", "nobody"), ("nobody", "nobody"), ("sys", "no Python source")]
)
def test_a_package_without_source_is_refused_by_its_name(package: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        sources_of(package)


def swept(command: Command, *more: object) -> tuple[Any, dict[str, ErrorPath]]:
    ran = command("sweep", "--target", "handled_stores:Handled", "--error-paths", "handled_stores", "--quiet", *more)
    record = run_record.read(Path(".tornpage/run.json"))
    assert record.error_paths is not None
    return ran, {f"{one.place.function} {one.place.what}": one for one in record.error_paths.paths}


@pytest.mark.quality
def test_what_ran_under_which_fault_is_told_and_what_never_did(command: Command) -> None:
    ran, paths = swept(command)
    assert ran.code == 0, ran
    transact, roll_back = "HandledSession.transact", "HandledSession.roll_back"
    assert {name: one.fate for name, one in paths.items()} == {
        f"{transact} except sqlite3.OperationalError": "ran",
        f"{transact} except ZeroDivisionError": "never",
        f"{transact} finally": "ran",
        f"{roll_back} except ValueError": "excused",
        f"{roll_back} except KeyError": "ran",
        f"{roll_back} self.connection.rollback()": "never",
        f"{roll_back} super().roll_back()": "ran",
    }
    failed = paths[f"{transact} except sqlite3.OperationalError"]
    assert "write:wal=FULL" in failed.faults or len(failed.faults) == 5
    assert not failed.ran_without_fault
    assert paths[f"{transact} finally"].ran_without_fault
    # It was entered, and its own rollback did not come.
    entered = paths[f"{roll_back} except KeyError"]
    assert entered.points == entered.without_rollback > 10
    assert entered.missed_under
    assert "error paths: 3 of 4 ran under a fault (75.0 %), 1 more have a reason" in ran.out
    assert "entered" in ran.out


@pytest.mark.quality
def test_a_share_that_is_too_small_fails_the_run_and_one_that_is_reached_does_not(command: Command) -> None:
    ran, _ = swept(command, "--fail-under-error-paths", 80)
    assert ran.code == 1
    assert "at least 80 % are wanted" in ran.err
    assert swept(command, "--fail-under-error-paths", 75)[0].code == 0


@pytest.mark.quality
def test_an_excuse_for_what_ran_is_none(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (Path(__file__).parent / "handled_stores.py").read_text()
    excused = source.replace("except sqlite3.OperationalError:", "except sqlite3.OperationalError:  # no fault: none")
    (tmp_path / "excused_stores.py").write_text(excused)
    monkeypatch.syspath_prepend(tmp_path)
    ran = command(
        "sweep", "--target", "excused_stores:Handled", "--error-paths", "excused_stores", "--fail-under-error-paths", 1
    )
    assert ran.code == 1
    assert "although their comment says" in ran.out


def test_the_json_has_them_and_misuse_is_told(command: Command) -> None:
    ran, _ = swept(command, "--json")
    places = [path["place"]["what"] for path in json.loads(ran.out)["error_paths"]["paths"]]
    assert "except ZeroDivisionError" in places
    for arguments, words in (
        (("--fail-under-error-paths", 50), "needs --error-paths"),
        (("--error-paths", "nobody_at_all"), "no package 'nobody_at_all'"),
        (("--error-paths", "handled_stores", "--fail-under-error-paths", 101), "0<=x<=100"),
    ):
        wrong = command("sweep", *arguments)
        assert wrong.code == 2
        assert words in wrong.err


def test_the_search_that_fails_allocations_goes_on_beside_it(command: Command) -> None:
    ran = command(
        "limits", "--target", "handled_stores:Handled", "--error-paths", "handled_stores", "--points", 3, "--quiet"
    )
    assert ran.code == 0, ran
