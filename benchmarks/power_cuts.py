"""Power cuts on real file systems: compares the disks with the crash model's states and the acknowledged changes.

``python -m benchmarks.power_cuts --cuts 100`` as root. For each file system and each workload: a new file system is
made on a device that logs its writes (`benchmarks.logged_disk`) and mounted by the running kernel; the workload is
recorded by ``faults.record`` and marks each operation and each acknowledgement between the device's writes. Then the
power is cut at random entries of that log: a possible state of the device is built and mounted, so that the file system
recovers, and read.

- Each resulting directory must be a state of `faults.CrashStates` after the operations done by then, or during the
  current one: a `Crash` that leaves it is searched, and the model's state is compared byte by byte.
- A workload that promises durability shows all acknowledged changes, and SQLite finds no damage.

The kernel writes dirty pages back continuously (``vm.dirty_*_centisecs`` are set meanwhile, and restored), so that
there are intermediate states. The exit code is 1 if a disk is no state of the model or an acknowledged change is lost.
"""

import contextlib
import os
import pickle
import random
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import click
from benchmarks.logged_disk import Cut, Entry, served
from benchmarks.states_found import crash_that_leaves

from tornpage import faults
from tornpage.faults.files.links import link_name, target_in

_MIB: Final = 1 << 20
_MAKE: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "ext4": (64, ("mkfs.ext4", "-q", "-b", "4096")),
    "xfs": (300, ("mkfs.xfs", "-q")),
    "btrfs": (120, ("mkfs.btrfs", "-q")),
}
_WRITEBACK: Final = tuple(Path("/proc/sys/vm") / f"dirty_{name}_centisecs" for name in ("writeback", "expire"))
_PUTS: Final = 40

Work = Callable[[Path, Callable[[Any], None]], None]


# -- workloads -------------------------------------------------------------------------------------------------


def _pause() -> None:
    # So that the kernel has the time to write something back by itself.
    time.sleep(random.random() * 0.03)  # noqa: S311


def _puts(mode: str, synchronous: str) -> Work:
    def work(home: Path, acknowledge: Callable[[Any], None]) -> None:
        with contextlib.closing(sqlite3.connect(home / "kv.db", isolation_level=None)) as db:
            db.execute(f"PRAGMA journal_mode={mode}")
            db.execute(f"PRAGMA synchronous={synchronous}")
            db.execute("PRAGMA wal_autocheckpoint=8")
            db.execute("CREATE TABLE kv (name INTEGER PRIMARY KEY, value)")
            for number in range(_PUTS):
                db.execute("INSERT INTO kv VALUES (?, ?)", (number, os.urandom(3000)))
                acknowledge(number)
                _pause()

    return work


def _files(*, synced: bool) -> Work:
    """Files of 150 KB and small ones, written beside and renamed; where nothing is synced, nothing is promised."""

    def work(home: Path, acknowledge: Callable[[Any], None]) -> None:
        for number in range(_PUTS):
            new, name = home / "new", home / f"file-{number % 7}"
            with new.open("wb") as file:
                file.write(os.urandom(150_000 if number % 3 else 200))
                if synced:
                    file.flush()
                    os.fsync(file)
            _pause()
            new.replace(name)
            if synced:
                _sync_directory(home)
            acknowledge(name.name)
            _pause()

    return work


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _moves(home: Path, acknowledge: Callable[[Any], None]) -> None:
    """Files that are moved between two directories, of which only one is synced; names are used again and again."""
    inbox, done = home / "inbox", home / "done"
    inbox.mkdir()
    done.mkdir()
    _sync_directory(home)
    for number in range(_PUTS):
        name = f"job-{number % 3}"
        with (inbox / name).open("wb") as file:
            file.write(bytes([number + 1]) * 300)
            file.flush()
            os.fsync(file)
        _pause()
        (inbox / name).replace(done / name)
        if number % 4 < 3:
            _sync_directory((done, inbox, done)[number % 4])
            acknowledge(number)
        _pause()
        if number % 5 == 0:
            (done / name).unlink()
        elif number % 5 == 1:
            (done / name).replace(inbox / f"again-{number % 2}")


def _links(home: Path, acknowledge: Callable[[Any], None]) -> None:
    """A symbolic link that is switched to the newest of a few files; the directory is synced at every other switch."""
    for number in range(_PUTS):
        version = home / f"version-{number % 5}"
        with version.open("wb") as file:
            file.write(bytes([number + 1]) * 300)
            file.flush()
            os.fsync(file)
        (home / "new").unlink(missing_ok=True)
        # One of three targets is too long for the inode itself.
        (home / "new").symlink_to(version if number % 3 else f"{'./' * 40}{version.name}")
        _pause()
        if number % 4:
            (home / "new").replace(home / "current")
        if number % 2:
            _sync_directory(home)
            acknowledge(number)
        _pause()


