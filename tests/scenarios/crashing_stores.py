"""Tiny stores that are wrong in a way that only a crash shows, and the right ones beside them.

``--target crashing_stores:SaysFull`` names one on the command line.
"""

import json
import mmap
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_stores import Tiny, TinySession

from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, View


class SaysFullSession(TinySession):
    """Was told FULL, and syncs nothing."""

    def set_up(self, configuration: Configuration) -> None:
        super().set_up(configuration)
        self.connection.execute("PRAGMA synchronous=OFF")


class SaysFull(Tiny):
    """acknowledged-is-durable: synchronous=OFF behind a promise of FULL."""

    session = SaysFullSession
    configurations = (Configuration("wal", "FULL"), Configuration("delete", "EXTRA"))


class Right(Tiny):
    """The same, as it was promised."""

    configurations = SaysFull.configurations


class AcknowledgesFirstSession(TinySession):
    """Commits when the next call comes."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self.connection.execute(*statement)


class AcknowledgesFirst(Tiny):
    """No crash is needed to see it: what is acknowledged is not in the file."""

    session = AcknowledgesFirstSession


class GathersSession(TinySession):
    """Keeps what it is told in a list, answers from it, and writes two calls' worth in one transaction."""

    def set_up(self, configuration: Configuration) -> None:
        super().set_up(configuration)
        self.waiting: list[tuple[str, tuple[Any, ...]]] = []

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        self.waiting += statements
        if len(self.waiting) > 1:
            written, self.waiting = self.waiting, []
            super().transact(*written)

    def require(self, key: str) -> None:
        if key not in self.live_view():
            raise Refused(f"no such key: {key}")

    def live_view(self) -> View:
        view = dict(super().live_view())
        for statement, values in self.waiting:
            if statement.startswith("DELETE"):
                view.pop(values[0], None)
            elif "SELECT" in statement:
                view[values[0]] = view[values[1]]
            else:
                view[values[0]] = values[1]
        return view


class Gathers(Tiny):
    """Writes behind: no crash is needed to see that every other call is acknowledged and in no file."""

    session = GathersSession


# -- a recovery ----------------------------------------------------------------------------------------------


class RecoversSession(TinySession):
    """Keeps jobs; a recovery marks those that were running as failed, and writes down that it has."""

    def do_run(self, key: str) -> None:
        self.transact(("INSERT INTO t VALUES(?, 'running')", (f"job/{key}",)))

    def do_recover(self) -> None:
        mark = ("UPDATE t SET value = 'failed' WHERE value = 'running'", ())
        note = (
            "INSERT INTO t SELECT 'note' || substr(key, 4), 1 FROM t j WHERE value = 'failed' "
            "AND NOT EXISTS (SELECT 1 FROM t WHERE key = 'note' || substr(j.key, 4))",
            (),
        )
        self.recover(mark, note)

    def recover(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        self.transact(*statements)


class Recovers(Tiny):
    """Right: recovery is one transaction."""

    session: type[TinySession] = RecoversSession
    configurations = (Configuration("wal", "FULL"), Configuration("delete", "EXTRA"))
    calls = (Action("run", {"key": "a"}), Action("put", {"key": "b", "value": 1}), Action("recover"))
    recovery = Action("recover")
    many_commits = ("recover",)

    def check_view(self, view: View) -> None:
        for key, value in view.items():
            if value == "failed" and f"note/{key.removeprefix('job/')}" not in view:
                raise Violation("all-or-nothing", f"{key} has failed, and no note says so")


class RecoversTwiceSession(RecoversSession):
    def recover(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        for statement in statements:
            self.transact(statement)


class RecoversTwice(Recovers):
    """all-or-nothing: a recovery in two transactions."""

    session = RecoversTwiceSession


# -- plain files ---------------------------------------------------------------------------------------------


class FilesSession:
    """Keys and values in one JSON file, written beside it, synced, and renamed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "store.json"

    def load(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def save(self, content: dict[str, Any]) -> None:
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(content, file)
            file.flush()
            self.sync(file.fileno())
        new.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            self.sync_directory(directory)
        finally:
            os.close(directory)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_directory(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def call(self, action: Action) -> None:
        content = self.load()
        if action.name == "put":
            content[action.args["key"]] = action.args["value"]
        elif content.pop(action.args["key"], None) is None:
            raise Refused("no such key")
        self.save(content)

    def live_view(self) -> View:
        return self.load()

    def outcome_of(self, error: Exception) -> str | None:
        return None

    def self_check(self) -> None:
        pass

    def close(self) -> None:
        pass


class Files:
    """Right: a JSON file that is replaced as a whole."""

    name = "files"
    title = "a JSON file"
    configurations = (Configuration("file", "FULL"),)
    depths = ("vfs",)
    unpromised: Mapping[str, str] = {}
    session: type[FilesSession] = FilesSession

    def workload(self) -> tuple[Action, ...]:
        value = "x" * 700
        return (
            Action("put", {"key": "a", "value": 1}),
            Action("put", {"key": "b", "value": value}),
            Action("remove", {"key": "a"}),
        )

    def heartbeat(self) -> Action:
        return Action("put", {"key": "heartbeat", "value": 1})

    def database(self, directory: Path) -> Path:
        return directory / "store.json"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> FilesSession:
        return self.session(directory)

    def files_view(self, directory: Path) -> View:
        return FilesSession(directory).load()

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        raise NotImplementedError


class NotSyncedSession(FilesSession):
    def sync(self, descriptor: int) -> None:
        pass


class NotSynced(Files):
    """integrity: renamed without a sync, so the new name may lead to an empty file."""

    session = NotSyncedSession


class NameNotSyncedSession(FilesSession):
    def sync_directory(self, descriptor: int) -> None:
        pass


class NameNotSynced(Files):
    """acknowledged-is-durable: the file is synced, its new name is not."""

    session = NameNotSyncedSession


class RewritesAtCloseSession(FilesSession):
    def close(self) -> None:
        if self.path.exists():
            self.path.write_text(json.dumps(self.load(), indent=1))


class RewritesAtClose(Files):
    """integrity: tidies its file up in place when it is closed."""

    session = RewritesAtCloseSession


class GoesRoundSession(FilesSession):
    def save(self, content: dict[str, Any]) -> None:
        super().save(content)
        size = self.path.stat().st_size
        with self.path.with_suffix(".backup").open("w+b") as copy:
            copy.truncate(size)
            with mmap.mmap(copy.fileno(), size) as mapped:
                mapped[:] = self.path.read_bytes()


class GoesRound(Files):
    """Writes a file in a way that the recorder does not see."""

    session = GoesRoundSession
