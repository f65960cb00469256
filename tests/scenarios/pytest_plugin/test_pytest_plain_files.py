"""The pytest markers and plain files: a test of code that keeps files is swept as one of code that uses sqlite3."""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# In the process from the start: pytester forgets what its runs import, and an audit hook can't be taken away.
from tornpage.scenarios.pytest_plugin import session  # noqa: F401

pytest_plugins = ["pytester"]

NOTES = """
    import json
    import os

    class Notes:
        # The old file or the new one, and memory goes with it.
        def __init__(self, path):
            self.path = path
            self.notes = json.loads(path.read_text()) if path.exists() else {}

        def put(self, name, text):
            notes = {**self.notes, name: text}
            self.save(json.dumps(notes))
            self.notes = notes

        def save(self, text):
            new = self.path.with_suffix(".new")
            with new.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)

    class Overwrites(Notes):
        def save(self, text):
            self.path.write_text(text)

    class Swallows(Notes):
        def save(self, text):
            try:
                super().save(text)
            except OSError:
                print("never mind")
"""

TEST = """
    import pytest
    from notes import Notes, Overwrites, Swallows

    @pytest.mark.every_fault({arguments})
    def test_a_note_is_kept(tmp_path):
        notes = {store}(tmp_path / "notes.json")
        notes.put("first", "text")
        failed = None
        try:
            notes.put("second", "text")
        except OSError as error:
            failed = error
        again = {store}(tmp_path / "notes.json")
        assert "first" in again.notes
        if failed is not None:
            raise failed
        assert "second" in again.notes
"""


def run(pytester: pytest.Pytester, store: str, arguments: str = "") -> Any:
    pytester.makepyfile(notes=NOTES, test_notes=TEST.format(store=store, arguments=arguments))
    return pytester.runpytest("-p", "no:cacheprovider")


def test_a_store_that_replaces_its_file_passes_at_every_point(pytester: pytest.Pytester) -> None:
    ran = run(pytester, "Notes")
    ran.assert_outcomes(passed=1)
    ran.stdout.re_match_lines([r".*every_fault: 1 test, \d\d fault points.*"])


@pytest.mark.parametrize(
    ("store", "plan"), [("Overwrites", "file-write:.json@2/half=ENOSPC"), ("Swallows", "file-write:.new@2=ENOSPC")]
)
def test_a_store_that_is_wrong_fails_with_the_line_that_runs_it_again(
    pytester: pytest.Pytester, store: str, plan: str
) -> None:
    ran = run(pytester, store)
    ran.assert_outcomes(failed=1)
    text = ran.stdout.str()
    assert plan in text
    line = next(line for line in text.splitlines() if "pytest test_notes.py::" in line and plan in line)
    option, _, _ = line.partition(plan)[0].rstrip("'").rpartition(" ")
    again = pytester.runpytest("-p", "no:cacheprovider", "test_notes.py", option.split()[-1], plan)
    again.assert_outcomes(failed=1)


def test_operations_and_effects_can_be_chosen(pytester: pytest.Pytester) -> None:
    ran = run(pytester, "Notes", 'operations="file-rename:.json, file-fsync", effects="EIO"')
    ran.assert_outcomes(passed=1)
    ran.stdout.re_match_lines([r".*every_fault: 1 test, 8 fault points.*"])


def test_an_operation_that_there_is_not_is_named(pytester: pytest.Pytester) -> None:
    ran = run(pytester, "Notes", 'operations="file-sync"')
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*no operation 'file-sync'*file-fsync*"])


def test_a_plan_by_hand(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        notes=NOTES,
        test_notes="""
        import pytest
        from notes import Notes

        @pytest.mark.with_faults("file-rename:*.json@1=ENOSPC")
        def test_it_is_told(tmp_path):
            with pytest.raises(OSError, match="No space"):
                Notes(tmp_path / "notes.json").put("a", "text")
            assert not (tmp_path / "notes.json").exists()

        @pytest.mark.with_faults("file-rename:*.toml@1=ENOSPC")
        def test_it_never_fires(tmp_path):
            Notes(tmp_path / "notes.json").put("a", "text")
        """,
    )
    ran = pytester.runpytest("-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*never fired: file-rename:[*].toml@1=ENOSPC*"])


def test_a_test_without_any_file_tests_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.every_fault\ndef test_nothing():\n    pass")
    ran = pytester.runpytest("-p", "no:cacheprovider")
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*it changes no file in tmp_path*"])


def test_disks_are_not_made_of_what_was_not_seen(crash_states: Callable[..., Iterator[Any]], home: Path) -> None:
    def work(directory: Path) -> Iterator[str]:
        (directory / "a").write_bytes(bytes(10))
        yield "made"
        with (directory / "a").open("r+b") as file, mmap.mmap(file.fileno(), 10) as mapped:
            mapped[0] = 1
        yield "mapped"

    with pytest.raises(pytest.fail.Exception, match=r"when it yielded 'mapped', a had been changed .* mapped into mem"):
        crash_states(work, home / "work")
