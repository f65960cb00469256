"""Translates the system calls of an external program into operations on a tape: changes and syncs below one directory.

Method. The translator models the program: its processes with their working directories and open files, each with its
position and flags, and the sizes of the directory's files. So it knows the offset of a ``write``, also with
``O_APPEND``, and distinguishes a deleted file that is still open from a new file of the same name.

Durability follows the system's guarantees. ``fsync`` and ``fdatasync`` of a file make its contents durable, of a
directory its names; ``O_SYNC`` and ``O_DSYNC`` sync each write; ``sync`` and ``syncfs`` everything.
``sync_file_range`` makes nothing durable: it writes neither the size nor the drive's cache. ``fallocate`` extends a
file, as ``ftruncate`` does.

Bytes that are copied from one file of the directory to another (``copy_file_range``, ``sendfile``) are taken from the
tape. Changes that the log does not show, such as through a writable map or io_uring, can't be translated, and raise
`NotTranslatedError`. The shared-memory file is ignored: it is not part of a crash state. A write of another thread
during a sync counts as before the sync if it ends before the sync does.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tornpage.faults.errors import FaultError
from tornpage.faults.files.links import leads_out, target_in
from tornpage.faults.files.replica import Replica
from tornpage.faults.syscall_log.lines import SystemCallLine, descriptor_of, pieces_of, text_of
from tornpage.faults.vfs.operation_log import Operation, Tape, unnamed_in

_SYNCED: Final = frozenset({"O_SYNC", "O_DSYNC", "RWF_SYNC", "RWF_DSYNC"})
_SHARED_MEMORY: Final = "-shm"


class NotTranslatedError(FaultError, RuntimeError):
    """A system call has changed a file in a way that the log does not show."""


@dataclass(slots=True)
class _Size:
    """The size of a file, shared by all its names."""

    size: int = 0


@dataclass(slots=True)
class _Open:
    """An open file description, shared by duplicates of its descriptor."""

    place: int = 0
    appends: bool = False
    syncs: bool = False
    # The placeholder of a file that was created without a name.
    unnamed: str = ""


@dataclass(slots=True)
class _Process:
    """The state that the threads of a process share."""

    directory: str
    files: dict[int, _Open] = field(default_factory=dict)


class Translator:
    """Records the changes by the system calls of `process` on a tape; `answers` counts the process's answers (lines).

    `answers_to` names the pipe to which it writes them, as strace shows it. `base` are the files at the tape's
    beginning: without it, copies from one file to another can't be translated.
    """

    def __init__(self, tape: Tape, process: int, answers_to: str, base: Mapping[str, bytes] | None = None) -> None:
        self.answers = 0
        # The contents of the tape's files, for copies inside the kernel.
        self._replica = Replica(base) if base is not None else None
        self._tape = tape
        self._answers_to = answers_to
        self._sizes: dict[str, _Size] = {}
        self._directories: set[str] = {""}
        # The symbolic links in the directory, by name.
        self._soft: set[str] = set()
        self._unnamed = 0
        self._look_round()
        first = _process_now(process)
        self._processes: dict[int, _Process] = dict.fromkeys(_threads_of(process), first)
        self._newest = first

    def take(self, call: SystemCallLine, unfinished: Mapping[int, str]) -> None:
        """Record the changes of one call; raises `NotTranslatedError`. `unfinished` are calls of other threads."""
        if call.thread not in self._processes:
            self._processes[call.thread] = self._of_a_child(unfinished)
        if call.result < 0 and call.name not in ("fsync", "fdatasync"):
            return
        _HANDLERS[call.name](self, call, self._processes[call.thread])

    def _look_round(self) -> None:
        for above, directories, files in os.walk(self._tape.root):
            below = self._tape.name_of(above) or ""
            for name in (*directories, *files):
                path, here = Path(above, name), os.path.join(below, name)  # noqa: PTH118
                if path.is_symlink():
                    self._soft.add(here)
                elif name in directories:
                    self._directories.add(here)
                else:
                    self._sizes[here] = _Size(path.stat().st_size)

    def _of_a_child(self, unfinished: Mapping[int, str]) -> _Process:
        """The process of a thread whose clone is not logged yet: the child may run before that line is complete."""
        cloning = [(one, text) for one, text in unfinished.items() if text.startswith(("clone", "fork", "vfork"))]
        if not cloning:
            return self._newest
        return self._born(self._processes.get(cloning[-1][0], self._newest), cloning[-1][1])

    def _born(self, parent: _Process, arguments: str) -> _Process:
        shares = "CLONE_FILES" in arguments or "CLONE_THREAD" in arguments
        return parent if shares else _Process(parent.directory, dict(parent.files))

    # -- finding the file ----------------------------------------------------------------------------------

    def _file(self, argument: str, process: _Process) -> tuple[str | None, _Open | None]:
        """The name of an open file in the directory (None if it is elsewhere or deleted), and its open description."""
        found = descriptor_of(argument)
        opened = process.files.get(found.number) if found.number is not None else None
        if found.is_deleted:
            return (opened.unnamed or None) if opened is not None else None, opened
        name = self._tape.name_of(found.path)
        return (None if name is not None and name.endswith(_SHARED_MEMORY) else name), opened

    def _path(self, argument: str, process: _Process, at: str | None = None) -> str | None:
        """The name of a path in the directory; None if it is elsewhere."""
        path = os.fsdecode(text_of(argument))
        above = process.directory if at is None else descriptor_of(at).path
        whole = os.path.join(above, path)  # noqa: PTH118
        directory, last = os.path.split(whole.rstrip("/"))
        if directory != self._tape.root:
            whole = os.path.join(os.path.realpath(directory), last)  # noqa: PTH118
        name = self._tape.name_of(whole)
        if self._soft and self._goes_through_a_link(directory):
            # Where that led at the time of the call is not known.
            raise NotTranslatedError(f"{name} is named through a symbolic link in the directory")
        return None if name is not None and name.endswith(_SHARED_MEMORY) else name

    def _goes_through_a_link(self, directory: str) -> bool:
        below = self._tape.relative(directory)
        return below is not None and any(f"{below}/".startswith(f"{one}/") for one in self._soft)

    def _refuse(self, call: SystemCallLine, name: str, why: str) -> None:
        raise NotTranslatedError(f"{call.name} on {name or 'the directory'} {why}")

    # -- opening -------------------------------------------------------------------------------------------

    def _opens(self, call: SystemCallLine, process: _Process) -> None:
        found = descriptor_of(call.said)
        name, number = self._tape.name_of(found.path), found.number
        if number is None:
            return
        process.files.pop(number, None)
        if name is None or name.endswith(_SHARED_MEMORY):
            return
        flags = {flag for one in call.fields for flag in one.split("|") if flag.startswith("O_")}
        if call.name == "creat":
            flags |= {"O_CREAT", "O_TRUNC"}
        process.files[number] = opened = _Open(appends="O_APPEND" in flags, syncs=bool(flags & _SYNCED))
        if "O_TMPFILE" in flags:
            self._unnamed += 1
            opened.unnamed = name = unnamed_in(os.path.dirname(name), self._unnamed)  # noqa: PTH120
            flags.add("O_CREAT")
        if name in self._directories:
            return
        if name not in self._sizes:
            self._sizes[name] = _Size()
            if "O_CREAT" in flags:
                self._tape.add(Operation("create", name))
        elif "O_TRUNC" in flags and self._sizes[name].size:
            self._resize(name, 0)

    def _duplicates(self, call: SystemCallLine, process: _Process) -> None:
        fields = call.fields
        if call.name == "fcntl" and not fields[1].startswith("F_DUPFD"):
            return
        old = descriptor_of(fields[0]).number
        if old is not None and old in process.files:
            process.files[call.result] = process.files[old]
        else:
            process.files.pop(call.result, None)

    def _moves(self, call: SystemCallLine, process: _Process) -> None:
        """The file position has changed: it was set, or the file was read."""
        _, opened = self._file(call.arguments, process)
        if opened is not None:
            opened.place = call.result if call.name == "lseek" else opened.place + call.result

    # -- contents ------------------------------------------------------------------------------------------

    def _writes(self, call: SystemCallLine, process: _Process) -> None:
        found = descriptor_of(call.arguments)
        vector = "writev" in call.name
        if found.path == self._answers_to:
            data = pieces_of(call.arguments) if vector else text_of(call.arguments)
            self.answers += data[: call.result].count(b"\n")
            return
        name, opened = self._file(call.arguments, process)
        if name is None:
            return
        data = (pieces_of(call.arguments) if vector else text_of(call.arguments))[: call.result]
        if opened is None:
            self._refuse(call, name, "was made on a descriptor of unknown origin")
            return
        rest = call.arguments.rpartition("], ")[2].split(", ") if vector else call.fields[2:]
        at = int(rest[1]) if call.name.startswith("p") else -1
        appends = opened.appends or "RWF_APPEND" in call.arguments
        size = self._sizes.setdefault(name, _Size())
        offset = size.size if appends else at if at >= 0 else opened.place
        if at < 0:
            opened.place = offset + len(data)
        size.size = max(size.size, offset + len(data))
        done = [Operation("write", name, offset, data)]
        if opened.syncs or any(flag in call.arguments for flag in ("RWF_SYNC", "RWF_DSYNC")):
            done.append(Operation("sync", name))
        self._tape.add(*done)

    def _syncs(self, call: SystemCallLine, process: _Process) -> None:
        name, _ = self._file(call.arguments, process)
        if name is None:
            return
        if name in self._directories:
            self._tape.add(*([Operation("syncdir", name)] if call.result >= 0 else []))
        else:
            self._tape.add(Operation("sync" if call.result >= 0 else "failsync", name))

    def _syncs_all(self, call: SystemCallLine, process: _Process) -> None:
        if call.name == "sync" or self._file(call.arguments, process)[0] is not None:
            self._tape.add(Operation("syncall", ""))

    def _truncates(self, call: SystemCallLine, process: _Process) -> None:
        first, size = call.fields
        name = self._path(first, process) if call.name == "truncate" else self._file(first, process)[0]
        if name is not None:
            self._resize(name, int(size, 0))

    def _resize(self, name: str, size: int) -> None:
        self._sizes.setdefault(name, _Size()).size = size
        self._tape.add(Operation("truncate", name, size=size))

    def _allocates(self, call: SystemCallLine, process: _Process) -> None:
        name, _ = self._file(call.arguments, process)
        if name is None:
            return
        _, mode, offset, length = call.fields
        end = int(offset, 0) + int(length, 0)
        size = self._sizes.setdefault(name, _Size())
        if "COLLAPSE" in mode or "INSERT" in mode:
            self._refuse(call, name, f"moves its contents ({mode})")
        if "PUNCH_HOLE" in mode or "ZERO_RANGE" in mode:
            first, last = int(offset, 0), min(end, size.size)
            if first < last:
                self._tape.add(Operation("write", name, first, bytes(last - first)))
        if "KEEP_SIZE" not in mode and end > size.size:
            self._resize(name, end)

    # -- names ---------------------------------------------------------------------------------------------

    def _two_names(self, call: SystemCallLine, process: _Process) -> tuple[str | None, str | None]:
        fields = call.fields
        if call.name in ("rename", "link"):
            return self._path(fields[0], process), self._path(fields[1], process)
        old = self._path(fields[1], process, fields[0])
        text = os.fsdecode(text_of(fields[1]))
        number = text.rpartition("/fd/")[2] if text.startswith("/proc/") else ""
        held = process.files.get(int(number)) if number.isdigit() else None
        if not text:
            # AT_EMPTY_PATH: the open file itself.
            old, held = self._file(fields[0], process)
        return (held.unnamed if held is not None and held.unnamed else old), self._path(fields[3], process, fields[2])

    def _renames(self, call: SystemCallLine, process: _Process) -> None:
        old, new = self._two_names(call, process)
        if old == new:
            return
        if "RENAME_EXCHANGE" in call.arguments:
            self._refuse(call, old or new or "", "exchanges two files in one step")
        if old is None:
            self._refuse(call, str(new), "brings a file from elsewhere, whose contents are unknown")
            return
        if new is None:
            self._forget(old)
            self._tape.add(Operation("delete", old))
            return
        self._tape.add(Operation("rename", old, other=new))
        self._soft.discard(new)
        if old in self._soft:
            self._soft.discard(old)
            self._soft.add(new)
            self._sizes.pop(new, None)
        elif old in self._directories:
            self._directories = {_moved(one, old, new) for one in self._directories}
            self._sizes = {_moved(one, old, new): size for one, size in self._sizes.items()}
            self._soft = {_moved(one, old, new) for one in self._soft}
        elif old in self._sizes:
            self._sizes[new] = self._sizes.pop(old)

    def _links(self, call: SystemCallLine, process: _Process) -> None:
        old, new = self._two_names(call, process)
        if new is None:
            return
        if old is None or old not in self._sizes:
            self._refuse(call, new, "brings a file from elsewhere, whose contents are unknown")
            return
        self._tape.add(Operation("link", old, other=new))
        self._sizes[new] = self._sizes[old]

    def _links_softly(self, call: SystemCallLine, process: _Process) -> None:
        fields = call.fields
        new = self._path(fields[1], process) if call.name == "symlink" else self._path(fields[2], process, fields[1])
        if new is None:
            return
        root, target = self._tape.root, text_of(fields[0])
        if leads_out(root, os.path.join(root, os.path.dirname(new), os.fsdecode(target))):  # noqa: PTH118, PTH120
            self._refuse(call, new, "makes a symbolic link to a file elsewhere")
        self._soft.add(new)
        self._tape.add(Operation("symlink", new, data=target_in(root, target)))

    def _removes(self, call: SystemCallLine, process: _Process) -> None:
        fields = call.fields
        name = self._path(fields[1], process, fields[0]) if call.name == "unlinkat" else self._path(fields[0], process)
        if name is None:
            return
        is_directory = call.name == "rmdir" or "AT_REMOVEDIR" in call.arguments
        self._forget(name)
        self._tape.add(Operation("rmdir" if is_directory else "delete", name))

    def _forget(self, name: str) -> None:
        self._sizes.pop(name, None)
        self._directories.discard(name)
        self._soft.discard(name)

    def _makes_directory(self, call: SystemCallLine, process: _Process) -> None:
        fields = call.fields
        name = self._path(fields[1], process, fields[0]) if call.name == "mkdirat" else self._path(fields[0], process)
        if name is not None:
            self._directories.add(name)
            self._tape.add(Operation("mkdir", name))

    # -- what can't be translated --------------------------------------------------------------------------

    def _maps(self, call: SystemCallLine, process: _Process) -> None:
        fields = call.fields
        name, _ = self._file(fields[4], process)
        if name is not None and "PROT_WRITE" in fields[2] and "MAP_SHARED" in fields[3]:
            self._refuse(call, name, "makes a writable map, and no system call shows the writes through it")

    def _copies(self, call: SystemCallLine, process: _Process) -> None:
        """Bytes that are copied from one file to another inside the kernel: taken from the tape's copy of the first."""
        fields = call.fields
        sends = call.name == "sendfile"
        (into, at), (of, place) = (
            ((fields[0], "NULL"), (fields[1], fields[2])) if sends else ((fields[2], fields[3]), (fields[0], fields[1]))
        )
        name, target = self._file(into, process)
        source, opened = self._file(of, process)
        if opened is not None and place == "NULL":
            opened.place += call.result
        if name is None or not call.result:
            return
        content = self._content_of(source)
        if content is None or target is None or opened is None:
            self._refuse(call, name, "copies inside the kernel from a file whose contents are unknown")
            return
        start = opened.place - call.result if place == "NULL" else _offset_in(place)
        size = self._sizes.setdefault(name, _Size())
        offset = size.size if target.appends else target.place if at == "NULL" else _offset_in(at)
        if at == "NULL":
            target.place = offset + call.result
        size.size = max(size.size, offset + call.result)
        self._tape.add(Operation("write", name, offset, content[start : start + call.result]))

    def _content_of(self, name: str | None) -> bytes | None:
        if name is None or self._replica is None:
            return None
        self._replica.follow(self._tape.operations)
        return self._replica.content(name)

    def _queues(self, call: SystemCallLine, process: _Process) -> None:
        del process
        raise NotTranslatedError(f"{call.name}: operations through io_uring are not logged as system calls")

    # -- processes -----------------------------------------------------------------------------------------

    def _clones(self, call: SystemCallLine, process: _Process) -> None:
        self._newest = self._processes.setdefault(call.result, self._born(process, call.arguments))

    def _changes_directory(self, call: SystemCallLine, process: _Process) -> None:
        if call.name == "fchdir":
            process.directory = descriptor_of(call.arguments).path
        else:
            path = os.path.join(process.directory, os.fsdecode(text_of(call.arguments)))  # noqa: PTH118
            process.directory = os.path.realpath(path)


