"""A tiny store whose error paths are known: each handler is there for one reason, and one is there for none."""

import sqlite3

from tiny_stores import Tiny, TinySession

from tornpage.scenarios.model.target import Configuration


class HandledSession(TinySession):
    """Handles more than it has to."""

    def transact(self, *statements):
        try:
            super().transact(*statements)
        except sqlite3.OperationalError:
            self.note("failed")
            raise
        except ZeroDivisionError:
            self.note("never")
            raise
        finally:
            self.note("ended")

    def roll_back(self):
        try:
            len("")
        except ValueError:  # no fault: it reads nothing
            self.note("excused")
        try:
            self.half_way()
        except KeyError:
            if self.connection.total_changes < 0:
                self.connection.rollback()
        super().roll_back()

    def half_way(self):
        raise KeyError("always, but only after a fault")

    def note(self, what):
        self.noted = what


class Handled(Tiny):
    """The target."""

    session = HandledSession
    configurations = (Configuration("wal", "FULL"),)
    calls = Tiny.calls[:1]
