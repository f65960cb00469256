"""The states of the crash model: pages out of order, sizes first, names and data apart, dropped pages, directories."""

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tornpage.faults import Crash, CrashStates, Device, Operation
from tornpage.faults.crash import blocks, states
from tornpage.faults.crash.names import reachable

ROOT = Path(__file__).parents[2]
DROPS = Device(failed_sync="drops")


def write(path: str, offset: int, data: bytes) -> Operation:
    return Operation("write", path, offset, data)


def left(
    operations: Sequence[Operation], base: dict[str, bytes] | None = None, device: Device | None = None
) -> list[dict[str, bytes]]:
    crashes = CrashStates(base or {}, operations, device)
    return [dict(state.files) for state in crashes.power(len(operations))]


@pytest.fixture
def naive_crash_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The naive model, which is one of the benchmarks."""
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not part of the wheel")
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.naive_crash_model")


def test_random_tapes_leave_what_a_naive_model_of_the_rules_says(naive_crash_model: Any) -> None:
    compared = 0
    for seed in range(300):
        count, difference = naive_crash_model.differences(seed, most_a_position=6)
        assert not difference
        compared += count
    assert compared > 5_000


@pytest.mark.parametrize("part", ["_with_pages_taken_along", "_still_dropped", "_size_without"])
def test_the_naive_model_sees_what_the_state_builder_gets_wrong(naive_crash_model: Any, part: str) -> None:
    wrong = {
        "_with_pages_taken_along": lambda _self, _missing, holes: holes,
        "_still_dropped": lambda _self: {},
        "_size_without": lambda _self, _missing, _torn, whole: whole,
    }
    with mock.patch.object(blocks.ChangedFile, part, wrong[part]):
        assert any(naive_crash_model.differences(seed)[1] for seed in range(600))


@pytest.mark.parametrize(
    "part", ["in_entries", "entries_in", "lost_with_a_rename", "with_earlier_changes", "reachable"]
)
def test_the_naive_model_sees_what_the_rules_of_names_get_wrong(naive_crash_model: Any, part: str) -> None:
    wrong: dict[str, Any] = {
        "in_entries": lambda _names, operation: operation,
        "entries_in": lambda _names, _directory: "",
        "lost_with_a_rename": lambda _lost, _pending: [],
        "with_earlier_changes": lambda _pending, durable: {*durable},
        "reachable": lambda names, directories, _links: reachable(names, directories),
    }
    with mock.patch.object(states, part, wrong[part]):
        assert any(naive_crash_model.differences(seed)[1] for seed in range(600))


def test_later_pages_of_one_write_may_be_there_without_earlier_ones() -> None:
    found = {files["a"] for files in left([write("a", 0, b"x" * 12288)], {"a": b"." * 12288})}
    assert b"." * 4096 + b"x" * 8192 in found
    assert b"." * 8192 + b"x" * 4096 in found
    assert b"x" * 4096 + b"." * 4096 + b"x" * 4096 in found
    in_order = left([write("a", 0, b"x" * 12288)], {"a": b"." * 12288}, Device(page_bytes=0))
    assert all(files["a"].startswith(b"x") or b"x" not in files["a"] for files in in_order)


def test_a_file_may_be_longer_before_its_data_is_there() -> None:
    append = [write("a", 3, b"new")]
    assert {files["a"] for files in left(append, {"a": b"old"})} == {b"old", b"old\0\0\0", b"oldnew"}
    data_first = left(append, {"a": b"old"}, Device(sized_first=False))
    assert {files["a"] for files in data_first} == {b"old", b"oldnew"}


def test_a_longer_file_may_have_the_first_sectors_of_its_new_data_alone() -> None:
    record = b"head" + b"x" * 1200
    torn = [b"old" + record[:cut] + b"\0" * (len(record) - cut) for cut in (509, 1021)]
    assert {files["a"] for files in left([write("a", 3, record)], {"a": b"old"})} >= {
        *torn,
        b"old" + b"\0" * len(record),
    }
    data_first = left([write("a", 3, record)], {"a": b"old"}, Device(sized_first=False))
    assert not {files["a"] for files in data_first}.intersection(torn)
    # The end of what is torn inside the old file is there as it was.
    over = {files["a"] for files in left([write("a", 0, b"x" * 1500)], {"a": b"." * 1100})}
    assert b"x" * 512 + b"." * 588 + b"\0" * 400 in over


def test_of_a_large_write_all_data_may_be_missing_though_the_file_is_as_long() -> None:
    operations = [Operation("create", "a"), write("a", 0, b"x" * 65536), Operation("create", "b"), write("b", 0, b"1")]
    assert {"a": b"\0" * 65536, "b": b"\0"} in left(operations)


def test_a_write_may_be_torn_while_all_other_data_is_lost_and_names_are_kept() -> None:
    operations = [Operation("create", "new"), write("a", 0, b"x" * 8192), write("b", 0, b"y" * 8192)]
    old = {"a": b"." * 8192, "b": b"." * 8192}
    for torn in (b"y" * 512 + b"." * 7680, b"." * 4096 + b"y" * 4096, b"y" * 8192):
        assert {"a": old["a"], "b": torn, "new": b""} in left(operations, old)
    # Of an earlier write that is tried with every state.
    earlier = {"a": b"x" * 512 + b"." * 7680, "b": old["b"], "new": b""}
    assert earlier not in left(operations, old)
    every = CrashStates(old, operations, every=True)
    assert earlier in [dict(state.files) for state in every.power(3)]


def test_names_may_be_there_without_any_data_and_data_without_names() -> None:
    operations = [
        Operation("create", "new"),
        write("new", 0, b"1"),
        write("new", 1, b"2"),
        Operation("rename", "new", other="a"),
    ]
    found = left(operations, {"a": b"old"})
    for expected in ({"a": b""}, {"a": b"\0\0"}, {"a": b"12"}, {"a": b"old"}, {"a": b"old", "new": b"12"}):
        assert expected in found


def test_a_directory_that_was_never_synced_into_its_parent_takes_along_what_is_in_it() -> None:
    operations = [
        Operation("mkdir", "d"),
        Operation("create", "d/a"),
        write("d/a", 0, b"1"),
        Operation("sync", "d/a"),
        Operation("syncdir", "d"),
    ]
    assert left(operations) == [{"d/a": b"1"}, {}]
    assert left([*operations, Operation("syncdir", "")]) == [{"d/a": b"1"}]


def test_a_directory_is_renamed_with_what_is_in_it_or_not_at_all() -> None:
    base = {"d/a": b"1", "d/b": b"2"}
    operations = [Operation("rename", "d", other="e")]
    assert left(operations, base) == [{"e/a": b"1", "e/b": b"2"}, base]


def test_a_symbolic_link_is_a_name_with_its_target_and_replaces_the_old_one_or_not() -> None:
    operations = [Operation("symlink", "new", data=b"v2"), Operation("rename", "new", other="current")]
    base = {"current\0": b"v1", "v1/": b"", "v2/": b""}
    same = {"v1/": b"", "v2/": b""}
    found = left(operations, base)
    # The link is there with its whole target, or not at all.
    assert {tuple(files.items()) for files in found} == {
        tuple(sorted({**same, **links}.items()))
        for links in ({"current\0": b"v2"}, {"current\0": b"v1"}, {"current\0": b"v1", "new\0": b"v2"})
    }
    assert left([*operations, Operation("syncdir", "")], base) == [{"current\0": b"v2", **same}]
    gone = [Operation("delete", "current")]
    assert left(gone, {"current\0": b"v1"}) == [{}, {"current\0": b"v1"}]
    assert str(operations[0]) == "symlink new to v2"
    assert str(Operation("symlink", "new", data=b"\0v2")) == "symlink new to v2"


def test_a_file_and_a_link_with_its_content_are_two_states() -> None:
    operations = [Operation("create", "new"), write("new", 0, b"v1"), Operation("rename", "new", other="a")]
    found = left([*operations, Operation("sync", "a")], {"a\0": b"v1"})
    assert found == [{"a": b"v1"}, {"a\0": b"v1"}, {"a\0": b"v1", "new": b"v1"}]


def test_a_sync_of_a_renamed_directory_makes_durable_what_was_made_in_it_before() -> None:
    operations = [
        Operation("mkdir", "tmp"),
        Operation("create", "tmp/a"),
        Operation("rename", "tmp", other="d"),
        Operation("syncdir", ""),
    ]
    assert left(operations) == [{"d/a": b""}, {"d/": b""}]
    assert left([*operations, Operation("syncdir", "d")]) == [{"d/a": b""}]
    # Another directory that has the old name since is another one.
    other = [Operation("mkdir", "tmp"), Operation("syncdir", "tmp"), Operation("syncdir", "")]
    assert left([*operations, *other]) == [{"d/a": b"", "tmp/": b""}, {"d/": b"", "tmp/": b""}]


def test_what_was_in_a_removed_directory_is_not_in_a_new_one_of_that_name() -> None:
    operations = [Operation("delete", "d/a"), Operation("rmdir", "d"), Operation("mkdir", "d")]
    assert left([*operations, Operation("syncdir", "")], {"d/a": b"1"}) == [{"d/": b""}]


def test_a_file_that_was_moved_to_a_synced_directory_is_not_in_the_old_one_as_well() -> None:
    operations = [Operation("create", "d/new"), Operation("rename", "d/new", other="a"), Operation("syncdir", "")]
    for before in ([], [write("d/new", 0, b"x"), Operation("delete", "d/new")]):
        states = CrashStates({"d/new": b"1"} if before else {"d/": b""}, [*before, *operations])
        end = len(before) + 3
        assert [dict(one.files) for one in (states.process(end), *states.power(end))] == [{"d/": b"", "a": b""}] * 2
        # What was there before has no name that could return, and so no change of it is unsynced.
        assert not states.unsynced(end)


def test_a_file_that_took_the_name_of_one_that_was_moved_away_keeps_it() -> None:
    operations = [Operation("rename", "log", other="d/log"), Operation("create", "log"), Operation("syncdir", "")]
    for tape in (operations, [*operations, Operation("syncdir", "d")]):
        assert left(tape, {"log": b"1", "d/": b""}) == [{"d/log": b"1", "log": b""}]


def test_a_directory_that_is_there_at_once_replaces_the_one_before_it() -> None:
    states = CrashStates({"d/": b""}, [Operation("rmdir", "d"), Operation("mkdir", "d")], deployed=[1])
    assert [dict(one.files) for one in (states.process(2), *states.power(2))] == [{"d/": b""}] * 2


def test_one_name_leads_to_a_file_or_to_a_directory() -> None:
    operations = [Operation("delete", "a"), Operation("mkdir", "a"), Operation("create", "a/b")]
    assert all(files.keys() in ({"a"}, {"a/"}, {"a/b"}, set()) for files in left(operations, {"a": b"1"}))


def test_a_link_is_one_more_name_for_one_file_and_what_has_no_name_is_in_no_state() -> None:
    operations = [
        Operation("create", "\0unnamed"),
        write("\0unnamed", 0, b"1"),
        Operation("sync", "\0unnamed"),
        Operation("link", "\0unnamed", other="a"),
    ]
    assert left(operations) == [{"a": b"1"}, {}]
    assert left([*operations, Operation("syncdir", "")]) == [{"a": b"1"}]


def test_everything_is_durable_after_a_sync_of_everything() -> None:
    operations = [Operation("create", "a"), write("a", 0, b"1"), Operation("mkdir", "d"), Operation("syncall", "")]
    assert left(operations) == [{"a": b"1", "d/": b""}]


def test_what_a_failed_sync_has_dropped_is_not_written_by_the_next_one() -> None:
    operations = [write("a", 0, b"x" * 10), Operation("failsync", "a"), Operation("sync", "a")]
    base = {"a": b"." * 10}
    assert left(operations, base) == [{"a": b"x" * 10}]
    assert {files["a"] for files in left(operations, base, DROPS)} == {b"x" * 10, b"." * 10}


def test_a_later_write_to_the_same_page_takes_what_was_dropped_along() -> None:
    dropped = [write("a", 0, b"x" * 10), Operation("failsync", "a")]
    same_page = [*dropped, write("a", 100, b"y"), Operation("sync", "a")]
    assert {files["a"][:10] for files in left(same_page, {"a": b"." * 200}, DROPS)} == {b"x" * 10}
    another_page = [*dropped, write("a", 5000, b"y"), Operation("sync", "a")]
    found = {(files["a"][:1], files["a"][5000:]) for files in left(another_page, {"a": b"." * 200}, DROPS)}
    assert found == {(b"x", b"y"), (b".", b"y")}


def test_where_every_state_is_asked_for_what_is_left_out_is_counted() -> None:
    operations = [write("a", number * 4096, b"x" * 4096) for number in range(60)]
    some, every = CrashStates({"a": b""}, operations), CrashStates({"a": b""}, operations, every=True)
    assert len(list(some.crashes(60))) == some.how_many(60)
    assert len(list(every.crashes(60))) == every.how_many(60) > some.how_many(60)
    assert some.left_out()["single losses"] == 12
    assert set(every.left_out()) == {"positions of which some subsets were tried"}
    few = CrashStates({"a": b""}, operations[:6], every=True)
    assert len({crash.lost for crash in few.crashes(6) if not crash.torn and not crash.holes}) == 2**6
    assert not few.left_out()


def test_a_hole_that_is_not_there_is_refused() -> None:
    states = CrashStates({"a": b""}, [write("a", 0, b"1234"), Operation("sync", "a"), write("a", 0, b"12")])
    for crash, reason in (
        (Crash(3, holes=((0, 0, 1),)), "no write that can lack a part"),
        (Crash(3, holes=((2, 1, 3),)), "there are no bytes 1 to 3"),
        (Crash(3, lost=(2,), holes=((2, 0, 1),)), "no write that can lack a part"),
    ):
        with pytest.raises(ValueError, match=reason):
            states.at(crash)
    assert str(Crash(3, holes=((2, 0, 1),))) == "the power fails after operation 3, bytes 0-0 of 3 still missing"


def test_a_failed_sync_is_something_that_a_device_knows() -> None:
    with pytest.raises(ValueError, match="it is one of: keeps, drops"):
        Device(failed_sync="forgets")  # type: ignore[arg-type]


def is_in_a_page(write: Operation, part: Sequence[int]) -> bool:
    """Whether a missing part of a write begins or ends inside a page and inside the write."""
    return any(0 < end < len(write.data) and (write.offset + end) % 4096 for end in part)


@pytest.mark.parametrize("seed", range(20))
def test_a_directory_that_was_found_is_a_state_of_the_model_or_none(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not part of the wheel")
    monkeypatch.syspath_prepend(ROOT)
    crash_that_leaves = importlib.import_module("benchmarks.states_found").crash_that_leaves
    draw = random.Random(seed)  # noqa: S311
    tape = [Operation("create", "b"), Operation("sync", "b"), Operation("syncdir", "")]
    for _ in range(8):
        name = draw.choice("ab")
        kind = draw.choice(["write", "write", "write", "sync"])
        tape.append(Operation(kind, name, draw.randrange(9000), draw.randbytes(9000)))
    tape.append(Operation("rename", "a", other="c"))
    states = CrashStates({"a": draw.randbytes(12_000)}, tape)
    for state in states.power(len(tape)):
        # A page is torn by no file system, and the model tears one write only.
        if state.crash.torn is None and not any(is_in_a_page(tape[index], part) for index, *part in state.crash.holes):
            files = dict(state.files)
            crash = crash_that_leaves(files, states, len(tape))
            assert crash is not None, state.crash
            assert dict(states.at(crash).files) == files
    strange = dict(states.at(Crash(len(tape))).files)
    strange["c"] = strange["c"][:-1] + bytes([strange["c"][-1] ^ 1])
    assert crash_that_leaves(strange, states, len(tape)) is None
    assert crash_that_leaves({"c": strange["c"]}, states, len(tape)) is None
