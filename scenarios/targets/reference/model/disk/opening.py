"""Openings (§1): what is refused and left as it is, who may read what, and what the levels promise."""

from typing import Final

from tornpage.scenarios.targets.reference.model.state import Outcome, State
from tornpage.scenarios.targets.reference.model.world import World

_JOURNAL_MODES: Final = ("wal", "delete", "truncate", "persist")
_LEVELS: Final = ("off", "normal", "full", "extra")
# §1: a clear error where the file is no database, corrupt, newer, read-only, a symbolic link or another's.
_REFUSED: Final = {
    "text": "StoreCorrupt", "short": "StoreCorrupt", "damaged": "StoreCorrupt",
    "index differs": "StoreCorrupt", "newer": "StoreSchemaNewer",
    "link": "StoreUnavailable", "log is a link": "StoreUnavailable", "no file": "StoreUnavailable",
    "file": "StoreUnavailable", "shared": "StoreUnavailable", "read-only": "StoreReadOnly",
    **dict.fromkeys(("newer in its log", "newer late in its log", "newer with junk after it"), "StoreSchemaNewer"),
}  # fmt: skip
# What a log says counts where it is whole, of the present, and committed.
_KEPT: Final = frozenset({
    "ledger", "wide", "other mode", "log", "newer for a while", "newer in a torn frame", "newer in an old frame",
    "newer in a wrong frame", "newer in a log that is none", "newer in a wrong log", "short log",
})  # fmt: skip


def opening(
    _world: World,
    state: State,
    *,
    before: str,
    under: str = "",
    reader: bool = False,
    journal_mode: str | None = None,
    synchronous: str | None = None,
    busy_timeout_ms: int = 5_000,
    state_dir: str | None = None,
) -> Outcome:
    """§1, storage: WAL, FULL and 5000 ms by default, DELETE at EXTRA; 0700 and 0600, whatever was there."""
    is_wrong = (journal_mode or "wal") not in _JOURNAL_MODES or (synchronous or "full") not in _LEVELS
    if is_wrong or state_dir == "":
        return Outcome(state, {"error": "UsageError", "left": True})
    in_memory = state_dir == ":memory:"
    if before in _REFUSED and not in_memory:
        return Outcome(state, {"error": _REFUSED[before], "left": True})
    # A file says whether it has a log, and not which kind of journal it has else.
    known = "delete" if before == "other mode" and not under else "wal"
    mode = "memory" if in_memory else journal_mode or known
    level = synchronous or ("extra" if mode == "delete" else "full")
    is_there = before in _KEPT and not under and not in_memory
    return Outcome(state, {
        "pragmas": {
            "journal_mode": mode, "synchronous": _LEVELS.index(level), "foreign_keys": 1,
            "busy_timeout": busy_timeout_ms, "wal_autocheckpoint": 1_000,
        },
        "durability": _durability(mode, level),
        "tasks": 1 + is_there,
        "directory": None if in_memory and before == "nothing" else "700",
        "files": [] if in_memory else ["600"],
        # §1: a PASSIVE checkpoint in maintenance, and a TRUNCATE one on close; what somebody reads stays in the log.
        "checkpointed": not reader,
        # §4: ``<state dir>/workers/<id>.lock``.
        "worker": [True, [] if in_memory else ["700", "600"], False, ["one"]],
        **({} if reader else {"in the file alone": None if in_memory else 1 + is_there}),
        "closed": "StoreUnavailable",
        "log": reader,
    })  # fmt: skip


def _durability(mode: str, level: str) -> str:
    """§0, 3: a power cut takes the newest changes at DELETE with FULL, and at WAL with NORMAL."""
    if mode == "memory":
        return "none"
    rank = _LEVELS.index(level)
    if rank >= _LEVELS.index("extra" if mode == "delete" else "full"):
        return "power_cut"
    loses = _LEVELS.index("full") if mode != "wal" else _LEVELS.index("normal")
    return "loses_newest" if rank >= loses else "may_corrupt"
