"""``--device NAME=VALUE``: the guarantees of a disk, and of the system above it, as command-line text."""

from typing import Any, Final

import click

# The name on the command line, the field of a `faults.Device`, and its allowed words; none: a number of bytes.
_SETTINGS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "sector": ("sector_bytes", ()),
    "powersafe-overwrite": ("powersafe_overwrite", ("yes", "no")),
    "atomic-write": ("atomic_write_bytes", ()),
    "page": ("page_bytes", ()),
    "sized-first": ("sized_first", ("yes", "no")),
    "failed-sync": ("failed_sync", ("keeps", "drops")),
}


class DeviceSetting(click.ParamType[tuple[str, Any]]):
    """One property of a device, such as failed-sync=drops."""

    name = "device setting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Parse it as a field of `Device` and its value, or fail with the allowed ones."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).partition("=")
        if name not in _SETTINGS:
            allowed = ", ".join(f"{one}={'|'.join(words) or 'BYTES'}" for one, (_, words) in _SETTINGS.items())
            self.fail(f"{value!r} is not a property of a device; known: {allowed}", param, ctx)
        field, words = _SETTINGS[name]
        if words and text in words:
            return field, text == "yes" if "yes" in words else text
        if not words and text.isdecimal() and int(text) >= (field == "sector_bytes"):
            return field, int(text)
        return self.fail(f"{name} is {text!r}; give {' or '.join(words) or 'a number of bytes'}", param, ctx)
