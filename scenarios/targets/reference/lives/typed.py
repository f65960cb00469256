"""The ledger's command line: the options before a command, the environment, and the files that result."""

import contextlib
import io
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import click
import msgspec
from platformdirs import user_state_path

from tornpage.ledger import Ledger, LedgerError
from tornpage.ledger.disk.files import DATABASE_NAME
from tornpage.scenarios.targets.reference.lives.openings import BEFORE, contents, place

_USER: Final = "user"
_MODES: Final = {1: "rollback", 2: "wal"}


def typed(home: Path, *, argv: Sequence[str] | None, before: str = "nothing", variable: str | None = None) -> Any:
    """The result of a command line: its exit code, whether all was left unchanged, and which directories exist.

    `before` describes the directory ``state``; in `argv` and in the `variable` TORNPAGE_STATE_DIR, ``{home}`` is the
    place of that directory. Without `argv` a program opens the ledger by itself. ``waits_ms`` is the busy timeout of
    the connections of an opened ledger.
    """
    with place(home) as directory:
        BEFORE[before](directory)
        content = contents(directory)
        environment = {
            # A call without a directory must not use the user's own.
            "XDG_STATE_HOME": str(home / _USER), "HOME": str(home / _USER),
            "TORNPAGE_STATE_DIR": None if variable is None else variable.replace("{home}", str(home)),
        }  # fmt: skip
        words = None if argv is None else [one.replace("{home}", str(home)) for one in argv]
        # A name that is empty would be the current directory.
        with _waits() as waits_ms, contextlib.chdir(home):
            code = _exit_code(words, environment)
        return {
            "exit": code,
            "left": contents(directory) == content,
            "waits_ms": sorted(waits_ms),
            "there": sorted(one.name for one in home.iterdir()),
            "ledgers": {_shown(home, file.parent): _mode(file) for file in sorted(home.rglob(DATABASE_NAME))},
        }


def unwritten(home: Path, *, argv: Sequence[str], stream: str = "stdout") -> Any:
    """The result of a command whose answer, or whose warnings (``stderr``), go to a device that is full."""
    from tornpage.ledger.command import ledger_group  # noqa: PLC0415 - it takes long to load

    with place(home) as directory:
        try:
            with _full(stream):
                ledger_group.main(["--state-dir", str(directory), *argv], standalone_mode=False)
            said, code = "", 0
        except click.ClickException as error:
            said, code = error.format_message(), error.exit_code
        with contextlib.closing(Ledger.open(directory)) as ledger:
            return {"exit": code, "about the answer": "answer" in said, "tasks": len(ledger.tasks.list())}


@contextlib.contextmanager
def _full(stream: str) -> Iterator[None]:
    """What is written to the stream meanwhile is refused; what is written to the other one is dropped."""
    device = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - to close it fails, too
    streams = [device if stream == name else io.StringIO() for name in ("stdout", "stderr")]
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            yield
    finally:
        with contextlib.suppress(OSError):
            device.close()


def pruned(home: Path, *, many: int) -> Any:
    """What the command says that it has deleted, of so many messages that have ended, and how many there are then."""
    with place(home) as directory:
        with contextlib.closing(Ledger.open(directory)) as ledger:
            ledger.outbox.ack(ledger.outbox.enqueue(channel="mail", target="me", payload={}).id)
        with contextlib.closing(sqlite3.connect(directory / DATABASE_NAME)) as connection:
            names = [one[1] for one in connection.execute("PRAGMA table_info(message_outbox)") if one[1] != "insertion"]
            values = ", ".join({"id": "'m' || n", "completed_at": "0"}.get(name, name) for name in names)
            connection.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "  # noqa: S608 - SQLite's own names
                f"INSERT INTO message_outbox ({', '.join(names)}) SELECT {values} FROM message_outbox, numbers",
                (many,),
            )
            connection.commit()
        said = _printed(["--state-dir", str(directory), "outbox", "prune", "--age-ms", "60000", "--json"])
        with contextlib.closing(Ledger.open(directory)) as ledger:
            return [said, len(ledger.outbox.list())]


def _printed(argv: list[str]) -> Any:
    from click.testing import CliRunner  # noqa: PLC0415 - it takes long to load

    from tornpage.ledger.command import ledger_group  # noqa: PLC0415 - as above

    return msgspec.json.decode(CliRunner().invoke(ledger_group, argv).stdout)


@contextlib.contextmanager
def _waits() -> Iterator[set[int]]:
    """The busy timeouts of the connections of each ledger opened meanwhile."""
    waits_ms: set[int] = set()
    opened = Ledger.open

    def connect(where: str, **how: Any) -> Any:
        waits_ms.add(round(how["timeout"] * 1_000))
        return sqlite3.connect(where, **how)

    with mock.patch.object(Ledger, "open", lambda *place, **how: opened(*place, connect=connect, **how)):
        yield waits_ms


def _exit_code(argv: list[str] | None, environment: Mapping[str, str | None]) -> int:
    # They take long to load, and few sessions have a command typed.
    from click.testing import CliRunner  # noqa: PLC0415 - as above

    from tornpage.ledger.command import ledger_group  # noqa: PLC0415 - as above

    if argv is None:
        with CliRunner(env=environment).isolation():
            try:
                Ledger.open().close()
            except LedgerError:
                return 2
            return 0
    done = CliRunner(env=environment).invoke(ledger_group, argv)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code


def _shown(home: Path, place: Path) -> str:
    """A directory below a home; ``user`` is the one that the platform has for the states of this home's user."""
    mine = {"XDG_STATE_HOME": str(home / _USER), "HOME": str(home / _USER)}
    with mock.patch.dict(os.environ, mine):
        of_the_user = user_state_path("tornpage")
    return _USER if place == of_the_user else str(place.relative_to(home))


def _mode(file: Path) -> str | None:
    """The journal mode as the file's header says it; None where it has none."""
    if not file.is_file():
        return None
    header = file.read_bytes()[:20]
    return _MODES.get(header[18]) if len(header) == 20 else None
