"""The messages between the harness and a program: JSON objects, one a line, over standard input and output.

The harness sends requests, the program one answer to each and nothing else on its standard output. The requests:
`describe` (first, in each process), `open`, `call`, `view`, `close`. The answers: *done*, *refused* (by the store's own
rules: nothing was tried) and *failed* (with a message; the change may or may not have been made).

``any_language.schema.json`` beside this module is the same as a JSON Schema (2020-12); a test keeps both equal.
Everything is parsed strictly: an unknown field is an error, not an extension. `PROTOCOL` is the version; it is raised
when a program for the old one would be misunderstood.
"""

import inspect
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from tornpage.scenarios.model.target import Action

PROTOCOL: Final = 1
SCHEMA_FILE: Final = Path(__file__).with_name("any_language.schema.json")


class Describe(msgspec.Struct, frozen=True, tag_field="do", tag="describe"):
    """The first request in each process: describe the store. `protocol` is the version that the harness speaks."""

    protocol: int = PROTOCOL


class Open(msgspec.Struct, frozen=True, tag_field="do", tag="open"):
    """Open the store in `directory`, which exists, and may be empty or hold the files of an earlier process.

    `journal_mode` is wal, delete, truncate or persist, `synchronous` OFF, NORMAL, FULL or EXTRA. `now_ms` is the time.
    The process must forget everything about a store that it had open before.
    """

    directory: str
    journal_mode: str
    synchronous: str
    now_ms: int


class Call(msgspec.Struct, frozen=True, tag_field="do", tag="call"):
    """Make one call on the open store. `now_ms` is the time, in milliseconds since 1970."""

    action: str
    args: dict[str, Any]
    now_ms: int


class Look(msgspec.Struct, frozen=True, tag_field="do", tag="view"):
    """Return the store's current view, from its memory, as it would answer its own callers."""


class Close(msgspec.Struct, frozen=True, tag_field="do", tag="close"):
    """Close the store and its files; the process keeps running and may be asked to open another one."""


Request = Describe | Open | Call | Look | Close


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program's description of its store.

    `database` is the SQLite file's path inside a directory, such as ``data/store.sqlite``; without it the answer to
    each `open` has the path. `attached` are further databases of the store, by the name under which `rows` read them:
    ``{"users": "data/users.sqlite"}`` for ``SELECT id, name FROM users.people``. `calls` are tried in this order;
    `beat` is a call that adds one key to the view. `rows` are queries that read the same view from the tables: the
    first column is the key, a second alone the value, and of more columns an object by their names.

    `answers_within_s`: the time limit of an answer. `opens_once`: each process opens one store and is then ended.
    `dies_on_errors`: a process may end by itself after an error of the system. `refuses`: names of calls that the store
    refuses on purpose, also without a fault. `beat_touches`: the beginnings of keys that the beat changes beside its
    own.
    """

    calls: Annotated[tuple[Action, ...], msgspec.Meta(min_length=1)]
    beat: Action
    rows: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    database: str = ""
    attached: dict[str, str] = {}
    title: str = "a program that speaks JSON lines"
    configurations: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("wal/FULL",)
    unpromised: dict[str, str | dict[str, str]] = {}
    answers_within_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    opens_once: bool = False
    dies_on_errors: bool = False
    refuses: tuple[str, ...] = ()
    beat_touches: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()


class Done(msgspec.Struct, frozen=True, tag_field="answer", tag="done", forbid_unknown_fields=True):
    """The call has succeeded, and the caller may rely on it.

    `view` answers a `view`, and nothing else. `value` is the return value of a `call`, if it has one: it is compared
    with that of the same call without a fault. `database` answers an `open`, if the description leaves the choice of
    the file to the program: the path inside the directory. `description` answers `describe`, with `protocol`, the
    version that the program speaks, and `pid`, the process that does the I/O, if that is not the one that was started.
    """

    view: dict[str, Any] | None = None
    value: Any = None
    database: str | None = None
    description: Description | None = None
    protocol: int | None = None
    pid: Annotated[int, msgspec.Meta(gt=0)] | None = None


class Refused(msgspec.Struct, frozen=True, tag_field="answer", tag="refused", forbid_unknown_fields=True):
    """The store refuses for a reason of its own, such as a missing key: nothing was tried."""

    message: str


class Failed(msgspec.Struct, frozen=True, tag_field="answer", tag="failed", forbid_unknown_fields=True):
    """It failed. `change` is the store's statement to its callers on the change; without it, there is none."""

    message: str
    change: Literal["unchanged", "unknown"] | None = None


Answer = Done | Refused | Failed


def schema() -> dict[str, Any]:
    """Requests and answers as a JSON Schema: a program reads `#/$defs/Request`, and writes `…/Answer`."""
    (requests, answers), components = msgspec.json.schema_components((Request, Answer), ref_template="#/$defs/{name}")
    for component in components.values():
        # How docstrings are indented differs between versions of Python.
        component["description"] = inspect.cleandoc(component["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"tornpage: any language, protocol {PROTOCOL}",
        "$comment": "One object a line: the harness writes a Request, the program answers each with one Answer.",
        "anyOf": [{"$ref": "#/$defs/Request"}, {"$ref": "#/$defs/Answer"}],
        "$defs": {"Request": requests, "Answer": answers, **components},
    }
