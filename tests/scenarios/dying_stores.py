"""Tiny stores for processes that are killed: right ones, ones with a defect that a death shows, and ones that spoil it.

They are found by name, ``dying_stores:Right``, because the process that dies has to load them by itself.
"""

import os
import signal
from pathlib import Path
from typing import Any

from tiny_stores import Tiny, TinySession, TwoTransactionsSession

from tornpage.scenarios.model.target import Action, Configuration, Environment, View

# One for each fork on the way from the process that loaded this module; a process's number may be one that it plays.
_forks: list[None] = []
os.register_at_fork(after_in_child=lambda: _forks.append(None))


# The number that the process really has, whichever it plays when a store is opened in it.
real_getpid = os.getpid


def put(key: str, value: int = 1) -> Action:
    return Action("put", {"key": key, "value": value})


def in_a_child() -> bool:
    """Whether this process was forked from the one that loaded this module; its number says nothing of that."""
    return bool(_forks)


class Right(Tiny):
    """Nothing is wrong with it."""

    name = "dying_stores:Right"


class NamedSession(TinySession):
    directory: Path

    def call(self, action: Action) -> Any:
        super().call(action)
        return os.fspath(self.directory / action.args["key"])


class Named(Right):
    """Nothing is wrong with it; its answers name the directory in which it runs."""

    name = "dying_stores:Named"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        session = NamedSession(directory, configuration, environment)
        session.directory = directory
        return session


class Recovers(Tiny):
    """Right: its recovery marks each key, once."""

    name = "dying_stores:Recovers"
    recovery = Action("recover")
    sql = "UPDATE t SET value = 100 + value WHERE value < 100"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        session = RecoversSession(directory, configuration, environment)
        session.sql = self.sql
        return session


class RecoversSession(TinySession):
    sql = ""

    def do_recover(self) -> None:
        self.transact((self.sql, ()))


class RecoversAway(Recovers):
    """acknowledged-is-durable: its recovery throws away what looks unfinished."""

    name = "dying_stores:RecoversAway"
    sql = "DELETE FROM t WHERE key <> 'heartbeat'"


class RecoversAgain(Recovers):
    """in-flight-flagged-once: each recovery marks what the last one has marked."""

    name = "dying_stores:RecoversAgain"
    sql = "UPDATE t SET value = 100 + value"


class RecoversInTwo(Recovers):
    """in-flight-flagged-once: a recovery that is killed between its two transactions is never finished."""

    name = "dying_stores:RecoversInTwo"
    many_commits = frozenset({"recover"})
    calls = (put("a"), put("b"), Action("recover"), put("c"))

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        return RecoversInTwoSession(directory, configuration, environment)


class RecoversInTwoSession(TinySession):
    def do_recover(self) -> None:
        if self.connection.execute("SELECT 1 FROM t WHERE key = 'a' AND value < 100").fetchall():
            self.transact(("UPDATE t SET value = 100 + value WHERE key = 'a'", ()))
            self.transact(("UPDATE t SET value = 200 + value WHERE key = 'b'", ()))


class CleansUp(Tiny):
    """acknowledged-is-durable: takes the files that a dead process left behind for rubbish (howtocorrupt.html)."""

    name = "dying_stores:CleansUp"
    configurations = (Configuration("wal", "FULL"),)

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        for left in directory.glob("tiny.db-*"):
            left.unlink()
        return super().open(directory, configuration, environment)


class LazySession(TinySession):
    """Commits what it acknowledged together with the next change, or when it is closed."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")
        self.connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            self.connection.execute(*statement)

    def close(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")
        super().close()


class Lazy(Tiny):
    """acknowledged-is-durable: it acknowledges before its COMMIT."""

    name = "dying_stores:Lazy"
    session = LazySession


class SavingSession(TinySession):
    """Saves a list of its keys beside the database when it is closed."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        super().__init__(directory, configuration, environment)
        self.directory = directory

    def close(self) -> None:
        (self.directory / "keys.idx").write_text(" ".join(self.live_view()))
        super().close()


class OpeningSession(SavingSession):
    """Lets others read that list."""

    def close(self) -> None:
        super().close()
        (self.directory / "keys.idx").chmod(0o644)


class Saves(Tiny):
    name = "dying_stores:Saves"
    session = SavingSession


class Opens(Tiny):
    name = "dying_stores:Opens"
    session = OpeningSession


class BehindSession(TinySession):
    """`defer` is acknowledged, and written by the next call; everything else is written at once."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        super().__init__(directory, configuration, environment)
        self.deferred: dict[str, int] = {}

    def do_defer(self, key: str, value: int) -> None:
        self.deferred[key] = value

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        first = [("INSERT INTO t VALUES(?, ?)", item) for item in self.deferred.items()]
        super().transact(*first, *statements)
        self.deferred.clear()

    def live_view(self) -> View:
        return {**super().live_view(), **self.deferred}


class Behind(Tiny):
    """acknowledged-is-durable: one kind of call is acknowledged from memory alone."""

    name = "dying_stores:Behind"
    session = BehindSession
    calls = (put("a"), Action("defer", {"key": "b", "value": 2}), put("c"))


class Halves(Tiny):
    """all-or-nothing: one call, two transactions."""

    name = "dying_stores:Halves"
    session = TwoTransactionsSession


class FailsInTheChild(Tiny):
    """Works everywhere but in the process that is to be killed."""

    name = "dying_stores:FailsInTheChild"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        if in_a_child():
            raise RuntimeError("not in a child")
        return super().open(directory, configuration, environment)


class ExitsInTheChild(Right):
    """Ends the process that is to be killed."""

    name = "dying_stores:ExitsInTheChild"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        if in_a_child():
            os.write(2, b"that was enough\n")
            os._exit(3)
        return super().open(directory, configuration, environment)


class KilledByOthers(Right):
    """Is killed, but not by the plan."""

    name = "dying_stores:KilledByOthers"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        if in_a_child():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(directory, configuration, environment)


class Waits(Right):
    """Never comes back; a reader of ``alive.fifo`` hears its process number, and then when it is gone."""

    name = "dying_stores:Waits"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        if in_a_child():
            alive = os.open("alive.fifo", os.O_WRONLY)
            os.write(alive, f"{real_getpid()} {os.getppid()}\n".encode())
            while True:
                signal.pause()
        return super().open(directory, configuration, environment)


class Prints(Right):
    """Talks on standard output, when it is loaded and when it is used."""

    name = "dying_stores:Prints"

    def __init__(self) -> None:
        print('{"type":"died","pid":1,"status":9}')

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        if in_a_child():
            print('{"type":"died","pid":1,"status":9}', flush=True)
        return super().open(directory, configuration, environment)
