"""What a library's VFSs are, read out of a connection and proved before anything is written.

Method. In every CPython binding the connection object begins with the C handle (``PyObject_HEAD; sqlite3 *db;``), and
the handle begins with its VFS (``struct sqlite3``: ``sqlite3_vfs *pVfs``, so since 2007). So one connection leads to
the list of all VFSs of its library, whether the library shows any function by name or not.

Nothing of that is taken on trust. Every pointer is looked up in the memory map of the process before it is followed:
the structure has to lie in memory that can be written, its functions in memory that is executed, all of them in the
same file; its numbers and its name have to be those of a VFS of the operating system. The length of the object's head
is asked (``object.__basicsize__``), since free-threaded and debug builds have longer ones.

Where the system tells no memory map (everywhere but Linux), the proof is the library's own answer: the address found
here has to be the one that its ``sqlite3_vfs_find`` gives (`faults.reach.library`).
"""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tornpage.faults.errors import ShimUnavailableError

KNOWN_VERSION: Final = 3
_MAP: Final = Path("/proc/self/maps")
_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)
_MOST_VFSES: Final = 64
_LONGEST_NAME: Final = 64
# What SQLite's own sources call the VFSs of an operating system (os_unix.c, os_win.c).
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
# Those that have to be there, and those that may be absent (xCurrentTime is where SQLITE_OMIT_DEPRECATED is set).
_REQUIRED: Final = ("xOpen", "xDelete", "xAccess", "xFullPathname", "xRandomness", "xSleep")
_OPTIONAL: Final = ("xCurrentTime", "xGetLastError")


def size_of(version: int) -> int:
    """How many bytes a ``sqlite3_vfs`` of this version has."""
    return _SIZES[version]


class _Region(NamedTuple):
    start: int
    end: int
    permissions: str
    file: str


class Memory:
    """The memory map of this process, as it is now; `known` is False where the system does not tell."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []
        try:
            lines = _MAP.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            addresses, permissions, *rest = line.split(maxsplit=5)
            start, end = addresses.split("-")
            self._regions.append(_Region(int(start, 16), int(end, 16), permissions, rest[-1] if len(rest) > 3 else ""))
        self.known = bool(self._regions)

    def has(self, address: int, size: int, permission: str) -> bool:
        """Whether all these bytes are mapped with this permission (``r``, ``w`` or ``x``); True where nothing is known.

        A structure may lie across the border of two regions.
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
        return next((one for one in self._regions if one.start <= address < one.end), None)


class Found(NamedTuple):
    """One VFS in a library's list: its address, its name, and whether it is one of the operating system."""

    address: int
    name: str
    of_the_system: bool


def head_bytes() -> int:
    """How long ``PyObject_HEAD`` is in this interpreter."""
    return object.__basicsize__


def handle_of(connection: Any, kind: type, memory: Memory) -> int:
    """The ``sqlite3 *`` of an open connection; `kind` is the class that its module defines in C.

    Raises `ShimUnavailableError` for an object of any other class, and for a connection that is closed.
    """
    if type(connection) is not kind:
        raise ShimUnavailableError(
            f"{_name_of(type(connection))} is not {_name_of(kind)} itself, and only of that class it is known where "
            "the handle lies"
        )
    if kind.__basicsize__ < head_bytes() + _POINTER:
        raise ShimUnavailableError(f"an object of {_name_of(kind)} is too small for a handle")
    return handle_at(id(connection), head_bytes(), memory)


def handle_at(connection: int, head: int, memory: Memory) -> int:
    """The ``sqlite3 *`` of a connection object at an address, whose head has so many bytes."""
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
    """Raise `ShimUnavailableError` where a VFS that was found before is not there any more."""
    try:
        still = _look_at(vfs.address, memory)
    except ShimUnavailableError as error:
        raise ShimUnavailableError(f"its VFS {vfs.name} is gone (was it unloaded?): {error.reason}") from None
    if still != vfs:
        raise ShimUnavailableError(f"where its VFS {vfs.name} was is now something else (was it unloaded?)")


def _read(address: int, memory: Memory, what: str) -> int:
    if not memory.has(address, _POINTER, "r"):
        raise ShimUnavailableError(f"{what} at {address:#x} is not in readable memory: its layout is not the known one")
    return ctypes.c_size_t.from_address(address).value


def _look_at(address: int, memory: Memory) -> Found:
    """One structure of the list; of one that is to be written to everything is proved."""
    if not memory.has(address, _SIZES[1], "r"):
        raise ShimUnavailableError(f"a VFS at {address:#x} is not in readable memory: the layout is not the known one")
    vfs = Vfs.from_address(address)
    name = _name_at(vfs.zName or 0, memory)
    if not name.startswith(_OF_THE_SYSTEM):
        return Found(address, name, of_the_system=False)
    doubts = list(_doubts(address, vfs, memory))
    if doubts:
        raise ShimUnavailableError(f"the VFS {name} at {address:#x} is not as it should be: {'; '.join(doubts)}")
    return Found(address, name, of_the_system=True)


def _doubts(address: int, vfs: Vfs, memory: Memory) -> Iterator[str]:
    if vfs.iVersion > KNOWN_VERSION:
        yield f"its version is {vfs.iVersion}, newer than the {KNOWN_VERSION} that is known here"
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
    yield from (f"{field} is in no code" for field, one in functions.items() if not memory.has(one, 1, "x"))
    files = {memory.file_at(one) for one in functions.values()}
    if len(files) > 1:
        yield f"its functions are in {len(files)} files: {', '.join(sorted(files))}"


def _name_at(address: int, memory: Memory) -> str:
    if not memory.has(address, 1, "r"):
        raise ShimUnavailableError("a VFS has no name: the layout is not the known one")
    name = bytearray()
    while len(name) <= _LONGEST_NAME and memory.has(address + len(name), 1, "r"):
        byte = ctypes.c_ubyte.from_address(address + len(name)).value
        if byte == 0:
            break
        name.append(byte)
    if not 0 < len(name) <= _LONGEST_NAME or not all(32 < byte < 127 for byte in name):
        raise ShimUnavailableError(f"a VFS is called {bytes(name[:8])!r}: the layout is not the known one")
    return name.decode()
