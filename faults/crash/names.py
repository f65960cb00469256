"""The names in a directory: how a change applies to them, and which changes a sync or a lost change affects.

Method. Names map to files and directories by number. The key is an *entry*: ``name`` in the tape's own directory,
``NUMBER/name`` in the directory of that number. So a name belongs to a directory itself, not to its path: it goes with
the directory when that is renamed, and does not return in another one that is made at the same path later.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from tornpage.faults.files.links import link_name
from tornpage.faults.vfs.operation_log import Operation

# The directory of a path whose parent is not known. No path leads there.
_UNKNOWN: Final = "?"


def never_synced(operations: Sequence[Operation]) -> list[int]:
    """The new directories that no sync has made durable, by the indices of their operations."""
    made: list[int] = []
    for index, operation in enumerate(operations):
        if operation.kind == "mkdir":
            made.append(index)
        elif operation.kind == "syncall":
            made = []
        elif operation.kind == "syncdir":
            made = [one for one in made if directory_of(operations[one].path) != operation.path]
    return made


def entry_of(names: Mapping[str, int], path: str) -> str:
    """The entry to which a path leads now, in a directory that may have been renamed since it was made."""
    if "/" not in path:
        return path
    entry, *below = path.split("/")
    for name in below:
        if entry not in names:
            return f"{_UNKNOWN}/{path}"
        entry = f"{names[entry]}/{name}"
    return entry


def in_entries(names: Mapping[str, int], operation: Operation) -> Operation:
    """The same change of names with entries in place of paths."""
    if "/" not in operation.path and "/" not in operation.other:
        return operation
    return Operation(
        operation.kind, entry_of(names, operation.path), other=operation.other and entry_of(names, operation.other)
    )


def entries_in(names: Mapping[str, int], directory: str) -> str:
    """What `directory_of` returns for the entries of a directory, "" being the tape's own."""
    entry = entry_of(names, directory)
    return str(names[entry]) if entry in names else directory and f"{_UNKNOWN}/{directory}"


def rename(names: dict[str, int], operation: Operation, number: int) -> None:
    """Apply a change to the names; its paths are entries. A renamed directory keeps its number, and so its contents."""
    if operation.kind in ("delete", "rmdir"):
        names.pop(operation.path, None)
    elif operation.kind == "link":
        names[operation.other] = number
    elif operation.kind in ("create", "mkdir", "symlink"):
        names[operation.path] = number
    else:
        names.pop(operation.path, None)
        names[operation.other] = number


def reachable(
    names: Mapping[str, int], directories: Collection[int], links: Collection[int] = frozenset()
) -> dict[str, int]:
    """The files to which a path leads, links (`link_name`) and empty directories (a separator at the end); sorted."""
    named = {entry: number for entry, number in names.items() if "\0" not in entry}
    if links:
        named = {link_name(entry) if number in links else entry: number for entry, number in named.items()}
    if not directories:
        return dict(sorted(named.items()))
    inside: dict[str, list[tuple[str, int]]] = {}
    for entry, number in named.items():
        where, _, name = entry.rpartition("/")
        inside.setdefault(where, []).append((name, number))
    found: dict[str, int] = {}
    # A lost rename can leave two names for one directory, even one inside itself, so each path goes through it once.
    left = [("", "", frozenset[int]())]
    while left:
        where, path, above = left.pop()
        for name, number in inside.get(where, ()):
            if number not in directories:
                found[path + name] = number
            elif number not in above and str(number) in inside:
                left.append((str(number), f"{path}{name}/", above | {number}))
            elif number not in above:
                found[f"{path}{name}/"] = number
    return dict(sorted(found.items()))


def directory_of(path: str) -> str:
    """What contains the file or directory of a path or an entry, "" for the tape's own directory."""
    return path.rpartition("/")[0]


def with_earlier_changes(pending: Sequence[tuple[int, Operation, int]], durable: Collection[int]) -> set[int]:
    """What becomes durable with some of the unsynced changes of names (as in `lost_with_a_rename`), by index.

    All earlier changes of their entries: what an entry leads to now can't be durable before what it led to then. A
    rename has an entry in a second directory, where such changes may be unsynced although the rename is durable.
    """
    found: set[int] = set()
    changed: set[str] = set()
    for index, operation, _ in reversed(pending):
        entries = _entries_of(operation)
        if index in durable or changed & entries:
            found.add(index)
            changed |= entries
    return found


def _entries_of(operation: Operation) -> set[str]:
    """The entries that a change of names sets or removes."""
    return {operation.other if operation.kind == "link" else operation.path, operation.other or operation.path}


def lost_with_a_rename(lost: Collection[int], pending: Sequence[tuple[int, Operation, int]]) -> list[int]:
    """The later changes of a name that a file was renamed away from, if that rename is `lost`, by index.

    `pending` are the unsynced changes of names: (index, operation in entries, file).

    A directory has one entry for a name. To use it again (a log is rotated, and created anew) while the rename is
    lost would remove the renamed file altogether: neither its old nor its new name leads to it. Linux file systems
    keep the file (xfstests generic/341 and generic/342; btrfs commit 56f23fdb calls the contrary a loss of data).
    """
    late: list[int] = []
    still_there: set[str] = set()
    for index, operation, _ in pending:
        changed = _entries_of(operation)
        if index not in lost and changed & still_there:
            late.append(index)
        elif index not in lost:
            continue
        if operation.kind == "rename":
            still_there.add(operation.path)
    return late


def truncated_after_a_journal(
    lost: Collection[int], unsynced: Collection[int], operations: Sequence[Operation]
) -> list[int]:
    """The `unsynced` truncations of databases whose journals were deleted before, if that is lost.

    SQLite truncates a database (VACUUM, auto_vacuum) after it has deleted the journal, and syncs neither. A journal
    that reappears does not contain the removed pages. SQLite relies on the order of the two changes, and journaling
    file systems keep it, as they keep the order of all changes of names and sizes.
    """
    deleted = {
        operations[index].path.removesuffix("-journal"): index
        for index in lost
        if operations[index].kind == "delete" and operations[index].path.endswith("-journal")
    }
    return [
        index
        for index in (set(unsynced).difference(lost) if deleted else ())
        if operations[index].kind == "truncate" and deleted.get(operations[index].path, index) < index
    ]
