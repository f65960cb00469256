"""The libsqlite3 that the ``sqlite3`` module itself uses, reached through ctypes.

``ctypes.CDLL`` of the extension module resolves SQLite's functions through its dependencies. That the functions
found belong to the library that really serves ``sqlite3`` is proved, not assumed: a VFS registered here must be
visible to a connection made there. Where that fails (a statically linked Python that hides its symbols) the one
error is `ShimUnavailableError`.

The two structures are SQLite's own, ``sqlite3_vfs`` (version 3) and ``sqlite3_io_methods`` (version 3), with
each function pointer as a plain address, so that copying a table is copying bytes.
"""

import ctypes
import functools
import importlib
import sqlite3
from types import ModuleType
from typing import Any, Final

from tornpage.faults.errors import ShimUnavailableError

OK: Final = 0
IOERR: Final = 10

_pointer = ctypes.c_void_p


class Vfs(ctypes.Structure):
    """``sqlite3_vfs``."""

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

# The C signatures of the slots that may become ours: the result, then the arguments.
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


class Library:
    """One loaded libsqlite3, with the few functions the shim needs."""

    def __init__(self, handle: ctypes.CDLL, module: Any) -> None:
        self.module = module
        self._handle = handle
        for name, result, arguments in (
            ("sqlite3_vfs_find", _pointer, (_pointer,)),
            ("sqlite3_vfs_register", _int, (_pointer, _int)),
            ("sqlite3_vfs_unregister", _int, (_pointer,)),
            ("sqlite3_randomness", None, (_int, _pointer)),
            ("sqlite3_malloc", _pointer, (_int,)),
            ("sqlite3_sourceid", ctypes.c_char_p, ()),
        ):
            self.function(name, result, *arguments)

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """A function of the library, by its C types; raises `ShimUnavailableError` where there is none."""
        try:
            function = getattr(self._handle, name)
        except AttributeError:
            module = self.module.__name__
            raise ShimUnavailableError(f"the library behind {module} does not export {name}") from None
        function.restype, function.argtypes = result, arguments
        return function

    def find_vfs(self) -> int:
        """The address of the default VFS."""
        address = self._handle.sqlite3_vfs_find(None)
        if not address:
            raise ShimUnavailableError("SQLite has no default VFS")
        return int(address)

    def register(self, vfs: int, *, default: bool) -> None:
        """Add a VFS, or change whether it is the default."""
        self._handle.sqlite3_vfs_register(vfs, int(default))

    def unregister(self, vfs: int) -> None:
        """Take a VFS out of the list; connections that use it go on."""
        self._handle.sqlite3_vfs_unregister(vfs)

    def reset_randomness(self) -> None:
        """Make SQLite seed its generator anew, from the default VFS, at the next use."""
        self._handle.sqlite3_randomness(0, None)

    def immortal(self, content: bytes) -> int:
        """A copy of `content` in memory that is never freed: SQLite may look at it for as long as it lives."""
        address = self._handle.sqlite3_malloc(len(content))
        if not address:
            raise MemoryError
        ctypes.memmove(address, content, len(content))
        return int(address)


def _candidates(module: ModuleType) -> list[str | None]:
    extension = importlib.import_module(_EXTENSIONS.get(module.__name__, module.__name__))
    # What the program itself exports comes first, as it does for the linker: the extension's own dependency may be a
    # library that nobody calls, because another one was loaded before it for all to see.
    return [None, getattr(extension, "__file__", None)]


_EXTENSIONS: Final = {"sqlite3": "_sqlite3", "pysqlite3": "pysqlite3._sqlite3"}


@functools.cache
def reach(module: ModuleType = sqlite3) -> Library:
    """The library behind a DB-API module (``sqlite3``, or ``pysqlite3``); raises `ShimUnavailableError`."""
    reasons = []
    for file in _candidates(module):
        name = file or "the program itself"
        try:
            library = Library(ctypes.CDLL(file), module)
        except OSError as error:
            reasons.append(f"{name} can't be loaded ({error})")
        except ShimUnavailableError as error:
            reasons.append(f"{name}: {error.reason}")
        else:
            if _serves(library):
                return library
            reasons.append(f"{name} leads to another copy of SQLite than the one {module.__name__} uses")
    raise ShimUnavailableError("; ".join(reasons))


def _serves(library: Library) -> bool:
    """Whether a VFS registered through the library is visible to the module's own connections."""
    base = library.find_vfs()
    name = library.immortal(b"tornpage-probe\0")
    vfs = library.immortal(ctypes.string_at(base, ctypes.sizeof(Vfs)))
    Vfs.from_address(vfs).zName = name
    library.register(vfs, default=False)
    try:
        library.module.connect("file:probe?mode=memory&vfs=tornpage-probe", uri=True).close()
    except library.module.OperationalError:
        return False
    finally:
        library.unregister(vfs)
    return True
