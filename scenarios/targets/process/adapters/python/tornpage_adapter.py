"""The tornpage protocol for a Python program of its own: copy this file next to your adapter.

Write a class with `call`, `view` and `close` that takes a `Where`::

    serve(description, Store)

The return value of `call` is its answer; an exception is a failure, and `Refused` a refusal. A store that chooses its
database file gives its path in an attribute `database`. Printed text goes to standard error.
"""

import json
import os
import sys
from dataclasses import dataclass
from typing import Any


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The store refuses the call for a reason of its own: nothing was tried."""


@dataclass(frozen=True)
class Where:
    """Where, how and when a store is to be opened."""

    directory: str
    journal_mode: str
    synchronous: str
    now_ms: int


class _Server:
    def __init__(self, description: dict[str, Any], make: Any) -> None:
        self.description = description
        self.make = make
        self.store: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Handle one request; raises what the store raises."""
        asked = request.pop("do")
        if asked == "describe":
            return {"protocol": 1, "pid": os.getpid(), "description": self.description}
        if asked == "open":
            self.store = self.make(Where(**request))
            database = getattr(self.store, "database", None)
            return {} if database is None else {"database": str(database)}
        if asked == "call":
            value = self.store.call(request["action"], request["args"], request["now_ms"])
            return {} if value is None else {"value": value}
        if asked == "view":
            return {"view": self.store.view()}
        self.store.close()
        return {}


def serve(description: dict[str, Any], make: Any) -> None:
    """Answer requests until there are no more; `make` opens a store at a `Where`."""
    server = _Server(description, make)
    said, sys.stdout = os.dup(1), sys.stderr
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = {"answer": "done", **server.answer(json.loads(line))}
        except Refused as refusal:
            answer = {"answer": "refused", "message": str(refusal)}
        except Exception as error:  # noqa: BLE001 - every error is reported to the caller
            answer = {"answer": "failed", "message": f"{type(error).__name__}: {error}"}
        rest = json.dumps(answer).encode() + b"\n"
        while rest:
            rest = rest[os.write(said, rest) :]
