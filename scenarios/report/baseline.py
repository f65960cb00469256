"""A baseline: known findings that are accepted for a while, so that a gate fails only on new ones.

It is a TOML file that people read and review. Each entry names a check, a target and a fingerprint, and has a reason
and the last day on which it is valid (UTC): after it the finding counts again, and the run reports why. An entry may be
for one configuration only. An entry that matches nothing is reported, so that it can be removed.

The file is parsed strictly: an unknown key, an empty reason or a missing date is an error. New entries are appended, so
comments stay where they are.
"""

import datetime
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from tornpage.scenarios.model.events import Finding
from tornpage.scenarios.model.fingerprint import fingerprint, in_words
from tornpage.scenarios.model.judging.checks import CHECKS
from tornpage.scenarios.run.record import FoundRecord, RunRecord

FORMAT: Final = "tornpage-baseline"
VERSION: Final = 1
LARGEST_FILE_BYTES: Final = 4_194_304
_HEAD: Final = f"""\
# Known findings that are accepted for a while: see docs/ci.md of tornpage.
format = "{FORMAT}"
version = {VERSION}
"""


class BaselineError(ValueError):
    """An unusable baseline: the error, and what to do."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One accepted finding. `expires` is its last valid day; `shows` is the call and its cause in words."""

    check: str
    target: str
    fingerprint: str
    reason: str
    expires: datetime.date
    configuration: str | None = None
    shows: str = ""

    def matches(self, finding: Finding) -> bool:
        """Whether it is about that finding."""
        scenario = finding.scenario
        return (
            (self.check, self.target) == (finding.code, scenario.target)
            and self.configuration in (None, str(scenario.configuration))
            and self.fingerprint == fingerprint(finding.code, scenario)
        )

    def __str__(self) -> str:
        at = f" at {self.configuration}" if self.configuration else ""
        return f"{self.check} on {self.target}{at} ({self.shows or self.fingerprint})"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    version: int
    accepted: tuple[Entry, ...] = ()


class Baseline:
    """The entries of a file, on a day."""

    def __init__(self, entries: Iterable[Entry], today: datetime.date) -> None:
        self.entries = tuple(entries)
        self._today = today
        self._met: set[Entry] = set()

    @classmethod
    def read(cls, path: Path, today: datetime.date) -> "Baseline":
        """Read a file; raises `BaselineError` with the reason and what to do."""
        return cls(_read(path), today)

    def accepts(self, finding: Finding) -> str:
        """The reason why a finding is accepted; "" if it is not, or no longer."""
        matching = [entry for entry in self.entries if entry.matches(finding)]
        self._met.update(matching)
        valid = [entry for entry in matching if entry.expires >= self._today]
        return f"{valid[0].reason} (until {valid[0].expires})" if valid else ""

    def notes(self, target: str, *, whole: bool) -> tuple[str, ...]:
        """After a run on that target: which entries have expired and were met again, and which were not met at all.

        Only a `whole` run, every search in every configuration to its end, can prove that an entry matches nothing.
        """
        valid = {_key(entry) for entry in self.entries if entry.expires >= self._today}
        old = [entry for entry in self.entries if entry.expires < self._today]
        expired = [entry for entry in old if entry in self._met and _key(entry) not in valid]
        # One configuration may have been enough to see it: of entries for several, none is reported as unused then.
        met = {_key(entry)[:3] for entry in self._met}
        unmet = [one for one in self.entries if whole and one.target == target and _key(one)[:3] not in met]
        return (
            *(f"expired on {entry.expires}, and fails again: {entry}. It was: {entry.reason}" for entry in expired),
            *(f"matches nothing in this run: {entry}. If it is fixed, remove the entry" for entry in unmet),
        )


def _key(entry: Entry) -> tuple[str, str, str, str | None]:
    return entry.check, entry.target, entry.fingerprint, entry.configuration


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise BaselineError(f"cannot read the baseline {path}: {error.strerror or error}") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise BaselineError(f"{path} is larger than {LARGEST_FILE_BYTES:,} bytes, which no baseline is")
    try:
        found = msgspec.toml.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BaselineError(f"{path} is not a baseline: {error}") from error
    if (found.format, found.version) != (FORMAT, VERSION):
        raise BaselineError(f"{path} is {found.format!r}, version {found.version}; this tornpage reads {FORMAT}, 1")
    for number, entry in enumerate(found.accepted, start=1):
        if entry.check not in CHECKS:
            raise BaselineError(f"{path}: entry {number} accepts {entry.check!r}, which is not a check")
        if not entry.reason.strip():
            raise BaselineError(f"{path}: entry {number} ({entry}) has no reason; say why it is accepted")
    return found.accepted


def extend(path: Path, record: RunRecord, reason: str, expires: datetime.date) -> tuple[Entry, ...]:
    """Append the findings of a run to a baseline, and return the new entries.

    Raises `BaselineError` if the existing file is not a baseline, and OSError if it can't be written.
    """
    known = _read(path) if path.exists() else ()
    keys = {_key(entry) for entry in known if entry.expires >= expires}
    new: list[Entry] = []
    for found in record.findings:
        entry = entry_of(found, reason, expires)
        if _key(entry) not in keys:
            keys.add(_key(entry))
            new.append(entry)
    text = path.read_text(encoding="utf-8") if known or path.exists() else _HEAD
    made = text.rstrip("\n") + "\n" + "".join(map(_as_toml, new))
    try:
        msgspec.toml.decode(made, type=_File)
    except msgspec.DecodeError as error:
        raise BaselineError(f"{path} can't be added to: write its entries as [[accepted]]; nothing changed") from error
    _replace(path, made)
    return tuple(new)


def entry_of(found: FoundRecord, reason: str, expires: datetime.date) -> Entry:
    """The entry that accepts a finding, in every configuration."""
    return Entry(
        check=found.check,
        target=found.scenario.target,
        fingerprint=fingerprint(found.check, found.scenario),
        reason=reason,
        expires=expires,
        shows=in_words(found.scenario),
    )


def _as_toml(entry: Entry) -> str:
    names = ("check", "target", "configuration", "fingerprint", "shows", "reason")
    lines = [f"{name} = {_quoted(value)}" for name in names if (value := getattr(entry, name))]
    return "\n".join(["", "[[accepted]]", *lines, f"expires = {entry.expires}", ""])


def _quoted(text: str) -> str:
    """A basic string of TOML: it escapes like JSON, and also DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _replace(path: Path, text: str) -> None:
    """Replace the file as a whole: half a baseline could accept too much."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        made.write_text(text, encoding="utf-8")
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
