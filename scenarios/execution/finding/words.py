"""The changes between two views in words, and a trace short enough to be kept with its finding."""

from typing import Any, Final

from tornpage.scenarios.execution.finding.views import Row
from tornpage.scenarios.model.target import View

_MOST_CHANGES: Final = 8
_LONGEST_TEXT: Final = 160


def changes(before: View, after: View) -> tuple[str, ...]:
    """A line for each key that is new, removed or changed."""
    lines = []
    for key in sorted({*before, *after}, key=str):
        if key not in before:
            lines.append(f"+ {key}: {_value(after[key])}")
        elif key not in after:
            lines.append(f"- {key}")
        elif before[key] != after[key]:
            lines += _change(key, before[key], after[key])
    if len(lines) > _MOST_CHANGES:
        lines[_MOST_CHANGES:] = [f"and {len(lines) - _MOST_CHANGES} more"]
    return tuple(map(short, lines))


def _change(key: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        fields = sorted((field for field in {*before, *after} if before.get(field) != after.get(field)), key=str)
        return [f"{key} {field}: {_text(before.get(field))} → {_text(after.get(field))}" for field in fields]
    return [f"{key}: {_value(before)} → {_value(after)}"]


def _value(value: Any) -> str:
    """A key's value; a field of a record that is None is one without content."""
    return "None" if value is None else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        # Of a new record show the values, not the many empty fields.
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items() if one not in (None, "", 0, [], {}))
    return "nothing" if value is None else str(value)


def short(text: str, longest: int = _LONGEST_TEXT) -> str:
    """The text, cut at `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def short_row(row: Row) -> Row:
    """The row with only the fields that differ, if its sides are records."""
    records: list[dict[str, Any]] = [side for side in row.sides.values() if isinstance(side, dict)]
    if len(records) < len(row.sides) or len(records) < 2:
        return Row(row.key, {name: None if side is None else short(_text(side)) for name, side in row.sides.items()})
    fields = sorted({field for record in records for field in record}, key=str)
    differing = [field for field in fields if any(record.get(field) != records[0].get(field) for record in records)]
    return Row(
        row.key,
        {
            name: short("; ".join(f"{field}: {_text(side.get(field))}" for field in differing))
            for name, side in row.sides.items()
        },
    )
