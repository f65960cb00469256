"""A directory rebuilt from its tape, to be compared with the real directory.

A recorder that missed a change would produce crash states that could never exist. So after each step the new operations
on the tape are applied to a replica, and the replica is compared with the directory.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from tornpage.faults.vfs.operation_log import Operation, is_unnamed

_SEPARATOR: Final = "/"


class Replica:
    """Files by name: a `base` with the operations applied so far."""

    def __init__(self, base: Mapping[str, bytes]) -> None:
        self._files = {name: bytearray(content) for name, content in base.items() if not name.endswith("-shm")}
        self.position = 0

    def follow(self, operations: Sequence[Operation]) -> None:
        """Apply the operations that were added to the tape since the last call."""
        for operation in operations[self.position :]:
            self._step(operation)
        self.position = len(operations)

    def content(self, name: str) -> bytes | None:
        """The content of a file; None if there is no file of that name."""
        found = self._files.get(name)
        return None if found is None else bytes(found)

    def different(self, there: Mapping[str, bytes]) -> list[str]:
        """The names of the files that differ between replica and directory, or exist in one only; no directories."""
        ours = {name for name in self._files if not is_unnamed(name)}
        return [
            name
            for name in sorted(ours | there.keys())
            if not name.endswith((_SEPARATOR, "-shm")) and self._files.get(name) != there.get(name)
        ]

    def _step(self, operation: Operation) -> None:
        kind, name, files = operation.kind, operation.path, self._files
        if kind == "create":
            files[name] = bytearray()
        elif kind == "delete":
            files.pop(name, None)
        elif kind == "rename":
            self._rename(name, operation.other)
        elif name in files:
            if kind == "link":
                files[operation.other] = files[name]
            elif kind == "write":
                _write(files[name], operation.offset, operation.data)
            elif kind == "truncate":
                _resize(files[name], operation.size)

    def _rename(self, old: str, new: str) -> None:
        """Rename a file, or a directory with everything in it."""
        above = old + _SEPARATOR
        for name in [one for one in self._files if one == old or one.startswith(above)]:
            self._files[new + name.removeprefix(old)] = self._files.pop(name)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        _resize(content, offset)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
