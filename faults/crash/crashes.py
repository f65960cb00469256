"""One crash in words and numbers, and the directory that it leaves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tornpage.faults.crash.blocks import Content

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Crash:
    """One crash: its position, the lost unsynced operations (by their index on the tape), and the torn one.

    `torn` is (index, bytes that reached the disk). `holes` are (index, start, stop): bytes of a write that did not
    reach the disk, although the file's size includes them. A process crash loses nothing.
    """

    position: int
    lost: tuple[int, ...] = ()
    torn: tuple[int, int] | None = None
    power: bool = True
    holes: tuple[tuple[int, int, int], ...] = ()

    def __str__(self) -> str:
        if not self.power:
            return f"the process dies after operation {self.position}"
        lost = f", losing {ranges(self.lost)}" if self.lost else ", losing nothing" if not self.holes else ""
        torn = f", with {self.torn[1]} bytes of {self.torn[0] + 1}" if self.torn else ""
        shown = ", ".join(f"bytes {start}-{stop - 1} of {index + 1}" for index, start, stop in self.holes[:3])
        more = f" and {len(self.holes) - 3} others" if len(self.holes) > 3 else ""
        holes = f", {shown}{more} still missing" if shown else ""
        return f"the power fails after operation {self.position}{lost}{torn}{holes}"


@dataclass(frozen=True, slots=True)
class State:
    """A crash and the directory that it leaves; equal directories have equal `identity`.

    Among `files` the name of an empty directory ends with a separator, and that of a symbolic link with a NUL: its
    content is the target.
    """

    crash: Crash
    files: Files
    identity: tuple[tuple[str, bytes], ...]


class Directory(Mapping[str, bytes]):
    """Files by name; their bytes are joined only on access, since most states are duplicates."""

    def __init__(self, contents: dict[str, Content]) -> None:
        self._contents = contents

    def __getitem__(self, name: str) -> bytes:
        return bytes(self._contents[name])

    def __contains__(self, name: object) -> bool:
        return name in self._contents

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)


def ranges(indices: Sequence[int]) -> str:
    """Indices for display: counted from 1, with neighbours joined: ``3, 5-7``."""
    groups: list[list[int]] = []
    for index in indices:
        if groups and groups[-1][-1] == index - 1:
            groups[-1].append(index)
        else:
            groups.append([index])
    return ", ".join(str(one[0] + 1) if len(one) == 1 else f"{one[0] + 1}-{one[-1] + 1}" for one in groups)
