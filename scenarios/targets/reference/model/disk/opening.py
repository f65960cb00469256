"""Openings (§1): what is refused and left unchanged, who may read which file, and the guarantees of each level."""

from collections.abc import Sequence
from typing import Any, Final

from tornpage.scenarios.targets.reference.model.state import Outcome, State
from tornpage.scenarios.targets.reference.model.values import Anything
from tornpage.scenarios.targets.reference.model.world import World

_JOURNAL_MODES: Final = ("wal", "delete", "truncate", "persist")
_LEVELS: Final = ("off", "normal", "full", "extra")
# SQLite takes a longer timeout for none.
_TOO_LONG_MS: Final = 2**31
# §1: a clear error if the file is not a database, corrupt, newer, read-only, a symbolic link or another user's.
_REFUSED: Final = {
    "of another": "StoreUnavailable", "text": "StoreCorrupt", "short": "StoreCorrupt", "damaged": "StoreCorrupt",
    "index differs": "StoreCorrupt", "newer": "StoreSchemaNewer",
    "link": "StoreUnavailable", "log is a link": "StoreUnavailable", "no file": "StoreUnavailable",
    "file": "StoreUnavailable", "shared": "StoreUnavailable", "read-only": "StoreReadOnly",
    "read-only directory": "StoreReadOnly",
    **dict.fromkeys(("wal is read-only", "shm is read-only", "journal is read-only"), "StoreReadOnly"),
    "newer before a hot journal": "StoreSchemaNewer",
    **dict.fromkeys(("index is a pipe", "index is a directory", "log is a directory", "journal is a directory"),
                    "StoreUnavailable"),
    **dict.fromkeys(
        ("newer in its log", "newer late in its log", "newer with junk after it", "newer in a log of another machine",
         "newer in a log of small pages", "newer in a log of large pages"),
        "StoreSchemaNewer",
    ),
}  # fmt: skip
# An opening for reading only doesn't compare indexes with their tables.
_REFUSED_TO_A_LOOK: Final = frozenset(_REFUSED) - {"index differs"}
# An older version, and another program, may have left a file with a rollback journal, which it keeps.
_WITHOUT_LOG: Final = frozenset({"other mode", "version 1", "version 2", "hot journal"})
_TASKS_OF_AN_OLDER_VERSION: Final = 3
# SQLite rolls back before it can be asked for the version.
_ROLLED_BACK: Final = "newer before a hot journal"
# What a log says counts where it is whole, of the present, and committed.
_KEPT: Final = frozenset({
    "ledger", "wide", "sticky", "of a group", "hot journal", "other mode", "version 1", "version 2", "log",
    "log of another machine",
    "newer for a while", "newer in a torn frame", "newer without its commit", "newer in an old frame",
    "newer in a wrong frame", "newer in a log that is none", "newer in a wrong log", "short log",
    "newer in a log with a torn head",
})  # fmt: skip


# The platform's directory for the user's states.
_OF_THE_USER: Final = "user"


def opening(
    _world: World,
    state: State,
    *,
    before: str,
    under: str = "",
    named: str = "",
    reader: bool = False,
    idle: bool = False,
    journal_mode: str | None = None,
    synchronous: str | None = None,
    busy_timeout_ms: Any = 5_000,
    state_dir: str | None = None,
) -> Outcome:
    """§1, storage: WAL, FULL and 5000 ms by default, DELETE at EXTRA; 0700 and 0600, whatever was there."""
    # What only has the file open keeps no page in the log; and a directory may have any name.
    del idle, named
    is_wrong = (journal_mode or "wal") not in _JOURNAL_MODES or (synchronous or "full") not in _LEVELS
    if is_wrong or state_dir == "" or type(busy_timeout_ms) is not int or not 0 <= busy_timeout_ms < _TOO_LONG_MS:
        return Outcome(state, {"error": "UsageError", "left": True})
    in_memory = state_dir == ":memory:"
    # A journal that has ended changes nothing.
    before = before.partition(",")[0]
    if before in _REFUSED and not in_memory:
        return Outcome(state, {"error": _REFUSED[before], "left": Anything() if before == _ROLLED_BACK else True})
    # A file says whether it has a log, and not which kind of journal it has else.
    known = "delete" if before in _WITHOUT_LOG and not under else "wal"
    mode = "memory" if in_memory else journal_mode or known
    level = synchronous or ("extra" if mode == "delete" else "full")
    is_there = before in _KEPT and not under and not in_memory
    kept = is_there * (_TASKS_OF_AN_OLDER_VERSION if before.startswith("version ") else 1)
    return Outcome(state, {
        "pragmas": {
            "journal_mode": mode, "synchronous": _LEVELS.index(level), "foreign_keys": 1,
            "busy_timeout": busy_timeout_ms, "wal_autocheckpoint": 1_000, "ignore_check_constraints": 0,
        },
        "a run": "running",
        "a message": "queued",
        "durability": _durability(mode, level),
        "tasks": 1 + kept,
        # §2, record: task_id is UUID text.
        "ids": [True, True],
        # §1, migrations: what an older version has written is as it was.
        "lost rows": [],
        # §0, 3: acknowledged means durable.
        "new directories last": True,
        # Times are those of the system's clock, unless another one is given.
        "in time": True,
        "directory": None if in_memory and before == "nothing" else "700",
        "files": [] if in_memory else ["600"],
        # §1: a PASSIVE checkpoint in maintenance, and a TRUNCATE one on close; pages that a reader uses stay in the
        # log.
        "checkpointed": not reader,
        "waits to checkpoint": False,
        # §4: ``<state dir>/workers/<id>.lock``.
        "worker": [True, [] if in_memory else ["700", "600"], False, ["one", "runner"]],
        **({} if reader else {"in the file alone": None if in_memory else 1 + kept}),
        "closed": "StoreUnavailable",
        "log": reader,
    })  # fmt: skip


