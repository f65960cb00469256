"""The named checks, and the violation that one of them raises.

A check's code is stable: reports, replay files and baselines refer to it. ``tornpage explain CODE`` prints this table.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

import msgspec

from tornpage.scenarios.model.judging.absent import ABSENT


class Check(msgspec.Struct, frozen=True):
    """A named check: its stable code, its meaning in one line, the public source of the bug, and advice."""

    code: str
    meaning: str
    source: str
    advice: str
    scope: "Scope" = "every"

    @property
    def applies_to(self) -> str:
        """The targets that the check applies to, in words."""
        return SCOPES[self.scope]


Scope = Literal["every", "wal", "rollback", "contend", "interleave", "failed-sync", "latent", "own"]
SCOPES: Final[Mapping[Scope, str]] = {
    "every": "every target",
    "wal": "every target in WAL mode; checked without a fault and without a reading rival (sweep, syscalls)",
    "rollback": "every target with a rollback journal that serves several callers; checked without a fault (sweep, "
    "syscalls)",
    "contend": "every target whose file a rival can lock (contend, fuzz)",
    "interleave": "every target that two callers may use (interleave)",
    "failed-sync": "targets that declare `survives_failed_sync` (crash)",
    "latent": "every target, on request (crash --latent)",
    "own": "targets with rules of their own (`self_check`, `check_view`, `check_change`, `check_session`); of those "
    "that ship, the reference",
}


# The directories of a file below `run.scratch`.
_IN_SCRATCH: Final = re.compile(r"[^\s'\"`(\[]*/tornpage-[a-z0-9_]{8}/(?:[^\s'\"`/]+/)*")


def without_scratch(text: str) -> str:
    """The text with the names of files below `run.scratch` alone: each run has another directory."""
    return _IN_SCRATCH.sub("…/", text)


_ISSUE_88007 = "openclaw issue 88007: the in-memory map was changed before the SQLite write, and the write threw"

_TABLE: Final = (
    Check(
        "memory-equals-disk",
        "the process and a fresh reader of the file return the same state",
        f"{_ISSUE_88007}; two readers of one process contradicted each other.",
        "Write first, change memory after the commit; after a COMMIT that raised, read the rows again.",
    ),
    Check(
        "failed-write-changed-nothing",
        "a call that reported failure and an unchanged state leaves no trace, now or after a crash",
        "SQLite in WAL mode: the frames of a COMMIT that raised stay in the file until the next writing commit; "
        "a crash before that brings the refused change back.",
        "After a COMMIT that raised, commit something small before you report the failure to the caller.",
    ),
    Check(
        "no-resurrection",
        "a row whose deletion was acknowledged stays deleted after a restart",
        f"{_ISSUE_88007}; deleted tasks came back on reload.",
        "Delete the row first, then the memory; never save the live map as a snapshot.",
    ),
    Check(
        "acknowledged-is-durable",
        "an acknowledged change is there, at once and after a restart",
        "A cache that answers from memory while its write was lost looks right until the process ends.",
        "Return only after COMMIT has returned; don't swallow its error.",
    ),
    Check(
        "all-or-nothing",
        "after a failed call the state is the one before the call or the one after it, nothing between",
        "openclaw 88008 review: after the one-transaction delete the delivery state was deleted again on its own.",
        "Put everything that one call changes into one transaction.",
    ),
    Check(
        "still-usable-after-the-fault",
        "once the fault is gone, the next call works: no stuck transaction, no lost connection, no leaked handle",
        "A blind ROLLBACK after SQLite has rolled back by itself raises, hides the cause and may leave a lock held.",
        "Check connection.in_transaction before ROLLBACK; roll back when COMMIT returns BUSY.",
    ),
    Check(
        "waits-for-a-short-lock",
        "a lock that another user of the database holds for 50 ms delays a call and does not fail it",
        "openclaw 29998 review: without a busy timeout a lock held for 50 ms failed the write at once.",
        "Set a busy timeout on every connection, and begin writing transactions with BEGIN IMMEDIATE: SQLite does not "
        "wait where a read transaction starts to write.",
        scope="contend",
    ),
    Check(
        "integrity",
        "the files can be read, and SQLite's checks of pages, foreign keys and full-text indexes find nothing",
        "How to corrupt an SQLite database file: https://sqlite.org/howtocorrupt.html",
        "Look for journal files that were deleted or separated from their database, and for synchronous=OFF; run "
        "PRAGMA foreign_keys = ON on each connection; keep an external content table's index by triggers. Write a "
        "plain file beside the old one, sync it, and rename it.",
    ),
    Check(
        "observers-saw-exactly-the-commits",
        "observers were notified of each committed change once, in order, and of nothing else",
        "openclaw PR 56927, review: 'restored' was not announced on an empty ledger.",
        "Notify observers after the commit, from the committed rows.",
        scope="own",
    ),
    Check(
        "indexes-derived",
        "every in-memory index equals one rebuilt from the rows",
        "openclaw 104990: the owner index was stale after a restore that read two transactions.",
        "Change map and indexes in one place, after the commit.",
        scope="own",
    ),
    Check(
        "terminal-is-final",
        "a terminal state never becomes another one",
        "openclaw 95618: a late success overwrote cancelled and timed_out tasks.",
        "Read the row again inside the transaction that changes it.",
        scope="own",
    ),
    Check(
        "in-flight-flagged-once",
        "restart finds each run that was in flight, and flags it once",
        "claude-hooks issue 1107; openclaw 65136, 75307, 78463: running rows of a dead process were never reconciled.",
        "Write the row when the run starts; recover in one transaction at boot.",
        scope="own",
    ),
    Check(
        "no-lost-message",
        "an accepted message ends as delivered, as failed with a reason, or as expired",
        "openclaw 27638, 27710, 98354: one row that was not due, or one bad payload, stopped all recovery.",
        "Handle each row separately; skip what is not due.",
        scope="own",
    ),
    Check(
        "no-duplicate-after-ack",
        "a message that was acknowledged as delivered is not sent again",
        "openclaw 29106, 50496: a crash between delivery and ack replayed the message at each restart.",
        "Send the idempotency key with the message; treat terminal rows as final.",
        scope="own",
    ),
    Check(
        "state-makes-sense",
        "a state is consistent: its times are in order, and each finished record has an end time and a reason",
        "openclaw 69229, 70887, 72035: a creation time was read from the clock after the start; 57439: lost tasks got "
        "no date to be pruned.",
        "Read the clock once for each change; write all columns of a transition in the same statement.",
        scope="own",
    ),
    Check(
        "only-what-is-over-goes",
        "a call removes what it was asked to remove, or finished records that are old enough, and nothing else",
        "openclaw 29998 review: prune(0) deleted every message that had ended.",
        "Refuse an invalid age before you read anything; delete by the row's end time, inside the transaction.",
        scope="own",
    ),
    Check(
        "report-is-true",
        "a report matches the rows: each problem once, and totals that count everything",
        "openclaw 57361 review: the audit listed a lost task twice, and its summary counted only what a filter let "
        "through.",
        "Count before filtering; let one rule report each state.",
        scope="own",
    ),
    Check(
        "as-specified",
        "the state, the answer, the refusal and its error, the order of lists, the notifications to observers and the "
        "log match the specification, which an executable model implements independently",
        "the shadow is the same code and has the same defect; executable reference models beside the code: "
        "Bornholt et al., SOSP 2021 (ShardStore).",
        "Compare the call with the section that the model cites; where the specification leaves a case open, decide "
        "it, and write the decision into docs/ledger.md.",
        scope="own",
    ),
    Check(
        "snapshot-is-a-copy",
        "later changes by the caller to an object that it passed to the store do not change the store",
        "openclaw 56927 review: the store kept a reference to the caller's live map.",
        "Pass a copy of the containers; the records in them may be shared, as long as they are frozen.",
        scope="own",
    ),
    Check(
        "files-are-private",
        "the files that a store creates give no more access than the user's umask allows, and side files no more than "
        "their database",
        "openclaw 57361 review: the state directory and the database were left to the umask. (The reference promises "
        "more: that they are private whatever the umask.)",
        "Leave the mode to the umask, or make the directory 0700 and the database 0600 before SQLite opens it; its "
        "side files follow the database. No chmod that widens access, and no call to umask.",
    ),
    Check(
        "log-stays-small",
        "the write-ahead log stays below its bound, however long the process runs",
        "openclaw 72774, 112950: the log grew until the disk was full.",
        "Leave the automatic checkpoint on, end every read, and truncate the log on close.",
        scope="wal",
    ),
    Check(
        "checkpoints-change-nothing",
        "what a call does to the store's files, such as a copy or a restore, does not depend on whether the log has "
        "been written back",
        "bindery 2337, LeanDB 60, codebase-memory-mcp 897: a copy of the database file without its log had not the "
        "newest changes, and a log that was left beside a restored file brought the old rows back.",
        "Copy with the backup API or VACUUM INTO, not the file; restore by the backup API into the open database, or "
        "close every connection first and remove the log with the old file.",
        scope="wal",
    ),
    Check(
        "lets-others-write",
        "between its calls a store with a rollback journal keeps no other writer of the database out",
        "SQLite, 'File Locking And Concurrency': a reader holds its SHARED lock until its statement ends, and a commit "
        "needs that no other connection holds one (https://sqlite.org/lockingv3.html).",
        "Read each cursor to its end (fetchall), or close it; end each transaction in the call that began it.",
        scope="rollback",
    ),
    Check(
        "wrong-answer",
        "an acknowledged call returns the same answer as without the fault",
        "A read that swallows an I/O error and returns 'nothing' misleads its caller: existing data is created a "
        "second time, or given up.",
        "Let an error of SQLite reach the caller, or try again until the read succeeds.",
    ),
    Check(
        "not-serializable",
        "the answers of two callers and the file match one of the two serial orders of their calls",
        "linkid 397, codeigniter4/queue 86: two workers claimed one job, each by a SELECT and then an UPDATE.",
        "Read and write in one statement (UPDATE … RETURNING), or begin with BEGIN IMMEDIATE before the read; where "
        "the store supports one caller only, declare callers = ().",
        scope="interleave",
    ),
    Check(
        "handed-out-twice",
        "a result that only one caller may have goes to exactly one of them",
        "reinhardt-web 5889, tg_content_factory 450: a job that one worker ran was taken by another.",
        "Claim with one UPDATE … RETURNING, or inside BEGIN IMMEDIATE; return what that statement has changed.",
        scope="interleave",
    ),
    Check(
        "stale-view",
        "a session that reads again sees what another caller has committed",
        "perch-hoplite 156: a cache kept returning data from before another process's commit.",
        "Read PRAGMA data_version before answering from memory, and read the rows again inside the same transaction.",
        scope="interleave",
    ),
    Check(
        "deadlock",
        "two callers don't wait for each other, and neither waits forever",
        "qdrant-loader 363: one thread held the connection's lock and waited for the database, the other the reverse.",
        "Take locks in one order: the program's own before the database's; begin with BEGIN IMMEDIATE.",
        scope="interleave",
    ),
    Check(
        "opens-together",
        "a process that opens the store while another one does, or is in a call, can use it",
        "hermes-agent 21628, code_puppy 490, sirepo 2579: each of two processes found a column or a table missing, and "
        "the second one to make it did not start.",
        "Look for what is missing and make it in one transaction that begins with BEGIN IMMEDIATE, or make it in one "
        "statement (CREATE TABLE IF NOT EXISTS, INSERT OR IGNORE, mkdir(exist_ok=True)); where one process does this "
        "before all others start, name the check in unpromised.",
        scope="interleave",
    ),
    Check(
        "error-is-not-hidden",
        "under a fault the caller gets the error that SQLite raised, or one that has it as its cause or names it",
        "Code that always sends ROLLBACK after a failure masks the real error with 'cannot rollback - no "
        "transaction is active'.",
        "Check connection.in_transaction before ROLLBACK; raise from the original error.",
    ),
    Check(
        "survives-a-failed-sync",
        "a change acknowledged after a failed sync survives a power cut, though the system has dropped what "
        "that sync was to write",
        "PostgreSQL, 2018 ('fsyncgate'): Linux marks pages clean whose write has failed, so that the next fsync "
        "returns OK; Rebello and others, 'Can Applications Recover from fsync Failures?' (2020).",
        "After a failed sync treat nothing in the cache as written: write it again to new pages, or stop and start "
        "again from what is on the disk.",
        scope="failed-sync",
    ),
    Check(
        "damage-is-not-hidden",
        "a store on damaged files fails, or returns what a plain reader sees; it never reports success over the "
        "damage, and never changes what it could not read",
        "Bairavasundaram and others, 'An Analysis of Data Corruption in the Storage Stack' (2008): latent errors, bit "
        "corruption and lost writes occur on disks in use; a store that treats SQLITE_CORRUPT or SQLITE_IOERR as an "
        "empty database loses what is still there.",
        "Let SQLite's error reach the caller; never delete or recreate what could not be read.",
        scope="latent",
    ),
)

CHECKS: Final[Mapping[str, Check]] = {check.code: check for check in _TABLE}


def applied_to(
    searches: Collection[str],
    journal_modes: Collection[str],
    *,
    keeps_sqlite: bool,
    has_own_rules: bool,
    survives_failed_sync: bool = False,
    latent: bool = False,
) -> tuple[str, ...]:
    """The codes of the checks that a run with these searches applies to a target."""
    scopes: dict[Scope, bool] = {
        "every": True,
        "wal": "wal" in journal_modes and not {"sweep", "syscalls"}.isdisjoint(searches),
        "rollback": bool({*journal_modes} - {"wal", "file"}) and not {"sweep", "syscalls"}.isdisjoint(searches),
        "contend": keeps_sqlite and not {"contend", "fuzz"}.isdisjoint(searches),
        "interleave": "interleave" in searches,
        "failed-sync": survives_failed_sync and "crash" in searches,
        "latent": latent and "crash" in searches,
        "own": has_own_rules,
    }
    return tuple(check.code for check in _TABLE if scopes[check.scope])


# Of a value in a message, in characters.
_LONGEST: Final = 60


class Difference(msgspec.Struct, frozen=True):
    """One key at which two views disagree; a side without it is `ABSENT`."""

    key: str
    left: Any
    right: Any


class Violation(AssertionError):  # noqa: N818 - the field's word for it
    """A check failed. `code` is one of `CHECKS`; `sides` are the views that differ, by name (memory, disk …).

    `message` names files below the scratch directory by their own name: the directory has another name in each run.
    `answer` is the outcome that the caller got, "done", "refused" or "raised"; "" where it doesn't matter.
    """

    def __init__(
        self, code: str, message: str, sides: Mapping[str, Mapping[str, Any]] | None = None, answer: str = ""
    ) -> None:
        if code not in CHECKS:
            raise ValueError(f"unknown check {code!r}; known: {', '.join(CHECKS)}")
        self.code = code
        self.message = without_scratch(message)
        self.sides = dict(sides or {})
        self.answer = answer
        super().__init__(f"{code}: {self.message}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.sides, self.answer)

    def with_message(self, message: str) -> "Violation":
        """The same violation with another message, without its causes."""
        return Violation(self.code, message, self.sides, self.answer)


class OpeningFails(Violation):
    """The store can't be opened on the files of a crash: no search can go on from them."""


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """The keys at which two views disagree, sorted; they are text, but for what a store makes of odd arguments."""
    return [
        Difference(key, left.get(key, ABSENT), right.get(key, ABSENT))
        for key in sorted(left.keys() | right.keys(), key=str)
        if left.get(key, ABSENT) != right.get(key, ABSENT)
    ]