def _lines(home: Path, acknowledge: Callable[[Any], None]) -> None:
    """One file that is appended to, in one write of 12 KB after the other, each synced or not."""
    with (home / "lines").open("wb", buffering=0) as file:
        for number in range(_PUTS):
            file.write(bytes([number + 1]) * 12_000)
            _pause()
            if number % 4 == 0:
                os.fsync(file)
                acknowledge(number)


_WORK: Final[dict[str, Work]] = {
    "WAL/FULL": _puts("WAL", "FULL"),
    "DELETE/EXTRA": _puts("DELETE", "EXTRA"),
    "WAL/NORMAL": _puts("WAL", "NORMAL"),
    "files, synced": _files(synced=True),
    "files, not synced": _files(synced=False),
    "lines": _lines,
    "moves": _moves,
    "links": _links,
}


# -- one file system, one workload -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    base: bytes
    log: list[Entry]
    operations: list[faults.Operation]


def _call(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


@contextlib.contextmanager
def _mounted(device: str | Path, directory: Path, *options: str) -> Iterator[Path]:
    directory.mkdir(exist_ok=True)
    _call("mount", *options, device, directory)
    try:
        yield directory
    finally:
        _call("umount", directory)


def _made(kind: str, image: Path) -> bytes:
    size_mib, command = _MAKE[kind]
    image.unlink(missing_ok=True)
    image.touch()
    os.truncate(image, size_mib * _MIB)
    _call(*command, image)
    return image.read_bytes()


class _Marking(faults.Tape):
    """A tape that says on the device, after each operation, how many there are."""

    marks = -1

    def add(self, *operations: faults.Operation) -> None:
        super().add(*operations)
        os.write(self.marks, f"operations {len(self)}".encode())


def _recorded(kind: str, work: Work, home: Path) -> _Run:
    """Let a workload run on a new file system, and keep the device's log and the tape."""
    served_in, kept = home / "served", home / "log"
    served_in.mkdir(exist_ok=True)
    base = _made(kind, home / "image")
    listening, ready = os.pipe()
    server = os.fork()
    if server == 0:
        served(served_in, base, ready, kept)
        os._exit(0)
    os.read(listening, 1)
    try:
        device = _call("losetup", "-f", "--show", served_in / "disk")
        try:
            with _mounted(device, home / "mounted") as mounted:
                operations = _played(work, mounted / "work", served_in / "marks")
        finally:
            _call("losetup", "-d", device)
    finally:
        _call("umount", served_in)
        os.waitpid(server, 0)
    return _Run(base, [Entry(*one) for one in pickle.loads(kept.read_bytes())], operations)  # noqa: S301


def _played(work: Work, home: Path, marks: Path) -> list[faults.Operation]:
    home.mkdir()
    # The directory itself is no part of the tape: it is durable before that begins.
    for one in (home, home.parent):
        _sync_directory(one)
    _Marking.marks = os.open(marks, os.O_WRONLY)
    os.write(_Marking.marks, b"operations 0")
    marking = mock.patch("tornpage.faults.vfs.arm.Tape", _Marking)

    def acknowledge(value: Any) -> None:
        os.write(_Marking.marks, f"acknowledged {value}".encode())

    with marking, faults.install(), faults.record(home) as tape:
        work(home, acknowledge)
    os.close(_Marking.marks)
    return tape.operations


# -- cuts ------------------------------------------------------------------------------------------------------


def _found(kind: str, disk: bytearray, home: Path) -> dict[str, bytes]:
    """What is in the directory after the file system has recovered."""
    image = home / "image"
    image.write_bytes(disk)
    options = ("-o", "loop,nouuid" if kind == "xfs" else "loop")
    with _mounted(image, home / "mounted", *options) as mounted:
        return _files_in(mounted / "work")


def _files_in(directory: Path) -> dict[str, bytes]:
    """The files, links and empty directories by relative path, as the model has them."""
    found: dict[str, bytes] = {}
    for one in sorted(directory.rglob("*")):
        name = str(one.relative_to(directory))
        if one.is_symlink():
            found[link_name(name)] = target_in(os.fspath(directory), os.readlink(os.fsencode(one)))  # noqa: PTH115 - a Path drops dots
        elif one.is_dir():
            found |= {} if any(one.iterdir()) else {f"{name}/": b""}
        elif not name.endswith("-shm"):
            found[name] = one.read_bytes()
    return found


def _ways(crash: faults.Crash, states: faults.CrashStates) -> Iterator[str]:
    """The ways in which unsynced changes are partly present."""
    lost, spoilt = set(crash.lost), {*crash.lost, *(index for index, _, _ in crash.holes)}
    if not lost and not crash.holes and crash.torn is None:
        yield "all there"
    for index, operation, number in states._pending_names:
        if operation.kind == "rename" and index not in lost and spoilt.intersection(states._files[number].pending):
            yield "renamed without its data"
            break
    for index, _, stop in crash.holes:
        size = len(states.operations[index].data)
        yield "longer before its data" if stop == size else "later pages without earlier ones"
    for kept in states.unsynced(crash.position) - spoilt:
        if any(one < kept for one in lost) and states.operations[kept].kind == "write":
            yield "later writes without earlier ones"


def _what_is_lost(name: str, marks: list[bytes], found: dict[str, bytes], home: Path) -> str:
    """The acknowledged changes that are missing or damaged; "" if none is."""
    acknowledged = [one.split()[1].decode() for one in marks if one.startswith(b"acknowledged")]
    if name.startswith(("WAL/FULL", "DELETE")):
        shutil.rmtree(home / "read", ignore_errors=True)
        (home / "read").mkdir()
        for file, content in found.items():
            (home / "read" / file).write_bytes(content)
        with contextlib.closing(sqlite3.connect(home / "read" / "kv.db")) as db:
            damage = db.execute("PRAGMA integrity_check").fetchall()
            there = {str(one) for (one,) in db.execute("SELECT name FROM kv")} if acknowledged else set()
        return "" if damage == [("ok",)] and there.issuperset(acknowledged) else f"{damage}, {acknowledged}, {there}"
    if name == "files, synced":
        return ", ".join(one for one in acknowledged if len(found.get(one, b"")) not in (200, 150_000))
    if name == "lines":
        done = int(acknowledged[-1]) + 1 if acknowledged else 0
        kept = b"".join(bytes([number + 1]) * 12_000 for number in range(done))
        return "" if found.get("lines", b"").startswith(kept) else f"{done} lines were synced"
    return ""


def _judged(kind: str, name: str, run: _Run, cuts: int, home: Path, generator: random.Random) -> Counter[str]:
    first = next(index for index, one in enumerate(run.log) if one.kind == "mark") + 1
    last = max(index for index, one in enumerate(run.log) if one.kind == "mark") + 1
    counts: Counter[str] = Counter()
    states = faults.CrashStates({}, run.operations)
    for after in sorted(generator.choices(range(first, last), k=cuts)):
        cut = Cut(after)
        marks = cut.marks(run.log)
        found = _found(kind, cut.disk(run.base, run.log, generator), home)
        done = int(next(one for one in reversed(marks) if one.startswith(b"operations")).split()[1])
        ends = range(done, min(done + 2, len(run.operations)) + 1)
        crash = next(filter(None, (crash_that_leaves(found, states, position) for position in ends)), None)
        counts.update({"not of the model"} if crash is None else {*_ways(crash, states)} or {"some lost"})
        if lost := _what_is_lost(name, marks, found, home):
            counts["acknowledged, and lost"] += 1
            click.echo(f"{kind}, {name}, cut after {after}: {lost}")
        if crash is None:
            click.echo(f"{kind}, {name}, cut after {after} of {len(run.log)} entries, {done} operations: no state")
            (home / f"not-of-the-model-{after}").write_bytes(pickle.dumps((found, run.operations, done)))
    return counts


@contextlib.contextmanager
def _busy_writeback() -> Iterator[None]:
    before = [one.read_text() for one in _WRITEBACK]
    try:
        for one in _WRITEBACK:
            one.write_text("2")
        yield
    finally:
        for one, value in zip(_WRITEBACK, before, strict=True):
            one.write_text(value)


@click.command()
@click.option("--cuts", default=20, show_default=True, help="Power cuts of each file system and workload.")
@click.option("--kind", "kinds", type=click.Choice(list(_MAKE)), multiple=True, default=list(_MAKE), show_default=True)
@click.option("--work", "works", type=click.Choice(list(_WORK)), multiple=True, default=list(_WORK))
@click.option("--directory", type=click.Path(path_type=Path), default=Path("power-cuts"), show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(cuts: int, kinds: tuple[str, ...], works: tuple[str, ...], directory: Path, seed: int) -> None:
    """Cut the power of real file systems and check that the model has a state equal to each disk."""
    total: Counter[str] = Counter()
    directory.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        for name in works:
            with _busy_writeback():
                run = _recorded(kind, _WORK[name], directory)
            counts = _judged(kind, name, run, cuts, directory, random.Random(f"{seed} {kind} {name}"))  # noqa: S311
            total += counts
            writes, flushes = (sum(one.kind == what for one in run.log) for what in ("write", "flush"))
            entries = f"{writes} writes, {flushes} flushes, {len(run.operations)} operations"
            click.echo(
                f"{kind:5} {name:17} {entries}: " + ", ".join(f"{count} {what}" for what, count in counts.items())
            )
    raise SystemExit(total["not of the model"] + total["acknowledged, and lost"] > 0)


if __name__ == "__main__":
    main()
