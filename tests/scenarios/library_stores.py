"""A memory-first and a sound store on each binding of SQLite, and one on a copy of SQLite that no binding leads to."""

import ctypes
import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

from tornpage import Action, Configuration, Environment, SimpleTarget

BINDINGS = ("sqlite3", "pysqlite3", "sqlean", "apsw")


def connect(binding: str, path: Path) -> Any:
    """A connection in autocommit mode that waits for a lock."""
    module: Any = importlib.import_module(binding)
    if binding != "apsw":
        return module.connect(str(path), isolation_level=None)
    connection = module.Connection(str(path))
    connection.set_busy_timeout(5000)
    return connection


class Sound:
    """Changes its memory when the file has changed; after an error it reads the file again."""

    def __init__(self, connection: Any, configuration: Configuration) -> None:
        self.connection = connection
        connection.execute(f"PRAGMA journal_mode = {configuration.journal_mode}")
        connection.execute(f"PRAGMA synchronous = {configuration.synchronous}")
        connection.execute("CREATE TABLE IF NOT EXISTS things (name PRIMARY KEY)")
        self.names: dict[str, int] | None = None

    def view(self) -> dict[str, int]:
        if self.names is None:
            self.names = {name: 1 for (name,) in self.connection.execute("SELECT name FROM things")}
        return dict(self.names)

    def add(self, name: str) -> None:
        known, self.names = self.view(), None
        if name not in known:
            self.connection.execute("INSERT INTO things VALUES (?)", (name,))
        self.names = {**known, name: 1}

    def close(self) -> None:
        self.connection.close()


class MemoryFirst(Sound):
    """Changes its memory, then the file."""

    def add(self, name: str) -> None:
        self.names = self.view()
        if name not in self.names:
            self.names[name] = 1
            self.connection.execute("INSERT INTO things VALUES (?)", (name,))


class OnBinding(SimpleTarget):
    """The base: a store on a binding."""

    title = "a store on a binding"
    file = "things.sqlite"
    configurations = (Configuration("delete", "FULL"), Configuration("wal", "FULL"))
    calls = (Action("add", {"name": "a"}), Action("add", {"name": "b"}))
    beat = Action("add", {"name": "beat"})
    store: type[Sound] = Sound
    on = "sqlite3"

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Sound:
        return self.store(connect(self.on, path), configuration)

    def view(self, store: Sound) -> dict[str, int]:
        return store.view()

    def rows(self, connection: Any) -> dict[str, int]:
        return {name: 1 for (name,) in connection.execute("SELECT name FROM things")}


def target(binding: str, store: type[Sound]) -> type[OnBinding]:
    """The target of a store on a binding."""
    return type(f"{store.__name__}On{binding}", (OnBinding,), {"on": binding, "store": store})


class _Strange:
    """Enough of a connection, of a copy of SQLite that is loaded past every binding."""

    def __init__(self, library: Path, path: Path) -> None:
        copy = path.parent.parent / "strange.so"
        if not copy.exists():
            shutil.copy(library, copy)
        self._sqlite = ctypes.CDLL(str(copy))
        self._handle = ctypes.c_void_p()
        assert self._sqlite.sqlite3_open(str(path).encode(), ctypes.byref(self._handle)) == 0

    def execute(self, sql: str, parameters: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p), ctypes.c_void_p
        )

        def row(_: object, count: int, values: Any, __: object) -> int:
            rows.append(tuple((values[index] or b"").decode() for index in range(count)))
            return 0

        for parameter in parameters:
            sql = sql.replace("?", f"'{parameter}'", 1)
        if self._sqlite.sqlite3_exec(self._handle, sql.encode(), kind(row), None, None):
            raise RuntimeError(sql)
        return rows

    def close(self) -> None:
        self._sqlite.sqlite3_close(self._handle)


def strange(path: Path) -> _Strange:
    """A connection past every binding; needs pysqlite3 for its library."""
    importlib.import_module("pysqlite3")
    return _Strange(Path(str(sys.modules["pysqlite3._sqlite3"].__file__)), path)


class OnStrange(OnBinding):
    """A store on a SQLite that nothing leads to."""

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Sound:
        return Sound(strange(path), configuration)


# For commands, which name a target.
SoundHere = target("sqlite3", Sound)
MemoryFirstHere = target("sqlite3", MemoryFirst)


class StatementsHere(OnBinding):
    """A sound store on connections that the harness opens."""

    depths = ("vfs", "statement")

    def make(self, path: Path, configuration: Configuration, environment: Environment) -> Sound:
        return Sound(environment.connect(path, isolation_level=None), configuration)
