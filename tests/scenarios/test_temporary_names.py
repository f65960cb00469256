"""Temporary files have the same names in each run of the same calls, and random ones elsewhere."""

import os
import tempfile
import threading
from pathlib import Path

import pytest
import tiny_stores

from tornpage import faults
from tornpage.scenarios.execution.temporary_names import drawn_for
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.target import Action, Configuration


def name() -> str:
    with tempfile.NamedTemporaryFile() as made:
        return Path(made.name).name


def test_the_same_call_draws_the_same_names_and_another_one_draws_others() -> None:
    names = []
    for call, now_ms in (("put", 1), ("put", 1), ("put", 2), ("remove", 1)):
        with drawn_for(call, now_ms):
            names.append((name(), name()))
    assert names[0] == names[1]
    assert len({one for pair in names for one in pair}) == 6


def test_names_are_random_outside_and_in_other_threads() -> None:
    found = [name()]
    with drawn_for("put", 1):
        first = name()
    found.append(name())
    with drawn_for("put", 1):
        other = threading.Thread(target=lambda: found.append(name()))
        other.start()
        other.join()
    assert len({first, *found}) == 4


def test_files_that_earlier_calls_have_left_do_not_keep_a_call_from_its_own(tmp_path: Path) -> None:
    for _ in range(3):
        with drawn_for("put", 1):
            for _ in range(10):
                os.close(tempfile.mkstemp(dir=tmp_path)[0])
    assert len(list(tmp_path.iterdir())) == 30


class LeavesFiles(tiny_stores.Tiny):
    """Leaves a temporary file at each opening and each call."""

    def open(self, directory: Path, *arguments: object) -> tiny_stores.TinySession:
        def do_put(key: str, value: int) -> None:
            os.close(tempfile.mkstemp(dir=directory)[0])

        session = super().open(directory, *arguments)  # type: ignore[arg-type]
        session.do_put = do_put  # type: ignore[method-assign]
        os.close(tempfile.mkstemp(dir=directory)[0])
        return session


@pytest.mark.parametrize("is_alone", [True, False])
def test_files_of_a_store_are_named_alike_in_two_trials(is_alone: bool, shim: faults.Shim, home: Path) -> None:
    left = []
    for number in range(2):
        directory = home / str(number)
        directory.mkdir(parents=True)
        with Trial(LeavesFiles(), Configuration("wal", "FULL"), directory, {}) as trial:
            trial.is_alone = is_alone
            trial.at_step(0)
            trial.open()
            trial.call(Action("put", {"key": "a", "value": 1}), {})
        left.append(sorted(one.name for one in directory.iterdir() if one.name.startswith("tmp")))
    assert [len(one) for one in left] == [2, 2]
    assert (left[0] == left[1]) is is_alone
