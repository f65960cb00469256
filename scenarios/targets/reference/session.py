"""The session of the reference: an open ledger, and the other processes, threads and commands that act meanwhile."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tornpage.faults.sqlite_library import sqlite3
from tornpage.ledger import Ledger, LedgerError, StoreError
from tornpage.scenarios.model.judging.checks import Violation
from tornpage.scenarios.model.target import Action, Environment, Refused
from tornpage.scenarios.targets.reference.environment import PretendedWorkers, connect_as_another, run_command, visit
from tornpage.scenarios.targets.reference.own_session import OwnSession, agree

# The time limit of a call in another thread that waits for no other caller.
_PATIENCE_S: Final = 3.0


class ReferenceSession(OwnSession):
    """An open ledger, driven by actions; another process has a session of its own on the same files."""

    def __init__(self, *place: Any, elsewhere: bool = False) -> None:
        super().__init__(*place, elsewhere=elsewhere)
        self._receiver.another = self._acknowledge_elsewhere

    def _do_maintenance_while(self, meanwhile: dict[str, Any], look: int = 0) -> Any:
        """Maintenance; after it has looked, and before its first transaction, another process makes a call.

        With `look` the call comes before the look of that number.
        """
        with self._overtaken_at(look or 1, meanwhile, "BEGIN" if look else "BEGIN IMMEDIATE"):
            return self._do_maintenance()

    @contextlib.contextmanager
    def _overtaken_at(self, number: int, call: dict[str, Any], what: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """When the transaction, or look, of that number is about to begin, another process makes a call."""
        begun = 0

        def overtake(statement: str) -> None:
            nonlocal begun
            begun += statement == what
            if begun == number and not self.told.is_overtaken:
                self.told.is_overtaken = True
                self._call_elsewhere(call, later_ms=self._own.later_ms)

        connection = self.ledger.tasks.backend.database.connection  # type: ignore[attr-defined] # it is on SQLite
        connection.set_trace_callback(overtake)
        try:
            yield
        finally:
            connection.set_trace_callback(None)

    def _acknowledge_elsewhere(self, message_id: str) -> None:
        # It is as late there.
        self._elsewhere(later_ms=self._own.later_ms).ledger.outbox.ack(message_id)

    def _do_cancel_while(
        self, task_id: str, says: str, meanwhile: dict[str, Any] | None = None, *, thread: bool = False
    ) -> Any:
        """Cancel a task whose runtime, while it is asked, has another process make a call, and then says something.

        With `thread` another thread of this process makes it.
        """

        def asked() -> object:
            if meanwhile is not None and thread:
                self._call_in_a_thread(meanwhile)
            elif meanwhile is not None:
                self._call_elsewhere(meanwhile)
            if says == "raises":
                raise ConnectionError("nobody answers")
            return {"refuses": False, "agrees": True, "nothing": None}[says]

        self._asked = asked
        try:
            # Whatever the answer, the state may have changed: so it is not a refusal.
            return msgspec.structs.asdict(self.ledger.tasks.cancel(task_id))
        finally:
            self._asked = agree

    def _call_in_a_thread(self, call: dict[str, Any]) -> None:
        def make() -> None:
            # One that fails has not done its work; the rows show that. One that was released fails at the end.
            with contextlib.suppress(LedgerError):
                self._perform(call["name"], dict(call["args"]))

        # It is released if it never returns: the process must be able to end.
        other = threading.Thread(target=make, daemon=True)
        other.start()
        other.join(_PATIENCE_S)
        if other.is_alive():
            self._wrong = Violation(
                "as-specified", f"{call['name']} waits in another thread for a hook that waits for it"
            )

    def _do_command(
        self,
        argv: list[str],
        means: dict[str, Any],
        *,
        terminal: bool = False,
        program: dict[str, Any] | None = None,
        refused: str | None = None,
    ) -> Any:
        """Run a command, which makes the call that it `means` in another process.

        The behaviour of a deliver `program`, and whether an option alone is `refused`, is for the model.
        """
        del program, refused
        is_import = means["name"] == "outbox.import_legacy"
        if is_import and self._legacy.known is not None:
            self.told.circumstances |= {"files": self._legacy.contents(), "imported": self._legacy.known}
        self._replace_meanwhile(means["args"].get("changes"))
        self._note_as_written()
        argv = [one.replace("{legacy}", str(self._legacy.directory)) for one in argv]
        workers = PretendedWorkers(self._database)
        workers.booting = self._workers.booting = argv[-1] == "recover" or "recover" in argv[:1]
        try:
            with (
                self._legacy.importing() if is_import else contextlib.nullcontext(),
                Ledger.open(
                    self._place[0],
                    clock=self._clock,
                    new_id=lambda: "unnamed",
                    connect=connect_as_another,
                    workers=workers,
                ) as ledger,
            ):
                return run_command(argv, ledger, self._place[0], self._clock, terminal=terminal)
        finally:
            self._workers.booting = False

    def _do_elsewhere(self, call: dict[str, Any]) -> None:
        other = self._elsewhere()
        try:
            other.call(Action(call["name"], call["args"]))
        finally:
            self.told = other.told

    def _do_overtaken(self, first: dict[str, Any], then: dict[str, Any], at: int = 0) -> Any:
        """Another process makes a call, and this one makes its own before it has read the change.

        With `at` the other call comes when this one's transaction of that number is about to begin. For scripts only:
        if this one's call is refused, or fails, the other's is done all the same.
        """
        if at:
            with self._overtaken_at(at, first):
                return self._perform(then["name"], dict(then["args"]))
        self._call_elsewhere(first)
        return self._perform(then["name"], dict(then["args"]))

    def _do_meanwhile(self, first: dict[str, Any], then: dict[str, Any]) -> None:
        """Another process makes a call; this one reads the change, and the next change comes between two reads."""
        self._do_elsewhere(first)
        due = [lambda: self._do_elsewhere(then)]
        begun: list[str] = []
        raised: list[Exception] = []

        def overtake(statement: str) -> None:
            begun.extend([statement] if statement.startswith("BEGIN") else [])
            if len(begun) > 1 and due:
                try:
                    due.pop()()
                except Exception as error:  # noqa: BLE001 - SQLite would drop it
                    raised.append(error)

        # The others' calls are done, whether or not this process can read.
        with contextlib.suppress(StoreError, sqlite3.ProgrammingError):
            connection = self.ledger.tasks.backend.database.connection  # type: ignore[attr-defined] # it is on SQLite
            connection.set_trace_callback(overtake)
            try:
                self.ledger.tasks.list()
            finally:
                connection.set_trace_callback(None)
        while due:
            due.pop()()
        if raised:
            raise raised[0]

    def _do_visit(self) -> None:
        """Let a real process open the database, read and exit."""
        visit(self._database)

    def _call_elsewhere(self, call: dict[str, Any], later_ms: int = 0) -> None:
        """Another process makes a call, which may be refused; the model has to know of the files that it met."""
        other = self._elsewhere(later_ms)
        with contextlib.suppress(Refused):
            other.call(Action(call["name"], call["args"]))
        met = other.told.circumstances
        self.told.circumstances |= {name: met[name] for name in ("files", "imported") if name in met}

    def _elsewhere(self, later_ms: int = 0) -> OwnSession:
        if self._other is None:
            environment = Environment(connect_as_another)
            environment.now_ms = self._environment.now_ms
            self._other = ReferenceSession(*self._place, environment, self._parts, elsewhere=True)
        self._other._environment.now_ms = self._environment.now_ms + later_ms
        return self._other
