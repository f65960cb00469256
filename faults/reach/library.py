"""One SQLite library in this process: its VFSs, found through a connection, and its exported functions.

`proof` finds and verifies the VFSs. That needs no exported symbol, so it works for a Python with SQLite statically
linked and its symbols hidden, and for every binding with its own copy. If the library exports its functions, they are
used to fail the nth allocation, to limit the heap, and to reseed SQLite's random generator. That the functions belong
to this library is verified: ``sqlite3_vfs_find`` must return the VFS that was found through the connection.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tornpage.faults.errors import ShimUnavailableError
from tornpage.faults.reach import proof
from tornpage.faults.reach.bindings import BINDINGS, Binding, binding_of, code_of, open_memory
from tornpage.faults.reach.proof import Found, Memory, Vfs

OK: Final = 0
IOERR: Final = 10
CANTOPEN: Final = 14

_pointer = ctypes.c_void_p


class IoMethods(ctypes.Structure):
    """``sqlite3_io_methods``."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        *((name, _pointer) for name in (
            "xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock", "xCheckReservedLock",
            "xFileControl", "xSectorSize", "xDeviceCharacteristics", "xShmMap", "xShmLock", "xShmBarrier",
            "xShmUnmap", "xFetch", "xUnfetch",
        )),
    )  # fmt: skip


_int, _int64 = ctypes.c_int, ctypes.c_int64

# The C signatures of the slots that can be replaced: the result, then the arguments.
SIGNATURES: Final[dict[str, Any]] = {
    "xOpen": ctypes.CFUNCTYPE(_int, _pointer, _pointer, _pointer, _int, _pointer),
    "xDelete": ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int),
    "xAccess": ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _pointer),
    "xRandomness": ctypes.CFUNCTYPE(_int, _pointer, _int, _pointer),
    "xSleep": ctypes.CFUNCTYPE(_int, _pointer, _int),
    "xCurrentTime": ctypes.CFUNCTYPE(_int, _pointer, _pointer),
    "xCurrentTimeInt64": ctypes.CFUNCTYPE(_int, _pointer, _pointer),
    "xClose": ctypes.CFUNCTYPE(_int, _pointer),
    "xRead": ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _int64),
    "xWrite": ctypes.CFUNCTYPE(_int, _pointer, _pointer, _int, _int64),
    "xTruncate": ctypes.CFUNCTYPE(_int, _pointer, _int64),
    "xSync": ctypes.CFUNCTYPE(_int, _pointer, _int),
    "xLock": ctypes.CFUNCTYPE(_int, _pointer, _int),
    "xUnlock": ctypes.CFUNCTYPE(_int, _pointer, _int),
    "xShmMap": ctypes.CFUNCTYPE(_int, _pointer, _int, _int, _int, _pointer),
    "xShmLock": ctypes.CFUNCTYPE(_int, _pointer, _int, _int, _int),
}

_raw_malloc = ctypes.pythonapi.PyMem_RawMalloc
_raw_malloc.restype, _raw_malloc.argtypes = _pointer, (ctypes.c_size_t,)


def immortal(content: bytes) -> int:
    """The address of a copy of `content` in memory that is never freed: SQLite may read it as long as it runs."""
    address = _raw_malloc(len(content))
    if not address:
        raise MemoryError
    ctypes.memmove(address, content, len(content))
    return int(address)


class Library:
    """One loaded SQLite; get it from `reach`.

    Attributes: `bindings`, those that use it, in the order found; `code`, the C module of the first; `version` and
    `source_id`; `vfss`, those of the operating system, the default first; `others`, the names of all other VFSs.
    """

    def __init__(self, binding: Binding) -> None:
        self.bindings = [binding]
        self.code = code_of(binding)
        self.vfss, self.others, is_known = _vfss_of(self.code)
        self.version, self.source_id = _version_of(self.code)
        self._handle, self._hidden = _functions_of(binding, self.vfss)
        if not is_known and self._handle is None:
            raise ShimUnavailableError(f"this system has no readable memory map, and {self._hidden}")
        try:
            self._reset_randomness = self.function("sqlite3_randomness", None, _int, _pointer)
        except ShimUnavailableError:
            self._reset_randomness = None

    @property
    def name(self) -> str:
        """The names of the bindings that use it, comma-separated."""
        return ", ".join(one.name for one in self.bindings)

    @property
    def title(self) -> str:
        """Its names and its version, for a message."""
        return f"{self.name} (SQLite {self.version})"

    @property
    def shows_functions(self) -> bool:
        """Whether SQLite's own functions can be called by name."""
        return self._handle is not None

    @property
    def fails_allocations(self) -> bool:
        """Whether single allocations can be made to fail.

        That needs exported functions, and a binding whose connections can all be found: Python's own.
        """
        return self.shows_functions and self.code.__name__ == "_sqlite3"

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """What is not possible with this library, for a report."""
        lacking = [] if self.fails_allocations else ["failing the nth allocation"]
        lacking += [] if self.shows_functions else ["seeding its random generator anew"]
        lacking += [f"files of its VFS {name}" for name in self.others if name != proof.IN_MEMORY]
        return tuple(lacking)

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """A function of the library with these C types; raises `ShimUnavailableError` if it can't be called."""
        function = getattr(self._handle, name, None) if self._handle is not None else None
        if function is None:
            why = self._hidden or f"the library behind {self.name} does not export {name}"
            raise ShimUnavailableError(f"{name} can't be called: {why}")
        function.restype, function.argtypes = result, arguments
        return function

    def require_alive(self) -> None:
        """Raise `ShimUnavailableError` if the library has been unloaded since it was found."""
        memory = Memory()
        for vfs in self.vfss:
            proof.require_alive(vfs, memory)

    def reset_randomness(self) -> None:
        """Make SQLite reseed its generator from the default VFS at its next use; no effect if that isn't possible."""
        if self._reset_randomness is not None:
            self._reset_randomness(0, None)

    def __str__(self) -> str:
        return f"{self.name}: SQLite {self.version} ({self.source_id})"


