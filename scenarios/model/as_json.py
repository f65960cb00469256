"""Views as JSON, whatever values a store shows: a finding about a path or undecodable text has to be written, too.

Values that JSON can hold stay as they are. Of the others the parts are kept, and what has no parts becomes text: what
`as_data` makes of it, else its `repr`. Two views are never compared in this form.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from tornpage.scenarios.model.judging.answers import as_data

_UNFIT: Final = (TypeError, ValueError, RecursionError)
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def plain(value: Any) -> Any:
    """The value, with everything in it that JSON can't hold in words."""
    if _fits(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {printable(key): plain(one) for key, one in value.items()}
    with contextlib.suppress(*_UNFIT):
        if _fits(data := as_data(value)):
            return data
    return printable(value if isinstance(value, str) else repr(value))


def in_order(value: Any) -> str:
    """The value as JSON text that is the same in every run, whatever the order of keys and members."""
    try:
        return msgspec.json.encode(value, order="deterministic").decode()
    except _UNFIT:
        return msgspec.json.encode(plain(value), order="deterministic").decode()


def _fits(value: Any) -> bool:
    try:
        msgspec.json.encode(value, order="deterministic")
    except _UNFIT:
        return False
    return True


def for_a_file(value: Any) -> Any:
    """What stands in a file for a value that JSON does not have; a hook of msgspec's encoders."""
    try:
        return as_data(value)
    except _UNFIT:
        return repr(value)


def writable(value: _Struct) -> _Struct:
    """A structure of texts and plain values, with the surrogates in it escaped, which no file can hold."""
    try:
        msgspec.json.encode(value, enc_hook=for_a_file)
    except UnicodeEncodeError:
        return msgspec.convert(_escaped(msgspec.to_builtins(value, enc_hook=for_a_file)), type(value))
    return value


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(one) for key, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> str:
    """The text with control characters and surrogates escaped: terminals and CI systems interpret some of them."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
