"""The names in a directory: how a change applies to them, and which changes a sync or a lost change affects.

Names map to files by number. A directory's own name ends with a separator.
"""

from collections.abc import Collection, Mapping, Sequence

from tornpage.faults.vfs.operation_log import Operation


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


def of_directory(operation: Operation) -> Operation:
    """The same change for a directory's name, which ends with a separator."""
    kind = {"mkdir": "create", "rmdir": "delete"}.get(operation.kind, operation.kind)
    return Operation(kind, f"{operation.path}/", other=f"{operation.other}/" if operation.other else "")


def rename(names: dict[str, int], operation: Operation, number: int) -> None:
    """Apply a create, delete, link or rename to the names; a renamed directory keeps its contents."""
    if operation.kind == "delete":
        names.pop(operation.path, None)
    elif operation.kind == "link":
        names[operation.other] = number
    elif operation.kind == "create":
        names[operation.path] = number
    else:
        names.pop(operation.path, None)
        names[operation.other] = number
        if operation.path.endswith("/"):
            for name in [name for name in names if name.startswith(operation.path)]:
                names[operation.other + name.removeprefix(operation.path)] = names.pop(name)


def reachable(names: Mapping[str, int]) -> list[str]:
    """The files whose parent directories all exist, and the empty directories; sorted."""
    named = (name for name in names if "\0" not in name)
    there = sorted(name for name in named if "/" not in name or all(above in names for above in parents_of(name)))
    filled = {above for name in there if "/" in name for above in parents_of(name)}
    return [name for name in there if name not in filled] if filled else there


def parents_of(path: str) -> list[str]:
    """The parent directories of a file or directory, each with a separator at its end."""
    parts = path.rstrip("/").split("/")[:-1]
    return ["/".join(parts[: count + 1]) + "/" for count in range(len(parts))]


def directory_of(path: str) -> str:
    """The relative path of the directory that contains a file or directory, "" for the tape's own."""
    return path.rstrip("/").rpartition("/")[0]


def lost_with_a_rename(lost: Collection[int], pending: Sequence[tuple[int, Operation, int]]) -> list[int]:
    """The later changes of a name that a file was renamed away from, if that rename is `lost`, by index.

    `pending` are the unsynced changes of names: (index, operation, file).

    A directory has one entry for a name. To use it again (a log is rotated, and created anew) while the rename is
    lost would remove the renamed file altogether: neither its old nor its new name leads to it. Linux file systems
    keep the file (xfstests generic/341 and generic/342; btrfs commit 56f23fdb calls the contrary a loss of data).
    """
    late: list[int] = []
    still_there: set[str] = set()
    for index, operation, _ in pending:
        changed = {
            operation.other if operation.kind == "link" else operation.path,
            operation.other or operation.path,
        }
        if index not in lost and changed & still_there:
            late.append(index)
        elif index not in lost:
            continue
        if operation.kind == "rename":
            still_there.add(operation.path)
    return late