def _offset_in(argument: str) -> int:
    """The offset in ``[4]``, or the first in ``[4] => [6]`` (before => after the call)."""
    return int(argument.partition("]")[0].removeprefix("["))


def _moved(name: str, old: str, new: str) -> str:
    return new + name.removeprefix(old) if name == old or name.startswith(f"{old}/") else name


def _threads_of(process: int) -> list[int]:
    try:
        return [process, *(int(one.name) for one in Path(f"/proc/{process}/task").iterdir())]
    except OSError:
        return [process]


def _process_now(process: int) -> _Process:
    """The state of a process when strace attaches."""
    found = _Process(os.path.realpath(f"/proc/{process}/cwd"))
    try:
        descriptors = list(Path(f"/proc/{process}/fdinfo").iterdir())
    except OSError:
        return found
    for one in descriptors:
        try:
            lines = dict(line.split(":", 1) for line in one.read_text().splitlines() if ":" in line)
            flags = int(lines["flags"], 8)
            place = int(lines["pos"])
        except (OSError, ValueError, KeyError):
            continue
        syncs = bool(flags & (os.O_SYNC | os.O_DSYNC))
        found.files[int(one.name)] = _Open(place, appends=bool(flags & os.O_APPEND), syncs=syncs)
    return found


_Handler = Callable[[Translator, SystemCallLine, _Process], None]
_BY_HANDLER: Final[Mapping[_Handler, str]] = {
    Translator._opens: "openat open creat openat2",
    Translator._duplicates: "dup dup2 dup3 fcntl",
    Translator._moves: "lseek read readv",
    Translator._writes: "pwrite64 write pwritev pwritev2 writev",
    Translator._syncs: "fsync fdatasync",
    Translator._syncs_all: "sync syncfs",
    Translator._truncates: "ftruncate truncate",
    Translator._allocates: "fallocate",
    Translator._renames: "rename renameat renameat2",
    Translator._links: "link linkat",
    Translator._links_softly: "symlink symlinkat",
    Translator._removes: "unlink unlinkat rmdir",
    Translator._makes_directory: "mkdir mkdirat",
    Translator._maps: "mmap",
    Translator._copies: "sendfile copy_file_range splice",
    Translator._queues: "io_uring_setup io_uring_enter",
    Translator._clones: "clone clone3 fork vfork",
    Translator._changes_directory: "chdir fchdir",
}
_HANDLERS: Final = {name: handler for handler, names in _BY_HANDLER.items() for name in names.split()}
# The system calls that strace must log.
FOLLOWED: Final = tuple(_HANDLERS)