def _vfss_of(code: ModuleType) -> tuple[tuple[Found, ...], tuple[str, ...], bool]:
    """The VFSs of the operating system, the names of the others, and whether the memory map is known."""
    with _in_memory(code) as (connection, memory):
        found = proof.list_of(proof.handle_of(connection, code.Connection, memory), memory)
    mine = tuple(one for one in found if one.of_the_system)
    others = tuple(one.name for one in found if not one.of_the_system)
    if not mine:
        raise ShimUnavailableError(f"no VFS of the operating system in {code.__name__}, only {', '.join(others)}")
    return mine, others, memory.known


@contextlib.contextmanager
def _in_memory(code: ModuleType) -> Iterator[tuple[Any, Memory]]:
    """A new connection, and the memory map with it: an object may be in memory that is mapped only for it."""
    connection = open_memory(code)
    try:
        yield connection, Memory()
    finally:
        connection.close()


def _version_of(code: ModuleType) -> tuple[str, str]:
    connection = open_memory(code)
    try:
        ((version, source_id),) = connection.cursor().execute("SELECT sqlite_version(), sqlite_source_id()")
    finally:
        connection.close()
    return version, source_id


def _files_of(binding: Binding) -> list[str | None]:
    """The files that may export a library's functions; None is the program itself."""
    file = getattr(code_of(binding), "__file__", None)
    if file is not None and os.name == "nt":
        return [str(Path(file).with_name("sqlite3.dll"))]
    # The program's own exports come first, as for the linker: the extension's dependency may be a library whose symbols
    # are never used, because another library was loaded globally before it.
    return [None, file] if file is not None else [None]


def _functions_of(binding: Binding, vfss: tuple[Found, ...]) -> tuple[ctypes.CDLL | None, str]:
    """A handle to the library's exported functions, or None; and the reason if there is none."""
    reasons = []
    for file in _files_of(binding):
        name = file or "the program itself"
        try:
            handle = ctypes.CDLL(file)
        except OSError as error:
            reasons.append(f"{name} can't be loaded ({error})")
            continue
        find = getattr(handle, "sqlite3_vfs_find", None)
        if find is None:
            reasons.append(f"{name} exports none of SQLite's functions")
            continue
        find.restype, find.argtypes = _pointer, (ctypes.c_char_p,)
        if find(vfss[0].name.encode()) == vfss[0].address:
            return handle, ""
        reasons.append(f"{name} exports another copy of SQLite than the one {binding.name} uses")
    return None, "; ".join(reasons)


_libraries: dict[str, Library] = {}


def reach(module: ModuleType) -> Library:
    """The library behind a binding; bindings that share one get the same. Raises `ShimUnavailableError`."""
    binding = binding_of(module)
    if binding.name not in _libraries:
        same = _known_behind(code_of(binding)) if _libraries else None
        if same is not None:
            same.bindings.append(binding)
        _libraries[binding.name] = same or Library(binding)
    return _libraries[binding.name]


def _known_behind(code: ModuleType) -> Library | None:
    """The already known library that this binding uses, too; None if it uses another one.

    The VFS is not verified again: an installed shim's functions would be rejected.
    """
    with _in_memory(code) as (connection, memory):
        vfs = proof.first_vfs(proof.handle_of(connection, code.Connection, memory), memory)
    return next((one for one in _libraries.values() if vfs in {found.address for found in one.vfss}), None)


__all__ = ["BINDINGS", "CANTOPEN", "IOERR", "OK", "SIGNATURES", "IoMethods", "Library", "Vfs", "immortal", "reach"]