def too_old(_world: World, state: State, *, before: str, needs: Sequence[int]) -> Outcome:
    """§1: a clear error where SQLite is too old, with the version found and the one needed; nothing is changed."""
    del before, needs
    return Outcome(state, {"errors": [["StoreTooOld", True]] * 2, "left": True})


def typed(
    _world: World,
    state: State,
    *,
    argv: Sequence[str] | None,
    before: str = "nothing",
    variable: str | None = None,
) -> Outcome:
    """§1 and §3: the directory is the argument, else TORNPAGE_STATE_DIR; 2 if the store can't be used.

    A read-only command creates and changes nothing.
    """
    options, words = _options([] if argv is None else argv)
    # Not in the specification: an empty variable is none.
    where = (options.get("--state-dir") or variable or _OF_THE_USER).removeprefix("{home}/")
    is_look = list(words[:2]) == ["tasks", "audit"] or list(words) == ["tasks", "maintenance"]
    is_there = before not in ("nothing", "directory", "file")
    is_refused = where == "state" and before.partition(",")[0] in (_REFUSED_TO_A_LOOK if is_look else _REFUSED)
    waits_ms = int(options.get("--busy-timeout-ms", 5_000))
    is_wrong = options.get("--state-dir") in ("", ":memory:") or waits_ms >= _TOO_LONG_MS
    known: Any = "rollback" if before in _WITHOUT_LOG else Anything() if before.partition(",")[0] in _REFUSED else "wal"
    if before == "empty" and is_look:
        known = None
    modes = {"state": known} if is_there else {}
    there = {"state"} if before != "nothing" else set()
    opens = not (is_refused or is_wrong)
    makes = opens and not is_look
    if makes:
        wanted = options.get("--journal-mode")
        kept = modes.get(where, "wal")
        modes[where] = kept if wanted is None else "wal" if wanted == "wal" else "rollback"
        there.add(where)
    return Outcome(state, {
        "exit": 0 if opens else 2,
        "left": Anything() if where == "state" and (makes or "hot journal" in before) else True,
        # If the file is refused before it is opened, or by a read of it, no connection was made.
        "waits_ms": [waits_ms] if makes else Anything(),
        "there": sorted(there),
        "ledgers": modes,
    })  # fmt: skip


def _options(argv: Sequence[str]) -> tuple[dict[str, str], Sequence[str]]:
    """The options before a command, and the command."""
    found: dict[str, str] = {}
    while argv and argv[0].startswith("--"):
        found[argv[0]], argv = argv[1], argv[2:]
    return found, argv


def _durability(mode: str, level: str) -> str:
    """§0, 3: a power cut loses the newest changes at DELETE with FULL, and at WAL with NORMAL."""
    if mode == "memory":
        return "none"
    rank = _LEVELS.index(level)
    if rank >= _LEVELS.index("extra" if mode == "delete" else "full"):
        return "power_cut"
    loses = _LEVELS.index("full") if mode != "wal" else _LEVELS.index("normal")
    return "loses_newest" if rank >= loses else "may_corrupt"


def unwritten(_world: World, state: State, *, argv: Sequence[str], stream: str = "stdout") -> Outcome:
    """§3: 2 if the answer can't be written, and the error says that it is the answer; what was done stays done."""
    is_answer = stream == "stdout"
    return Outcome(state, {"exit": 2, "about the answer": is_answer, "tasks": int(argv[1] == "create")})


def pruned(_world: World, state: State, *, many: int) -> Outcome:
    """§5, prune: all of them, however many steps that takes; the one message that ended just now stays."""
    return Outcome(state, [{"pruned": many}, 1])


def switch(_world: World, state: State, *, locked: int, busy_timeout_ms: int) -> Outcome:
    """§1: `busy_timeout` holds for the switch of the journal mode, too; then a clear error where it is locked.

    How often it is tried until then is not in the specification: here hardly ever, or far too often.
    """
    is_in_time = not locked or (busy_timeout_ms > 0 and locked < _FAR_TOO_OFTEN)
    return Outcome(state, "wal" if is_in_time else "StoreBusy True")


_FAR_TOO_OFTEN: Final = 1_000


def at_the_driver(_world: World, state: State, **_how: Any) -> Outcome:
    """§0, 2: every error says which it is; §1: by choice; §5: durably committed. The answer is what was wrong."""
    return Outcome(state, [])
