"""A file's contents after a crash, made block by block, are those that a straight replay of its changes makes."""

import random
from collections.abc import Iterable

import pytest

from tornpage.faults.crash.blocks import ChangedFile, Content, Torn
from tornpage.faults.vfs.operation_log import Operation

_SIZES = (0, 1, 24, 512, 4095, 4096, 4097, 9000)


def _replayed(
    content: bytes, changes: Iterable[tuple[int, Operation]], torn: Torn | None, damaged: int | None
) -> bytes:
    """All changes one after the other, on plain bytes."""
    made = bytearray(content)
    for index, operation in changes:
        if operation.kind == "truncate":
            made = made[: operation.size].ljust(operation.size, b"\0")
            continue
        kept = torn[1] if torn and torn[0] == index else len(operation.data)
        made = made.ljust(operation.offset, b"\0")
        end = operation.offset + kept
        made[operation.offset : end] = operation.data[:kept]
        if damaged is not None and torn and torn[0] == index:
            start = end - end % damaged
            stop = min(start + damaged, max(len(made), operation.offset + len(operation.data)))
            made = made.ljust(stop, b"\0")
            made[start:stop] = b"\xa5" * (stop - start)
    return bytes(made)


def _drawn(generator: random.Random, *, truncates: bool) -> Operation:
    if truncates and generator.random() < 0.2:
        return Operation("truncate", "a", size=generator.choice(_SIZES))
    data = generator.randbytes(generator.choice(_SIZES))
    return Operation("write", "a", generator.choice((0, 32, 4096, 8192, generator.randrange(20_000))), data)


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("damaged", [None, 512, 100])
@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_is_what_a_straight_replay_makes(seed: int, damaged: int | None, truncates: bool) -> None:
    generator = random.Random(f"{seed} {damaged} {truncates}")  # noqa: S311 - reproducible is the point
    content = generator.randbytes(generator.choice(_SIZES))
    file = ChangedFile(content, damaged)
    changes: dict[int, Operation] = {}
    for number in range(25):
        index = number * 3
        changes[index] = _drawn(generator, truncates=truncates)
        file.add(index, changes[index])
        for lost_many in (0, 1, 2, 5, len(changes)):
            lost = frozenset(generator.sample(sorted(changes), min(lost_many, len(changes))))
            writes = [one for one in changes if one not in lost and len(changes[one].data) > 1]
            torn = None
            if writes and generator.random() < 0.5:
                index_torn = generator.choice(writes)
                torn = index_torn, generator.randrange(1, len(changes[index_torn].data))
            kept = [(one, operation) for one, operation in changes.items() if one not in lost]
            wanted = _replayed(content, kept, torn, damaged)
            # What is none of this file's is as if it were not there.
            found = file.after(lost | {10_000}, torn)
            assert bytes(found) == wanted
            assert found.digest == Content.of(wanted).digest
            assert found.size == len(wanted)
        if generator.random() < 0.1:
            content = _replayed(content, changes.items(), None, damaged)
            file.sync()
            changes.clear()
            assert bytes(file.after(frozenset(), (0, 1))) == content


def test_contents_that_differ_anywhere_have_different_digests() -> None:
    content = bytes(10_000)
    others = [content[:at] + b"\1" + content[at + 1 :] for at in (0, 4095, 4096, 9_999)]
    digests = {Content.of(one).digest for one in (content, *others, content[:-1], content + b"\0", b"")}
    assert len(digests) == 8


def test_of_thousands_of_changes_only_some_contents_are_kept() -> None:
    file, whole = ChangedFile(b""), bytearray()
    generator = random.Random(0)  # noqa: S311 - reproducible is the point
    for index in range(3_000):
        data = generator.randbytes(24)
        file.add(index, Operation("write", "a", index * 24, data))
        whole += data
        if index % 7 == 0:
            assert bytes(file.after(frozenset(), None)) == whole
    for count in (1, 100, 2_999, 1_234):
        assert bytes(file.after(frozenset(range(count, 3_000)), None)) == whole[: count * 24]
    assert len(file._grown) < 300
