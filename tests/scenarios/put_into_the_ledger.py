"""Puts a defect into the ledger, and asks whether a script sees it; the defects are in `test_reference_defects_*`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tornpage import faults
from tornpage.scenarios.model.target import Configuration
from tornpage.scenarios.search.scripts import play_script
from tornpage.scenarios.targets.reference.target import Reference

Patch = Callable[[pytest.MonkeyPatch], object]


def wrong_in(script: Iterable[Any], home: Path) -> str:
    """The code of the first check that a script breaks, "" where all hold."""
    with faults.install() as shim, shim.deterministic():
        _, wrong = play_script(Reference(), Configuration(), tuple(script), home / "store")
    return "" if wrong is None else str(wrong[0])


def put(owner: object, name: str, value: object, *, raising: bool = True) -> Patch:
    return lambda patch: patch.setattr(owner, name, value, raising=raising)


def after(owner: object, name: str, change: Callable[[Any], Any]) -> Patch:
    """The function of that name, with another result."""
    original = getattr(owner, name)
    return put(owner, name, lambda *args, **more: change(original(*args, **more)))


def several(*patches: Patch) -> Patch:
    return lambda patch: [one(patch) for one in patches]


def is_seen(defect: tuple[Patch, Callable[[], Any]], home: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the script of a defect breaks with it."""
    patch, script = defect
    patch(monkeypatch)
    return bool(wrong_in(script(), home))
