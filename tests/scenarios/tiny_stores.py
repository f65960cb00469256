"""A tiny store on plain sqlite3, right; and the same with one defect each, that the harness has to see.

It is a target as a user would write one: no memory over the file, no word about what a failure means, no write that may
come back. ``--target tiny_stores:Tiny`` names it on the command line.
"""

import contextlib
import os
import signal
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies

from tornpage.scenarios.model.target import Action, Configuration, Environment, Refused, View


class TinySession:
    """Keys and values in one table; every call is one transaction."""

    # Without memory not even ROLLBACK can be prepared: what an earlier call had to leave open is ended by the next.
    tidies = True

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        self.connection = environment.connect(directory / "tiny.db", isolation_level=None, timeout=0)
        try:
            self.set_up(configuration)
            self.connection.execute("CREATE TABLE IF NOT EXISTS t(key TEXT PRIMARY KEY, value) WITHOUT ROWID")
        except BaseException:
            self.connection.close()
            raise

    def set_up(self, configuration: Configuration) -> None:
        (mode,) = self.connection.execute(f"PRAGMA journal_mode={configuration.journal_mode}").fetchone()
        if mode != configuration.journal_mode:
            # Where the WAL's shared memory can't be had, SQLite stays in the old mode and says so in this row only.
            raise sqlite3.OperationalError(f"the journal mode is {mode}")
        self.connection.execute(f"PRAGMA synchronous={configuration.synchronous}")

    def call(self, action: Action) -> None:
        self.tidy()
        getattr(self, f"do_{action.name}")(**action.args)

    def tidy(self) -> None:
        if self.tidies and self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def do_put(self, key: str, value: int) -> None:
        self.transact(("INSERT INTO t VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)))

    def do_remove(self, key: str) -> None:
        self.require(key)
        self.transact(("DELETE FROM t WHERE key = ?", (key,)))

    def do_move(self, key: str, to: str) -> None:
        self.require(key)
        self.transact(
            ("INSERT INTO t SELECT ?, value FROM t WHERE key = ?", (to, key)), ("DELETE FROM t WHERE key = ?", (key,))
        )

    def require(self, key: str) -> None:
        if not self.connection.execute("SELECT 1 FROM t WHERE key = ?", (key,)).fetchall():
            raise Refused(f"no such key: {key}")

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                self.connection.execute(*statement)
            self.connection.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def live_view(self) -> View:
        self.tidy()
        return dict(self.connection.execute("SELECT key, value FROM t").fetchall())

    def outcome_of(self, error: Exception) -> str | None:
        return None

    def self_check(self) -> None:
        pass

    def close(self) -> None:
        self.connection.close()


class Tiny:
    """Target: the tiny store."""

    name = "tiny"
    title = "a tiny store on plain sqlite3"
    configurations: tuple[Configuration, ...] = (Configuration("wal", "FULL"), Configuration("delete", "FULL"))
    depths: tuple[str, ...] = ("vfs", "statement")
    unpromised: Mapping[str, str] = {}
    session: type[TinySession] = TinySession
    calls: tuple[Action, ...] = (
        Action("put", {"key": "a", "value": 1}),
        Action("move", {"key": "a", "to": "b"}),
        Action("remove", {"key": "b"}),
    )

    def workload(self) -> tuple[Action, ...]:
        return self.calls

    def actions(self, view: View) -> strategies.SearchStrategy[Action]:
        key, value = strategies.sampled_from("abcd"), strategies.integers(1, 3)
        choices = [
            strategies.builds(lambda key, value: Action("put", {"key": key, "value": value}), key, value),
            strategies.builds(lambda key: Action("remove", {"key": key}), key),
        ]
        if view.keys() & set("abcd") and "moved" not in view:
            there = strategies.sampled_from(sorted(view.keys() & set("abcd")))
            choices.append(strategies.builds(lambda key: Action("move", {"key": key, "to": "moved"}), there))
        return strategies.one_of(choices)

    def heartbeat(self) -> Action:
        return Action("put", {"key": "heartbeat", "value": 1})

    def database(self, directory: Path) -> Path:
        return directory / "tiny.db"

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        return self.session(directory, configuration, environment)

    def fresh_view(self, connection: sqlite3.Connection) -> View:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchall():
            return {}
        return dict(connection.execute("SELECT key, value FROM t").fetchall())


class Declared(Tiny):
    """Says that it does not wait for anybody."""

    unpromised: Mapping[str, str] = {"waits-for-a-short-lock": "it has no busy timeout"}


# -- the same with a defect each ---------------------------------------------------------------------------


class RemembersFirstSession(TinySession):
    """Answers from a memory that takes each change before the write."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        super().__init__(directory, configuration, environment)
        try:
            self.memory = dict(super().live_view())
        except BaseException:
            self.connection.close()
            raise

    def do_put(self, key: str, value: int) -> None:
        self.memory[key] = value
        super().do_put(key, value)

    def do_remove(self, key: str) -> None:
        self.require(key)
        self.memory.pop(key, None)
        super().do_remove(key)

    def do_move(self, key: str, to: str) -> None:
        self.require(key)
        self.memory[to] = self.memory.pop(key)
        super().do_move(key, to)

    def live_view(self) -> View:
        return dict(self.memory)


class RemembersFirst(Tiny):
    """memory-equals-disk: memory changes before the write."""

    session = RemembersFirstSession


class RollsBackBlindlySession(TinySession):
    """Sends ROLLBACK after each error, also where SQLite has rolled back."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                self.connection.execute(*statement)
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise


class TwoTransactionsSession(TinySession):
    """Moves a key in two transactions."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        for statement in statements:
            super().transact(statement)


class TwoTransactions(Tiny):
    """all-or-nothing: one call, two transactions."""

    session = TwoTransactionsSession


class SwallowsSession(TinySession):
    """Says done, whatever SQLite says."""

    def transact(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        with contextlib.suppress(sqlite3.Error, MemoryError):
            super().transact(*statements)


class Swallows(Tiny):
    """acknowledged-is-durable: an error is swallowed."""

    session = SwallowsSession


class StuckSession(TinySession):
    """Leaves a transaction open when it fails."""

    tidies = False

    def roll_back(self) -> None:
        pass


class Stuck(Tiny):
    """still-usable-after-the-fault: the transaction of a COMMIT that was BUSY stays open."""

    session = StuckSession


class SulksSession(TinySession):
    """Fails the one call that follows a failed one."""

    sulking = False

    def call(self, action: Action) -> None:
        if self.sulking:
            self.sulking = False
            raise RuntimeError("not yet")
        try:
            super().call(action)
        except (sqlite3.Error, MemoryError):
            self.sulking = True
            raise


class Sulks(Tiny):
    """still-usable-after-the-fault: the next call fails, the one after it works."""

    session = SulksSession


LEAKED: list[sqlite3.Connection] = []


class LeaksSession(TinySession):
    """Opens another connection after a failure, and forgets the old one."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        super().__init__(directory, configuration, environment)
        self.again = lambda: TinySession(directory, configuration, environment).connection

    def roll_back(self) -> None:
        super().roll_back()
        LEAKED.append(self.connection)
        self.connection = self.again()


class Leaks(Tiny):
    """still-usable-after-the-fault: a connection is never closed."""

    session = LeaksSession


class ForgetsSession(RemembersFirstSession):
    """Starts empty when the rows can't be read (openclaw 105031)."""

    def __init__(self, directory: Path, configuration: Configuration, environment: Environment) -> None:
        TinySession.__init__(self, directory, configuration, environment)
        try:
            self.memory = dict(TinySession.live_view(self))
        except (sqlite3.Error, MemoryError):
            self.memory = {}

    def do_put(self, key: str, value: int) -> None:
        TinySession.do_put(self, key, value)
        self.memory[key] = value

    def do_remove(self, key: str) -> None:
        TinySession.do_remove(self, key)
        self.memory.pop(key, None)

    def do_move(self, key: str, to: str) -> None:
        TinySession.do_move(self, key, to)
        self.memory[to] = self.memory.pop(key)


class Forgets(Tiny):
    """memory-equals-disk at an open: rows that could not be read count as none."""

    session = ForgetsSession
    configurations = (Configuration("wal", "FULL"),)
    calls = (Action("put", {"key": "a", "value": 1}),)


class ScribblesSession(TinySession):
    """Overwrites the head of the file when a write fails."""

    def roll_back(self) -> None:
        super().roll_back()
        path = self.connection.execute("PRAGMA database_list").fetchone()[2]
        self.connection.close()
        Path(path).write_bytes(b"scribble " * 1000)


class Scribbles(Tiny):
    """integrity: the file is no database any more."""

    session = ScribblesSession
    configurations = (Configuration("delete", "FULL"),)


class CommitsThenReadsSession(TinySession):
    """Reads the row back after its commit; the read may fail, and so does the call then. Nothing is wrong with that."""

    def do_put(self, key: str, value: int) -> None:
        super().do_put(key, value)
        self.require(key)


class CommitsThenReads(Tiny):
    """Right: a call that raises, and says nothing of the change, may have made it."""

    session = CommitsThenReadsSession


class NeverWorks(Tiny):
    """Fails without any fault."""

    calls = (Action("put", {"key": "a", "value": 1}), Action("move", {"key": "a", "to": "a"}))


class NeverOpens(Tiny):
    """Can't even be opened."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        raise FileNotFoundError("no such store")


class DoesNothing(Tiny):
    """Offers a workload without calls."""

    calls = ()


class LeaksAlwaysSession(TinySession):
    """Forgets to close its connection."""

    def close(self) -> None:
        LEAKED.append(self.connection)


class LeaksAlways(Tiny):
    """A mistake that needs no fault: close() closes nothing."""

    session = LeaksAlwaysSession


class FailsToCloseSession(TinySession):
    """Its close() raises after it has closed."""

    def close(self) -> None:
        super().close()
        raise ValueError("closed already")


class FailsToClose(Tiny):
    """A mistake that needs no fault: close() raises."""

    session = FailsToCloseSession


class GuessesSession(TinySession):
    """Takes a key that it can't read for one that isn't there."""

    def require(self, key: str) -> None:
        try:
            super().require(key)
        except sqlite3.Error as error:
            raise Refused(f"no such key: {key}") from error


class Guesses(Tiny):
    """error-is-not-hidden: it refuses under a fault what it would do without one."""

    session = GuessesSession


class Alternates(Tiny):
    """Wrong in every second run of a replay, right in the others."""

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        wrong = directory.parent.name.startswith("run-1")
        return (RemembersFirstSession if wrong else TinySession)(directory, configuration, environment)


class LargeValues(RemembersFirst):
    """Wrong, and with values that are too large for what a replay file shows of them."""

    calls = (Action("put", {"key": "a", "value": "x" * 400_000}),)


class Plain:
    """A target without `actions`: the machine has nothing to tell of it."""

    def __init__(self) -> None:
        tiny = Tiny()
        for part in dir(tiny):
            if not part.startswith("_") and part != "actions":
                setattr(self, part, getattr(tiny, part))


class Interrupts(Tiny):
    """Right, and somebody presses Ctrl-C in the middle of it."""

    name = "interrupts"
    opened = 0

    def open(self, directory: Path, configuration: Configuration, environment: Environment) -> TinySession:
        Interrupts.opened += 1
        if Interrupts.opened == 300:
            os.kill(os.getpid(), signal.SIGINT)
        return super().open(directory, configuration, environment)
