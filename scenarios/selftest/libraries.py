"""The depths that each SQLite library installed here supports, tried for real: one small database for each cell.

Nothing is inferred from a name or a version: a depth is supported if the library raised its fault as SQLite's own
error.
"""

import contextlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tornpage import faults
from tornpage.faults.reach.bindings import BINDINGS, Binding, code_of
from tornpage.scenarios.model.target import connect_of

DEPTHS: Final = ("vfs", "crash", "contend", "statement", "pages", "heap", "allocation", "seed")
_FULL: Final = 13
_BUSY: Final = 5


class LibraryRow(msgspec.Struct, frozen=True):
    """One binding: its SQLite, and for each of `DEPTHS` whether it works; `reason` if none does."""

    binding: str
    version: str = ""
    source_id: str = ""
    shows_functions: bool = False
    works: dict[str, bool] = {}
    reason: str = ""


def rows(directory: Path) -> list[LibraryRow]:
    """Every known binding that is installed."""
    return [_row(one, directory / one.name) for one in BINDINGS if importlib.util.find_spec(one.name) is not None]


def _row(binding: Binding, directory: Path) -> LibraryRow:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        library = faults.shim_for(code_of(binding)).library
    except faults.ShimUnavailableError as error:
        return LibraryRow(binding.name, reason=error.reason)
    works = {}
    for depth in DEPTHS:
        home = directory / depth
        home.mkdir(exist_ok=True)
        try:
            works[depth] = _TRIES[depth](binding, home)
        except faults.FaultError:
            works[depth] = False
    return LibraryRow(binding.name, library.version, library.source_id, library.shows_functions, works)


def _connect(binding: Binding, path: Path, connect: Callable[..., Any] | None = None) -> Any:
    opened = (connect or connect_of(code_of(binding)))(str(path))
    if binding.is_dbapi:
        opened.isolation_level = None
    return opened


def _raises(work: Callable[[], object], code: int) -> bool:
    """Whether this raises SQLite's own error of this (primary) code."""
    try:
        work()
    except faults.sqlite_errors() as error:
        return (faults.result_code(error) or 0) & 0xFF == code
    except MemoryError:
        return code == 0
    return False


def _vfs(binding: Binding, home: Path) -> bool:
    with faults.install(), contextlib.closing(_connect(binding, home / "a.db")) as connection:
        with faults.arm("write@1=FULL", home) as armed:
            raised = _raises(lambda: connection.execute("CREATE TABLE t (a)"), _FULL)
        return raised and armed.fired == 1


def _crash(binding: Binding, home: Path) -> bool:
    with faults.install(), faults.record(home) as tape:
        with contextlib.closing(_connect(binding, home / "a.db")) as connection:
            connection.execute("CREATE TABLE t (a)")
        made = faults.CrashStates({}, tape.operations).process(len(tape)).files
    return dict(made) == {"a.db": (home / "a.db").read_bytes()}


def _contend(binding: Binding, home: Path) -> bool:
    with faults.install(), contextlib.closing(_connect(binding, home / "a.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
        with faults.contend("writer", "lock", 1, home) as rival:
            raised = _raises(lambda: connection.execute("INSERT INTO t VALUES (1)"), _BUSY)
        return raised and rival.contended


def _statement(binding: Binding, home: Path) -> bool:
    if not binding.is_dbapi:
        return False
    depth = faults.StatementDepth(code_of(binding))
    with contextlib.closing(_connect(binding, home / "a.db", depth.connect)) as connection:
        with depth.arm("commit@1=FULL") as armed:
            raised = _raises(lambda: connection.execute("CREATE TABLE t (a)"), _FULL)
        return raised and armed.fired == 1


def _pages(binding: Binding, home: Path) -> bool:
    if not binding.is_dbapi:
        return False
    code = code_of(binding)
    connections = faults.Connections(faults.StatementDepth(code).connect, code)
    with contextlib.closing(_connect(binding, home / "a.db", connections.connect)) as connection:
        connection.execute("CREATE TABLE t (a)")
        with faults.PageLimit(connections, 0).in_force():
            return _raises(lambda: connection.execute("INSERT INTO t VALUES (zeroblob(50000))"), _FULL)


def _heap(binding: Binding, home: Path) -> bool:
    with contextlib.closing(_connect(binding, home / "a.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
        with faults.HeapLimit(0, module=code_of(binding)).in_force():
            return _is_out_of_memory(lambda: connection.execute("INSERT INTO t VALUES (zeroblob(5000000))"))


def _allocation(binding: Binding, home: Path) -> bool:
    code = code_of(binding)
    if not faults.can_fail_allocations(faults.shim_for(code).library):
        return False
    with faults.exact_allocations(code), faults.FailedAllocation(1, module=code).in_force():
        return _is_out_of_memory(lambda: connect_of(code)(str(home / "a.db")))


def _is_out_of_memory(work: Callable[[], object]) -> bool:
    try:
        work()
    except MemoryError:
        return True
    except faults.sqlite_errors() as error:
        return type(error).__name__ == "NoMemError"
    return False


def _seed(binding: Binding, home: Path) -> bool:
    del home
    drawn: list[object] = []
    for _ in range(2):
        with (
            faults.install(),
            faults.shims().deterministic(7),
            contextlib.closing(_connect(binding, Path(":memory:"))) as connection,
        ):
            drawn += connection.execute("SELECT random()").fetchall()
    return bool(drawn[0] == drawn[1])


_TRIES: Final[dict[str, Callable[[Binding, Path], bool]]] = {
    "vfs": _vfs, "crash": _crash, "contend": _contend, "statement": _statement, "pages": _pages, "heap": _heap,
    "allocation": _allocation, "seed": _seed,
}  # fmt: skip
