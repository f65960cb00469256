"""Finds a library's VFSs through a connection, and verifies them before anything is written.

Method. In every CPython binding the connection object begins with the C handle (``PyObject_HEAD; sqlite3 *db;``), and
the handle begins with its VFS (``struct sqlite3``: ``sqlite3_vfs *pVfs``, since 2007). So one connection leads to the
list of all VFSs of its library, whether the library exports functions or not.

Each of these assumptions is checked. Every pointer is looked up in the memory map of the process before it is followed:
the structure must be in writable memory, and its functions in executable memory, all of them in the same file; its
numbers and its name must be those of a VFS of the operating system. The length of the object's head is read from
``object.__basicsize__``, since free-threaded and debug builds have longer ones.

If the system has no readable memory map (everywhere but Linux), the library's own ``sqlite3_vfs_find`` must return the
address that was found here (`faults.reach.library`).
"""

import ctypes
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tornpage.faults.errors import ShimUnavailableError

KNOWN_VERSION: Final = 3
_MAP: Final = Path("/proc/self/maps")
# Its addresses, its permissions, and its file; between them stand an offset, a device and an inode.
_LINE: Final = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$", re.MULTILINE)
_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)
_MOST_VFSES: Final = 64
_LONGEST_NAME: Final = 64
# The names of the operating system's VFSs in SQLite's sources (os_unix.c, os_win.c).
_OF_THE_SYSTEM: Final = ("unix", "win32")
IN_MEMORY: Final = "memdb"

_pointer = ctypes.c_void_p


class Vfs(ctypes.Structure):
    """``sqlite3_vfs``, version 3."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        *((name, _pointer) for name in (
            "pNext", "zName", "pAppData", "xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError",
            "xDlSym", "xDlClose", "xRandomness", "xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64",
            "xSetSystemCall", "xGetSystemCall", "xNextSystemCall",
        )),
    )  # fmt: skip


_SIZES: Final = {1: Vfs.xCurrentTimeInt64.offset, 2: Vfs.xSetSystemCall.offset, 3: ctypes.sizeof(Vfs)}
# Functions that must be present, and those that may be absent (xCurrentTime under SQLITE_OMIT_DEPRECATED).
_REQUIRED: Final = ("xOpen", "xDelete", "xAccess", "xFullPathname", "xRandomness", "xSleep")
_OPTIONAL: Final = ("xCurrentTime", "xGetLastError")


def size_of(version: int) -> int:
    """The size of a ``sqlite3_vfs`` of this version, in bytes."""
    return _SIZES[version]


class _Region(NamedTuple):
    end: int
    permissions: str
    file: str


class Memory:
    """The current memory map of this process; `known` is False if the system doesn't provide one."""

    def __init__(self) -> None:
        try:
            lines = _LINE.findall(_MAP.read_bytes())
        except OSError:
            lines = []
        # In the order of their addresses.
        self._lines: list[tuple[bytes, bytes, bytes, bytes]] = lines
        self._ends = [int(end, 16) for _, end, _, _ in lines]
        self.known = bool(lines)

    def has(self, address: int, size: int, permission: str) -> bool:
        """Whether all these bytes are mapped with this permission (``r``, ``w`` or ``x``); True if there is no map.

        A structure may span several regions.
        """
        if not self.known:
            return address != 0
        while size > 0:
            region = self._at(address)
            if region is None or permission not in region.permissions:
                return False
            size -= region.end - address
            address = region.end
        return True

    def file_at(self, address: int) -> str:
        """The file that is mapped at an address; "" for none."""
        region = self._at(address)
        return region.file if region is not None else ""

    def _at(self, address: int) -> _Region | None:
        index = bisect_right(self._ends, address)
        if index == len(self._lines):
            return None
        start, _, permissions, file = self._lines[index]
        if int(start, 16) > address:
            return None
        return _Region(self._ends[index], permissions.decode(), os.fsdecode(file))


class Found(NamedTuple):
    """One VFS in a library's list: its address, its name, and whether it is the operating system's."""

    address: int
    name: str
    of_the_system: bool


def head_bytes() -> int:
    """The size of ``PyObject_HEAD`` in this interpreter, in bytes."""
    return object.__basicsize__


