"""What the harness and a program say to each other: JSON objects, one a line, over standard input and output.

The harness asks, the program answers, one answer to each request and nothing else on its standard output. What can be
asked: `describe` (first, in each process), `open`, `call`, `view`, `close`. What can be answered: *done*, *refused*
(the store's own no: nothing was tried) and *failed* (with a message; the change may or may not have been made).

``any_language.schema.json`` beside this module is the same as a JSON Schema (2020-12); a test holds the two together.
Everything is read strictly: an unknown field is a mistake, not an extension. `PROTOCOL` is the version; it
grows when a program that keeps to the old one would be misunderstood.
"""

import inspect
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from tornpage.scenarios.model.target import Action

PROTOCOL: Final = 1
SCHEMA_FILE: Final = Path(__file__).with_name("any_language.schema.json")


class Describe(msgspec.Struct, frozen=True, tag_field="do", tag="describe"):
    """The first request in each process: say what you are. `protocol` is the version that the harness speaks."""

    protocol: int = PROTOCOL


class Open(msgspec.Struct, frozen=True, tag_field="do", tag="open"):
    """Open the store in `directory`, which exists, and may be empty or hold what an earlier process has left.

    `journal_mode` is wal, delete, truncate or persist, `synchronous` OFF, NORMAL, FULL or EXTRA. `now_ms` is the time.
    Whatever the process knew of a store that it had open before is forgotten.
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
    """Say what the store answers now, from its memory, as it would answer its own callers."""


class Close(msgspec.Struct, frozen=True, tag_field="do", tag="close"):
    """Close the store and let go of its files; the process lives on and may be asked to open another one."""


Request = Describe | Open | Call | Look | Close


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a program says of its store.

    `database` is the SQLite file's path inside a directory, such as ``data/store.sqlite``; without it the answer to
    each `open` says where it is. `attached` are further databases of the store, by the name under which `rows` read
    them: ``{"users": "data/users.sqlite"}`` for ``SELECT id, name FROM users.people``. `calls` are tried in this order;
    `beat` is a call that adds one key to the view. `rows` are queries that read the same view from the tables: the
    first column is the key, a second alone the value, and of more columns an object by their names.

    `answers_within_s`: how long an answer may take. `opens_once`: each process opens one store and is then ended.
    `dies_on_errors`: a process that ends by itself when the system fails it is as it should be. `refuses`: names of
    calls that the store says no to on purpose, also without a fault.
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


class Done(msgspec.Struct, frozen=True, tag_field="answer", tag="done", forbid_unknown_fields=True):
    """It is done, and the caller may rely on it.

    `view` answers a `view`, and nothing else. `value` is what a `call` returns to its caller, where it returns
    something: it is compared with what the same call returns without a fault. `database` answers an `open`, where the
    description leaves it to the program which file that is: the path inside the directory. `description` answers
    `describe`, with `protocol`, the version that the program speaks, and `pid`, the process that does the I/O, where
    that is not the one that was started.
    """

    view: dict[str, Any] | None = None
    value: Any = None
    database: str | None = None
    description: Description | None = None
    protocol: int | None = None
    pid: Annotated[int, msgspec.Meta(gt=0)] | None = None


class Refused(msgspec.Struct, frozen=True, tag_field="answer", tag="refused", forbid_unknown_fields=True):
    """The store says no for a reason of its own, such as a key that is not there: nothing was tried."""

    message: str


class Failed(msgspec.Struct, frozen=True, tag_field="answer", tag="failed", forbid_unknown_fields=True):
    """It failed. `change` is what the store tells its callers of the change; without it, it says nothing."""

    message: str
    change: Literal["unchanged", "unknown"] | None = None


Answer = Done | Refused | Failed


def schema() -> dict[str, Any]:
    """Requests and answers as a JSON Schema: what a program reads is `#/$defs/Request`, what it writes `…/Answer`."""
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
