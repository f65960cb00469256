"""``io.FileIO``, the raw file beneath every file that ``open`` returns: open, write, truncate, close.

Buffered and text files, ``Path.write_text``, `tempfile`, `zipfile` and others all call it, and so do files that
were opened before the watch began. It opens through ``os.open``, which is watched, too.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from tornpage.faults.files.functions import closing, path_of, truncating, writing
from tornpage.faults.files.watch import WATCH

Function = Callable[..., Any]


def _opener(path: Any, flags: int) -> int:
    return os.open(path, flags, 0o666)


def _init(original: Function, file: Any, name: Any, mode: str = "r", closefd: bool = True, opener: Any = None) -> None:
    if opener is None and not isinstance(name, int) and closefd and not WATCH.is_idle:
        opener = _opener
    original(file, name, mode, closefd, opener)


def _write(original: Function, file: Any, data: Any, /) -> int | None:
    if file.closed or not file.writable():
        return original(file, data)  # type: ignore[no-any-return]
    return writing(file.fileno(), data, lambda some: original(file, some))


def _truncate(original: Function, file: Any, size: int | None = None, /) -> int:
    if file.closed:
        return original(file, size)  # type: ignore[no-any-return]
    wanted = file.tell() if size is None else size
    return truncating(path_of(file.fileno()), wanted, lambda: original(file, size))  # type: ignore[no-any-return]


def _close(original: Function, file: Any, /) -> None:
    if file.closed or not file.closefd:
        original(file)
    else:
        closing(file.fileno(), lambda: original(file))


INIT: Final = _init
BODIES: Final[dict[str, Function]] = {"write": _write, "truncate": _truncate, "close": _close}
