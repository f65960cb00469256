"""Error-path coverage: which handler ran under which fault is what really ran, and excuses are held to their word."""

import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tornpage.scenarios.report.terminal.error_paths import show_error_paths, summary
from tornpage.scenarios.run import record as run_record
from tornpage.scenarios.run.error_paths import ErrorPath, ErrorPaths, ErrorPathTracer, SourceError, places_of
from tornpage.scenarios.run.error_paths.join import join
from tornpage.scenarios.run.error_paths.places import sources_of

Command = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("quick_is_small")

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


MANY_LINES = """\
def one():
    try:
        work()
    except OSError:
        global seen
        (
            seen
            .append(1)
        )
        def later(
            of=1,
        ):
            return of
        keep(lambda:
             2)
        raise
    finally:
        # finally: not here
        ...
    try:
        work()
    except (
        KeyError,
    ): raise
    except TypeError:
        if seen: connection.rollback()
    finally: done()
"""


def test_a_place_has_the_lines_of_its_body_and_one_on_the_line_of_its_handler_is_undecided(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text(MANY_LINES)
    assert [(one.line, one.what, one.spans, one.undecided) for one in places_of(path, "one.py")] == [
        (4, "except OSError", ((5, 12), (14, 14), (16, 16)), False),
        (17, "finally", ((19, 19),), False),
        (22, "except (KeyError,)", ((24, 24),), True),
        (25, "except TypeError", ((26, 26),), False),
        (26, "connection.rollback()", (), True),
        (27, "finally", ((27, 27),), True),
    ]


def joined(source: str, tmp_path: Path, ran: dict[int, list[str]]) -> ErrorPaths:
    path = tmp_path / "one.py"
    path.write_text(source)
    return join(places_of(path, "one.py"), {"one.py": ran}, {"1": "write:wal=FULL"})


def test_any_line_of_a_body_shows_that_it_ran_and_that_of_a_function_in_it_does_not(tmp_path: Path) -> None:
    assert joined(MANY_LINES, tmp_path, {7: ["1"]}).handlers[0].fate == "ran"
    for line in (4, 13, 15):
        assert joined(MANY_LINES, tmp_path, {line: ["1"]}).handlers[0].fate == "never"


def test_what_lines_cannot_tell_is_undecided_never_stale_and_counted_nowhere(tmp_path: Path) -> None:
    source = (
        "try:\n    work()\nexcept KeyError: raise\nexcept OSError: x.rollback()  # no fault: none\nfinally: done()\n"
    )
    found = joined(source, tmp_path, {line: ["1"] for line in range(1, 6)})
    assert [(one.place.what, one.fate, one.points) for one in found.paths] == [
        ("except KeyError", "undecided", 0),
        ("except OSError", "excused", 0),
        ("x.rollback()", "excused", 0),
        ("finally", "undecided", 0),
    ]
    assert not found.counted
    assert not found.stale
    words = "error paths: none counts, 1 more have a reason why no fault can reach them, 2 more can't be told apart"
    assert summary(found).startswith(words)


def test_stale_ones_are_in_neither_number_and_are_told(tmp_path: Path) -> None:
    source = "try:\n    work()\nexcept KeyError:  # no fault: none\n    raise\nexcept OSError:\n    raise\n"
    words = summary(joined(source, tmp_path, {4: ["1"], 6: ["1"]}))
    assert words.startswith("error paths: 1 of 1 ran under a fault (100.0 %), 1 more ran although")


def test_a_reason_on_the_line_above_has_that_line_to_itself(tmp_path: Path) -> None:
    source = """\
try:
    work()
except KeyError:
    raise  # no fault: this is the line of the raise
except OSError:
    raise
# no fault: nothing is divided
except ZeroDivisionError:
    try:
        raise
    finally:
        done()
"""
    assert [(one.place.line, one.place.excuse) for one in joined(source, tmp_path, {}).paths] == [
        (3, ""),
        (5, ""),
        (8, "nothing is divided"),
        (11, "nothing is divided"),
    ]


def test_a_file_is_read_in_its_own_encoding_and_a_form_feed_ends_no_line(tmp_path: Path) -> None:
    handler = "try:\n    work()\nexcept OSError:\n    raise\nfinally:\n    finally_done()\n"
    for name, text in (
        ("bom.py", b"\xef\xbb\xbf" + handler.encode()),
        ("latin.py", b"# -*- coding: latin-1 -*-\n# \xe9\n" + handler.encode()),
        ("feed.py", b"\x0c\n\x0c" + handler.encode()),
    ):
        (tmp_path / name).write_bytes(text)
        first = {"bom.py": 3, "latin.py": 5, "feed.py": 4}[name]
        assert [one.line for one in places_of(tmp_path / name, name)] == [first, first + 2]


def test_a_package_counts_once_leaves_out_what_is_no_python_and_is_told_if_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package_of_templates"
    package.mkdir()
    (package / "__init__.py").write_text("try:\n    pass\nfinally:\n    pass\n")
    (package / "template.py").write_text('print "{{ name }}"\n')
    (tmp_path / "module_of_words.py").write_text("not a module\n")
    (tmp_path / "module_of_nothing.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("package_of_templates", "module_of_nothing"):
        sys.modules.pop(name, None)
    found = ErrorPathTracer([package.name, package.name], tmp_path).result()
    assert len(found.paths) == 1
    assert found.left_out == ("package_of_templates/template.py",)
    assert package.name in found.never_imported
    console = Console(file=io.StringIO(), width=200)
    show_error_paths(found, console)
    told = console.file.getvalue()
    assert "package_of_templates was never imported" in told
    assert "template.py is left out" in told
    # Asking for what is inside a package imports it.
    overlapping = ErrorPathTracer([package.name, f"{package.name}.__init__"], tmp_path).result()
    assert len(overlapping.paths) == 1
    assert overlapping.never_imported == ()
    nothing = ErrorPathTracer(["module_of_nothing"], tmp_path).result()
    assert summary(nothing) == "no error path in module_of_nothing"
    importlib.import_module("module_of_nothing")
    assert ErrorPathTracer(["module_of_nothing"], tmp_path).result().never_imported == ()
    with pytest.raises(SourceError, match="module_of_words"):
        ErrorPathTracer(["module_of_words"], tmp_path)


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
    assert entered.points == entered.without_rollback > 5
    assert entered.missed_under
    assert "error paths: 3 of 4 ran under a fault (75.0 %), 1 more have a reason" in ran.out
    assert "entered" in ran.out


@pytest.mark.quality
def test_a_share_that_is_too_small_fails_the_run_and_one_that_is_reached_does_not(command: Command) -> None:
    ran, _ = swept(command, "--fail-under-error-paths", 80)
    assert ran.code == 1
    assert "at least 80 % are required" in ran.err
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
