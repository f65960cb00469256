"""A directory rebuilt from its tape, to be compared with the real directory.

A recorder that missed a change would produce crash states that could never exist. So after each step the new operations
on the tape are applied to a replica, and the replica is compared with the directory.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from tornpage.faults.files.links import link_name, path_of_link
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
        """The paths of files and links that differ between replica and directory, or exist in one only."""
        ours = {name for name in self._files if not is_unnamed(name)}
        found = [
            path_of_link(name)
            for name in sorted(ours | there.keys())
            if not name.endswith((_SEPARATOR, "-shm")) and self._files.get(name) != there.get(name)
        ]
        return list(dict.fromkeys(found))

    def _step(self, operation: Operation) -> None:
        kind, name, files = operation.kind, operation.path, self._files
        if kind == "create":
            files[name] = bytearray()
        elif kind == "symlink":
            files[link_name(name)] = bytearray(operation.data)
        elif kind == "delete":
            self._remove(name)
        elif kind == "rename":
            self._rename(name, operation.other)
        elif kind == "link":
            self._link(name, operation.other)
        elif name in files:
            if kind == "write":
                _write(files[name], operation.offset, operation.data)
            elif kind == "truncate":
                _resize(files[name], operation.size)

    def _remove(self, name: str) -> None:
        """Remove a file or a link."""
        self._files.pop(name, None)
        self._files.pop(link_name(name), None)

    def _link(self, old: str, new: str) -> None:
        """Give a file, or a link, one more name."""
        for one, other in ((old, new), (link_name(old), link_name(new))):
            if one in self._files:
                self._files[other] = self._files[one]

    def _rename(self, old: str, new: str) -> None:
        """Rename a file or a link over what has the new name, or a directory with everything in it."""
        above = old + _SEPARATOR
        moved = [one for one in self._files if one in (old, link_name(old)) or one.startswith(above)]
        if moved:
            self._remove(new)
        for name in moved:
            self._files[new + name.removeprefix(old)] = self._files.pop(name)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        _resize(content, offset)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