def handle_of(connection: Any, kind: type, memory: Memory) -> int:
    """The ``sqlite3 *`` of an open connection; `kind` is the class that its module defines in C.

    Raises `ShimUnavailableError` for an object of any other class, and for a connection that is closed.
    """
    if type(connection) is not kind:
        raise ShimUnavailableError(
            f"{_name_of(type(connection))} is not {_name_of(kind)} itself, and the position of the handle is known "
            "only for that class"
        )
    if kind.__basicsize__ < head_bytes() + _POINTER:
        raise ShimUnavailableError(f"an object of {_name_of(kind)} is too small for a handle")
    return handle_at(id(connection), head_bytes(), memory)


def handle_at(connection: int, head: int, memory: Memory) -> int:
    """The ``sqlite3 *`` of the connection object at an address, whose head has `head` bytes."""
    handle = _read(connection + head, memory, "the connection")
    if not handle:
        raise ShimUnavailableError("the connection is closed")
    return handle


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def first_vfs(handle: int, memory: Memory) -> int:
    """The address of a handle's own VFS."""
    return _read(handle, memory, "the handle")


def list_of(handle: int, memory: Memory) -> list[Found]:
    """All VFSs of the library that a handle belongs to, the handle's own first; raises `ShimUnavailableError`."""
    address = first_vfs(handle, memory)
    found: list[Found] = []
    while address and len(found) < _MOST_VFSES and address not in {one.address for one in found}:
        found.append(_look_at(address, memory))
        address = Vfs.from_address(address).pNext or 0
    return found


def require_alive(vfs: Found, memory: Memory) -> None:
    """Raise `ShimUnavailableError` if a VFS that was found earlier no longer exists."""
    try:
        still = _look_at(vfs.address, memory)
    except ShimUnavailableError as error:
        raise ShimUnavailableError(f"its VFS {vfs.name} is gone (was it unloaded?): {error.reason}") from None
    if still != vfs:
        raise ShimUnavailableError(f"the memory of its VFS {vfs.name} has changed (was it unloaded?)")


def _read(address: int, memory: Memory, what: str) -> int:
    if not memory.has(address, _POINTER, "r"):
        raise ShimUnavailableError(f"{what} at {address:#x} is not in readable memory: its layout is unknown")
    return ctypes.c_size_t.from_address(address).value


def _look_at(address: int, memory: Memory) -> Found:
    """The VFS at an address; one of the operating system, which will be changed, is verified completely."""
    if not memory.has(address, _SIZES[1], "r"):
        raise ShimUnavailableError(f"a VFS at {address:#x} is not in readable memory: the layout is unknown")
    vfs = Vfs.from_address(address)
    name = _name_at(vfs.zName or 0, memory)
    if not name.startswith(_OF_THE_SYSTEM):
        return Found(address, name, of_the_system=False)
    doubts = list(_doubts(address, vfs, memory))
    if doubts:
        raise ShimUnavailableError(f"the VFS {name} at {address:#x} is not as expected: {'; '.join(doubts)}")
    return Found(address, name, of_the_system=True)


def _doubts(address: int, vfs: Vfs, memory: Memory) -> Iterator[str]:
    if vfs.iVersion > KNOWN_VERSION:
        yield f"its version is {vfs.iVersion}, newer than the latest known, {KNOWN_VERSION}"
    elif vfs.iVersion < 1:
        yield f"its version is {vfs.iVersion}"
    elif not memory.has(address, _SIZES[vfs.iVersion], "w"):
        yield "it can't be written to"
    if not 0 < vfs.szOsFile <= 65_536:
        yield f"its files have {vfs.szOsFile} bytes"
    if not 64 <= vfs.mxPathname <= 1 << 20:
        yield f"its paths have at most {vfs.mxPathname} bytes"
    functions = {field: getattr(vfs, field) or 0 for field in _REQUIRED}
    functions |= {field: address for field in _OPTIONAL if (address := getattr(vfs, field))}
    yield from (f"{field} is not in code" for field, one in functions.items() if not memory.has(one, 1, "x"))
    files = {memory.file_at(one) for one in functions.values()}
    if len(files) > 1:
        yield f"its functions are in {len(files)} files: {', '.join(sorted(files))}"


def _name_at(address: int, memory: Memory) -> str:
    if not memory.has(address, 1, "r"):
        raise ShimUnavailableError("a VFS has no name: the layout is unknown")
    name = bytearray()
    while len(name) <= _LONGEST_NAME and memory.has(address + len(name), 1, "r"):
        byte = ctypes.c_ubyte.from_address(address + len(name)).value
        if byte == 0:
            break
        name.append(byte)
    if not 0 < len(name) <= _LONGEST_NAME or not all(32 < byte < 127 for byte in name):
        raise ShimUnavailableError(f"a VFS is called {bytes(name[:8])!r}: the layout is unknown")
    return name.decode()
