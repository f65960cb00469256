"""Random tapes of operations that make sense in their order, for `benchmarks.naive_crash_model`."""

import random
from typing import Final

from tornpage.faults import Device, Operation

# The pages of the devices: a few bytes cross several.
PAGE: Final = 16


def random_tape(generator: random.Random) -> tuple[dict[str, bytes], list[Operation], Device]:
    """Files, operations on them that make sense in their order, and a device."""
    tree = _Tree(generator)
    base = tree.base()
    operations = [one for _ in range(generator.randrange(1, 16)) if (one := tree.operation())]
    device = Device(
        sector_bytes=generator.choice((4, 8, 16)),
        page_bytes=PAGE,
        powersafe_overwrite=generator.random() < 0.8,
        failed_sync=generator.choice(("keeps", "drops")),
    )
    return base, operations, device


class _Tree:
    """The paths of the files and the directories, and random operations that are possible on them."""

    def __init__(self, generator: random.Random) -> None:
        self.random, self.files, self.directories = generator, set[str](), set[str]()
        # The symbolic links: names like those of files, without any change of contents.
        self.links = set[str]()

    def base(self) -> dict[str, bytes]:
        """Some files and directories to begin with."""
        self.directories = {one for one in ("d", "d/e", "f") if self.random.random() < 0.3}
        self.directories |= {"d"} if "d/e" in self.directories else set()
        self.files = {one for one in (self._new() for _ in range(self.random.randrange(4))) if one}
        files = {one: self.random.randbytes(self.random.choice((0, 3, 21))) for one in sorted(self.files)}
        return {f"{one}/": b"" for one in sorted(self.directories)} | files

    def operation(self) -> Operation | None:
        """One operation; None where the one that was drawn is not possible."""
        kind = self.random.choices(
            ("write", "truncate", "sync", "failsync", "syncdir", "create", "delete", "rename", "link", "mkdir", "rmdir",
             "move", "syncall", "symlink", "of a link"),
            (8, 2, 3, 2, 4, 4, 2, 4, 1, 3, 1, 2, 0.3, 1, 2),
        )[0]  # fmt: skip
        if kind in ("syncdir", "syncall"):
            return Operation(kind, self.random.choice(["", *sorted(self.directories)]) if kind == "syncdir" else "")
        if kind in ("create", "mkdir"):
            path = self._new()
            (self.files if kind == "create" else self.directories).update({path} - {""})
            return Operation(kind, path) if path else None
        if kind in ("symlink", "of a link"):
            return self._of_a_link(kind)
        if kind in ("move", "rmdir"):
            return self._of_a_directory(kind)
        if not self.files:
            return None
        return self._of_a_file(kind, self.random.choice(sorted(self.files)))

    def _new(self) -> str:
        """A path that leads nowhere yet; "" where the one that was drawn leads somewhere."""
        where = self.random.choice(["", *sorted(self.directories)])
        path = f"{where}/{self.random.choice('abd')}".lstrip("/")
        return "" if path in self.files | self.links | self.directories or path.count("/") > 2 else path

    def _of_a_file(self, kind: str, name: str) -> Operation | None:
        if kind == "write":
            data = self.random.randbytes(self.random.choice((1, 6, 16, 35)))
            return Operation(kind, name, self.random.choice((0, 7, 14, 32)), data)
        if kind == "truncate":
            return Operation(kind, name, size=self.random.choice((0, 5, 16, 24)))
        if kind in ("rename", "link"):
            # A rename often replaces a file, or a link.
            other = (
                self.random.choice(sorted(self.files | self.links))
                if kind == "rename" and self.random.random() < 0.4
                else ""
            )
            other = other or self._new()
            if other in ("", name):
                return None
            mine, theirs = (self.links, self.files) if name in self.links else (self.files, self.links)
            mine.add(other)
            theirs.discard(other)
            mine.difference_update({name} if kind == "rename" else ())
            return Operation(kind, name, other=other)
        if kind == "delete":
            self.files.discard(name)
            self.links.discard(name)
        return Operation(kind, name)

    def _of_a_link(self, kind: str) -> Operation | None:
        if kind == "symlink":
            path = self._new()
            self.links.update({path} - {""})
            return Operation(kind, path, data=self.random.choice((b"a", b"d/b", b"\0d"))) if path else None
        if not self.links:
            return None
        kind = self.random.choice(("rename", "rename", "link", "delete"))
        return self._of_a_file(kind, self.random.choice(sorted(self.links)))

    def _of_a_directory(self, kind: str) -> Operation | None:
        if not self.directories:
            return None
        name, other = self.random.choice(sorted(self.directories)), self._new()
        if kind == "rmdir":
            if any(one.startswith(f"{name}/") for one in self.files | self.links | self.directories):
                return None
            self.directories.discard(name)
            return Operation(kind, name)
        if not other or other.startswith(f"{name}/"):
            return None
        self.files = {_moved(one, name, other) for one in self.files}
        self.links = {_moved(one, name, other) for one in self.links}
        self.directories = {_moved(one, name, other) for one in self.directories}
        return Operation("rename", name, other=other)


def _moved(path: str, name: str, other: str) -> str:
    return other + path.removeprefix(name) if path == name or path.startswith(f"{name}/") else path