def describe(found: list[Difference], left: str, right: str) -> str:
    """The first difference in words, and the number of further ones."""
    if not found:
        return "no difference"
    first, *others = found
    detail = _where_they_differ(first, left, right)
    return f"{_told_apart(first.key)}: {detail}" + (f" (and {len(others)} more)" if others else "")


def _told_apart(key: Any) -> Any:
    """A key; one in another normal form of Unicode, which looks the same, with its characters spelled out."""
    return key if not isinstance(key, str) or unicodedata.is_normalized("NFC", key) else ascii(key)


def _where_they_differ(difference: Difference, left: str, right: str) -> str:
    ours, theirs = difference.left, difference.right
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        one, other = _in_words(ours), _in_words(theirs)
        # Of long texts show where they differ.
        pairs = enumerate(zip(one, other, strict=False))
        same = next((index for index, (ours, theirs) in pairs if ours != theirs), min(len(one), len(other)))
        start = 0 if same < _LONGEST // 2 else same - _LONGEST // 4
        return f"{left} has {_cut(one, start)}, {right} has {_cut(other, start)}"
    fields = [name for name in ours.keys() | theirs.keys() if ours.get(name, ABSENT) != theirs.get(name, ABSENT)]
    return ", ".join(
        f"{name} is {ours.get(name, ABSENT)!r} in {left} and {theirs.get(name, ABSENT)!r} in {right}"
        for name in sorted(fields, key=str)
    )


def _in_words(value: Any) -> str:
    return f"a row with status {value['status']!r}" if isinstance(value, dict) and "status" in value else repr(value)


def _cut(text: str, start: int) -> str:
    if len(text) <= _LONGEST:
        return text
    rest = text[start:]
    return ("..." if start else "") + (rest if len(rest) <= _LONGEST else f"{rest[: _LONGEST - 3]}...")
