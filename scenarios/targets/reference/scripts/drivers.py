"""Scripts of a driver that fails twice in a row, or lets another process come between any two statements."""

from collections.abc import Iterator
from typing import Final

from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.reference.scripts.calls import call

# Without a level the mode decides, at each connection.
_MODES: Final = (("wal", "full", True), ("wal", "normal", False), ("delete", None, False))


def two_faults() -> Iterator[Action]:
    """A second fault while the first one is handled, in a change and in a batch."""
    for journal_mode, synchronous, batch in _MODES:
        yield call("driver.pairs", journal_mode=journal_mode, synchronous=synchronous, batch=batch)


def interrupts() -> Iterator[Action]:
    """Ctrl-C at each statement of a change, and of a batch."""
    for journal_mode, synchronous, batch in _MODES:
        yield call("driver.interrupts", journal_mode=journal_mode, synchronous=synchronous, batch=batch)


def durable_imports() -> Iterator[Action]:
    """Imports at levels that may lose the newest commits."""
    for journal_mode, synchronous in (("wal", "normal"), ("delete", "full"), ("truncate", "normal")):
        yield call("driver.imports", journal_mode=journal_mode, synchronous=synchronous)


def two_openers() -> Iterator[Action]:
    """Another process opens the same directory in the middle of an opening: at a statement, or a call on a file."""
    for before in ("nothing", "version 1"):
        yield call("driver.openers", before=before)
    for before in ("nothing", "version 1", "log"):
        yield call("files.openers", before=before)


def refused_files() -> Iterator[Action]:
    """The system refuses a call on a file: an opening's, a worker's, an import's, a look's."""
    yield call("files.refused", before="nothing", acts=["open"])
    yield call("files.refused", before="wide", acts=["open", "audit", "work", "recover", "import"])
    for code in ("ENOSPC", "EDQUOT", "EROFS", "EACCES"):
        yield call("files.refused", before="nothing", acts=["work"], code=code)
    for code in ("EINVAL", "ENOTSUP", "EACCES", "EPERM", "EIO", "ENOSPC"):
        yield call("files.refused", before="nothing", acts=["open"], code=code, syncs=True)


def two_workers() -> Iterator[Action]:
    """Another process registers a worker, ends one or cleans, in the middle of the same; or finds a lock."""
    yield call("files.workers")
    yield call("files.twice")


def two_threads() -> Iterator[Action]:
    """Another thread's calls beside a batch, and while foreign code is called."""
    yield call("threads.beside")


def scopes() -> Iterator[Action]:
    """An error of the caller's own inside each kind of scope."""
    yield call("scopes.left")


def schemas() -> Iterator[Action]:
    """What the schema refuses by itself: of a new ledger, and of one that was migrated."""
    for before in ("nothing", "version 1"):
        yield call("open.unchecked", before=before)


def interrupted_programs() -> Iterator[Action]:
    """Ctrl-C while a deliver program is started, and while it works."""
    yield call("program.interrupted")


def broken_openings() -> Iterator[Action]:
    """An opening that fails at each of its statements, and the next one."""
    for before in ("nothing", "version 1"):
        yield call("driver.broken", before=before)


def locked_switches() -> Iterator[Action]:
    """The switch of the journal mode finds the database locked: for a moment, and for longer than the busy timeout."""
    for locked, busy_timeout_ms in ((0, 0), (3, 5_000), (1, 0), (1_000_000, 70)):
        yield call("driver.switch", locked=locked, busy_timeout_ms=busy_timeout_ms)


def unfenced() -> Iterator[Action]:
    """Calls that change nothing, after a failed COMMIT that can't be secured."""
    for journal_mode in ("wal", "delete"):
        yield call("driver.unfenced", journal_mode=journal_mode)


SCRIPTS: Final = (
    two_faults, interrupts, durable_imports, two_openers, refused_files, two_workers, two_threads, broken_openings,
    locked_switches,
    interrupted_programs, schemas, scopes, unfenced,
)  # fmt: skip
