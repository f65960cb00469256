"""The single calls in an action of the reference, who makes them, and when."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tornpage.scenarios.model.target import Action, View

_SECOND: Final = 2


class Made(msgspec.Struct, frozen=True):
    """One call: its name and arguments, the time on the ledger's clock, and whether another process makes it."""

    name: str
    args: Mapping[str, Any]
    now_ms: int
    elsewhere: bool = False

    def is_on(self, name: str, key: str, value: str) -> bool:
        """Whether it is this call on this one row."""
        return self.name == name and self.args.get(key) == value

    @property
    def is_boot(self) -> bool:
        """Whether it looks for work in flight while no worker is alive."""
        return self.name == "recover" and not self.elsewhere

    @property
    def may_find_lost(self) -> bool:
        """Whether it may make a task lost: because no worker is alive, or a caller says that it is lost."""
        if self.name in ("recover", "maintenance"):
            return not self.elsewhere
        if self.name == "older_row":
            return True
        return self.args.get("status") in ("lost", "interrupted")


def made_by(action: Action, now_ms: int) -> tuple[Made, ...]:
    """The single calls of an action, in order."""
    return tuple(_flat(action.name, action.args, now_ms, elsewhere=False))


def _flat(name: str, args: Mapping[str, Any], now_ms: int, *, elsewhere: bool) -> list[Made]:
    inner = []
    if name == "batch":
        inner = [(one, elsewhere) for one in args["calls"]]
    elif name == "elsewhere":
        inner = [(args["call"], True)]
    elif name == "command":
        inner = [] if args.get("refused") else [(args["means"], elsewhere)]
    elif name == "cancel_while":
        mine = {"name": "tasks.cancel", "args": {"task_id": args["task_id"]}}
        inner = [*([(args["meanwhile"], True)] if args.get("meanwhile") else []), (mine, elsewhere)]
    elif name == "overtaken":
        # A call is one transaction: no other process can come before a second one.
        inner = [(args["first"], True)] if args.get("at", 0) < _SECOND else []
        inner.append((args["then"], elsewhere))
    elif name == "maintenance_while":
        now_ms += args.get("later_ms", 0)
        mine = {"name": "maintenance", "args": {}}
        inner = [(args["meanwhile"], True), (mine, elsewhere)]
    elif name == "meanwhile":
        inner = [(args["first"], True), (args["then"], True)]
    else:
        return [Made(name, args, now_ms + args.get("later_ms", 0), elsewhere)]
    return [call for one, there in inner for call in _flat(one["name"], one["args"], now_ms, elsewhere=there)]


def rows_of(view: View, kind: str) -> dict[str, Any]:
    """The rows of one kind, by their id."""
    prefix = kind + "/"
    return {key.removeprefix(prefix): row for key, row in view.items() if key.startswith(prefix)}
