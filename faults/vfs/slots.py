"""The memory side of the shim: which function pointer each slot holds, ours or the base's, and how it is restored.

A *slot* is one pointer in a table of functions: of a VFS, which is changed in place, or of our copy of a file's method
table. A `Past` is a copy of a VFS with the base's own functions, under another name: connections opened through it
bypass the shim. It is registered in a library's list of VFSs while such a connection is opened. It may be a copy of the
VFS of *another* library: one library's connection then uses the other library's files, locks and shared memory, which
SQLite keeps per library and not per process. A refreshed copy has our functions, and serves a watched connection.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from tornpage.faults.reach.library import SIGNATURES, IoMethods, Vfs, immortal
from tornpage.faults.reach.proof import Found, size_of
from tornpage.faults.vfs.signals import Interrupts

PAST: Final = "tornpage-past"
GUEST: Final = "tornpage-guest"


class Slot(NamedTuple):
    """One slot that can be replaced: its location, the base's address, ours, and the kinds that need it replaced."""

    field: str
    cell: ctypes.c_void_p
    base: int
    ours: int
    kinds: frozenset[str]

    @classmethod
    def at(cls, place: int, field: str, base: int, ours: int, kinds: Iterable[str]) -> "Slot":
        """The slot at an address."""
        return cls(field, ctypes.c_void_p.from_address(place), base, ours, frozenset(kinds))


class Callbacks:
    """Python functions as C callbacks: referenced for ever, with signal handlers kept out of their frames."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._made: list[Any] = []  # never emptied: C may call them for as long as the process lives

    def address(self, field: str, function: Callable[..., int]) -> int:
        """The C address of a function for a slot of this name."""
        self._interrupts.keep_out_of(function)
        callback = SIGNATURES[field](function)
        self._made.append(callback)
        address = ctypes.cast(callback, ctypes.c_void_p).value
        assert address is not None  # noqa: S101 - a callback always has an address
        return address


class Place:
    """One VFS of a library, in place."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.vfs = Vfs.from_address(found.address)
        # In an old version the structure is shorter; some builds leave a function out.
        known = {name for name, *_ in Vfs._fields_ if getattr(Vfs, name).offset < size_of(self.vfs.iVersion)}
        self.base = {name: address for name in SIGNATURES.keys() & known if (address := getattr(self.vfs, name))}
        self.ours: dict[str, int] = {}

    def cell_of(self, field: str) -> int:
        """Where a slot is."""
        return self.found.address + int(getattr(Vfs, field).offset)

    def take(self, field: str) -> None:
        """Point a slot at our function, unless other code has replaced it meanwhile."""
        if field in self.ours and getattr(self.vfs, field) == self.base[field]:
            setattr(self.vfs, field, self.ours[field])

    def give_back(self, field: str) -> None:
        """Point a slot at the base's function again, unless other code has replaced it meanwhile."""
        if field in self.ours and getattr(self.vfs, field) == self.ours[field]:
            setattr(self.vfs, field, self.base[field])


class Past:
    """A copy of a VFS with the base's own functions; made before any of them is replaced."""

    def __init__(self, found: Found, name: str) -> None:
        self.name = name
        self.of = found
        self._size = size_of(Vfs.from_address(found.address).iVersion)
        self._address = immortal(ctypes.string_at(found.address, self._size))
        self._vfs = Vfs.from_address(self._address)
        self._name_address = immortal(name.encode() + b"\0")
        self._vfs.zName = self._name_address

    @property
    def address(self) -> int:
        """Where it is."""
        return self._address

    def refresh(self) -> None:
        """Copy the functions that the VFS has now, ours included: a connection that uses this copy is watched."""
        ctypes.memmove(self._address, self.of.address, self._size)
        self._vfs.zName = self._name_address

    @contextlib.contextmanager
    def standing_in(self, first: Found) -> Iterator[None]:
        """Register in a library's list, after its default VFS, inside this scope; connections that use it stay valid.

        The library searches its list under its own lock; each single write here leaves a valid list.
        """
        head = Vfs.from_address(first.address)
        self._vfs.pNext = head.pNext
        head.pNext = self._address
        try:
            yield
        finally:
            before: Vfs | None = head
            # Another VFS may have been registered meanwhile.
            while before is not None and before.pNext != self._address:
                before = Vfs.from_address(before.pNext) if before.pNext else None
            if before is not None:
                before.pNext = self._vfs.pNext


def copy_of_methods(base_methods: int) -> int:
    """A copy of a file's method table, of the size that its version implies."""
    version = IoMethods.from_address(base_methods).iVersion
    size = (IoMethods.xShmMap, IoMethods.xFetch)[version - 1].offset if version < 3 else ctypes.sizeof(IoMethods)
    return immortal(ctypes.string_at(base_methods, size))
