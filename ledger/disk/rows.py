"""Records as rows: one description per table, its columns derived from the fields of the record.

The transaction works with a `Table` (SQL text, the key, plain tuples); a `RecordTable` adds the conversion between rows
and records. A row that doesn't decode (an unknown enumeration value, broken JSON, a wrong type, a padded key) raises
`Unreadable`, which readers of many rows turn into a `Quarantined` entry so that the others load.

Not covered: which values make sense together; the rules check that.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, islice
from operator import itemgetter, ne
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec.structs import astuple

from tornpage.ledger.errors import StoreCorrupt
from tornpage.ledger.records import DeliveryState, JsonValue, Task
from tornpage.ledger.rules.times import ordered
from tornpage.ledger.rules.values import DEEPEST_JSON, depth

Row = tuple[Any, ...]
"""The values of one row in the order of `Table.columns`: None, int, float, str (or a str enumeration) and bytes."""

_BY_KEY: Final = '" = ?'
_UNDECODABLE: Final = "Could not decode to UTF-8"
_CHUNK: Final = 256
"""How many rows are decoded at once: enough that a call costs nothing, few enough to stay in a processor's cache."""

# TypeError: a JSON column that holds a number or a blob of the wrong kind. RecursionError: nested too deeply.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError)

RecordT = TypeVar("RecordT", bound=msgspec.Struct)


class Quarantined(msgspec.Struct, frozen=True):
    """A row that can't be read: its table, its key if it is known, and the reason."""

    table: str
    key: str
    reason: str


class Unreadable(StoreCorrupt):
    """One row does not decode into its record; the rest of the database may be fine."""


_BOUND_AS_THEY_ARE: Final = frozenset({str, int, float, bytes, type(None)})


def fetch(connection: Any, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """All rows of a query; text that is not UTF-8 is returned as bytes, so that only its own row is unreadable.

    Such bytes as a key find their row again.
    """
    if parameters and type(parameters[-1]) is bytes and statement.endswith(_BY_KEY):
        # They may have been a blob, too.
        statement = f'{statement.removesuffix(_BY_KEY)}" IN (?, CAST(? AS TEXT))'
        parameters = (*parameters, parameters[-1])
    try:
        rows: list[Row] = connection.execute(statement, parameters).fetchall()
    except Exception as error:
        if not _is_undecodable(error):
            raise
        kept = connection.text_factory
        connection.text_factory = _text_or_bytes
        try:
            rows = connection.execute(statement, parameters).fetchall()
        finally:  # no fault: no search stores a text that is no UTF-8.
            connection.text_factory = kept
    return rows


def chunks(connection: Any, statement: str) -> Iterator[list[Row]]:
    """All rows of a query in chunks, with the texts as from `fetch`; the caller holds a read transaction.

    Rows that are released early take half the time, and half the memory, of a list of all rows.
    """
    given = 0
    try:
        cursor = iter(connection.execute(statement))
        while chunk := list(islice(cursor, _CHUNK)):
            yield chunk
            given += len(chunk)
    except Exception as error:
        if not _is_undecodable(error):
            raise
        # The same rows in the same order, since the transaction is the same.
        yield fetch(connection, statement)[given:]


def _is_undecodable(error: Exception) -> bool:
    """Whether a text is not UTF-8: the driver's own error and not SQLite's, so it has no result code."""
    return getattr(error, "sqlite_errorcode", None) is None and _UNDECODABLE in str(error)


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:  # no fault: no search stores a text that is no UTF-8.
        return raw


class Table:
    """One table: its name, its key column (text, unique) and its other columns, as SQL.

    Rows are kept in the order of their insertion by an integer primary key that is no column here: it survives
    updates, VACUUM and reloads, and breaks ties of lists the same way in memory and on disk.
    """

    def __init__(self, name: str, columns: Sequence[str], key: str, order: str = "insertion") -> None:
        self.name: Final = name
        self.columns: Final = tuple(columns)
        self.key: Final = key
        self.key_index: Final = self.columns.index(key)
        names = ", ".join(f'"{column}"' for column in self.columns)
        marks = ", ".join("?" * len(self.columns))
        # S608: every name in these texts comes from a record's field names, none from a caller.
        self.select_all: Final = f'SELECT {names} FROM "{name}" ORDER BY "{order}"'  # noqa: S608
        self.select_one: Final = f'SELECT {names} FROM "{name}" WHERE "{key}" = ?'  # noqa: S608
        self.select_where: Final = f'SELECT {names} FROM "{name}" WHERE {{where}} ORDER BY "{order}"'  # noqa: S608
        self.insert: Final = f'INSERT INTO "{name}" ({names}) VALUES ({marks})'  # noqa: S608
        self.delete: Final = f'DELETE FROM "{name}" WHERE "{key}" = ?'  # noqa: S608
        self._positions = range(len(self.columns))
        # Prebuilt texts are also found faster in the driver's cache of prepared statements.
        self._updates: dict[tuple[int, ...], tuple[str, itemgetter[tuple[Any, ...]]]] = {}
        self._matching: dict[str, str] = {}

    def update(self, before: Row, after: Row) -> tuple[str, Sequence[Any]]:
        """The UPDATE from one row to another with the same key, and its parameters; empty text if they are equal.

        Only columns that differ are set: an index over other columns is not touched, which saves the pages that a full
        UPDATE would write.
        """
        changed = tuple(compress(self._positions, map(ne, before, after)))
        known = self._updates.get(changed)
        if known is None:
            if not changed:
                return "", ()
            settings = ", ".join(f'"{self.columns[i]}" = ?' for i in changed)
            text = f'UPDATE "{self.name}" SET {settings} WHERE "{self.key}" = ?'  # noqa: S608 - names of our own.
            known = self._updates[changed] = text, itemgetter(*changed, self.key_index)
        text, bound_cells = known
        return text, self.parameters(bound_cells(after))

    @staticmethod
    def parameters(cells: Sequence[Any]) -> Sequence[Any]:
        """Cells as a statement binds them: drivers bind exact types fastest, and some refuse subclasses of str."""
        if _BOUND_AS_THEY_ARE.issuperset(map(type, cells)):
            return cells
        plain: Sequence[Any] = msgspec.to_builtins(cells, builtin_types=(bytes,))
        return plain

    def matching(self, where: str) -> str:
        """The SELECT of the rows that match a condition."""
        text = self._matching.get(where)
        if text is None:
            text = self._matching[where] = self.select_where.format(where=where)
        return text


class RecordTable(Table, Generic[RecordT]):
    """A table whose rows are records of one type.

    `json_columns` hold JSON text, `bool_columns` 0 or 1. `normalise` is applied to every record read, so that memory,
    fresh reads and restores see the same; it may refuse one by a `msgspec.ValidationError`.
    """

    def __init__(
        self,
        name: str,
        record: type[RecordT],
        key: str,
        *,
        json_columns: Sequence[str] = (),
        bool_columns: Sequence[str] = (),
        normalise: Callable[[RecordT], RecordT] | None = None,
    ) -> None:
        super().__init__(name, [field.name for field in msgspec.structs.fields(record)], key)
        self.record: Final = record
        # The same record decoded from a sequence of cells: a third of the time of decoding from a mapping.
        positional = msgspec.defstruct(f"{record.__name__}Cells", [], bases=(record,), frozen=True, array_like=True)
        self._many_cells: Any = list[positional]  # type: ignore[valid-type]  # A type that is made at run time.
        kinds = {parameter.kind for parameter in inspect.signature(record).parameters.values()}
        self._is_keyword_only: Final = inspect.Parameter.KEYWORD_ONLY in kinds
        self._json = tuple(self.columns.index(column) for column in json_columns)
        self._bool = tuple(self.columns.index(column) for column in bool_columns)
        self._normalise = normalise

    def encode(self, record: RecordT) -> Row:
        """The record as a row; JSON columns as compact text, None as NULL."""
        row = astuple(record)
        if not self._json:
            return row
        cells = list(row)
        for i in self._json:
            if cells[i] is not None:
                cells[i] = msgspec.json.encode(cells[i]).decode()
        return tuple(cells)

    def decode(self, row: Row) -> RecordT:
        """The row as a record. Raises `Unreadable` with the reason.

        A subclass may read more rows than this does, but none otherwise: rows decoded together are only given to it
        where one of them can't be read.
        """
        try:
            record = msgspec.convert(dict(zip(self.columns, self._as_read(row), strict=True)), self.record)
            return self._normalise(record) if self._normalise is not None else record
        # no fault: no search damages a row.
        except _UNREADABLE as error:
            raise Unreadable(f"{self.name} {row[self.key_index]!r} can't be read: {error}") from error

    def decode_all(self, rows: Sequence[Row]) -> tuple[list[RecordT], list[Quarantined]]:
        """All readable rows as records, in order, and the others as quarantine entries."""
        return self.decode_chunks(rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))

    def decode_chunks(self, several: Iterable[Sequence[Row]]) -> tuple[list[RecordT], list[Quarantined]]:
        """As `decode_all`, for rows in chunks."""
        records: list[RecordT] = []
        quarantined: list[Quarantined] = []
        for rows in several:
            try:
                records += self._decode_together(rows)
            except _UNREADABLE:  # no fault: no search damages a row.
                self._decode_each(rows, records, quarantined)
        return records, quarantined

    def _decode_together(self, rows: Sequence[Row]) -> list[RecordT]:
        """Decode rows with one call. Raises one of `_UNREADABLE` if one of them isn't readable."""
        cells: Sequence[Sequence[Any]] = rows
        if self._json or self._bool:
            cells = [self._as_read(row) for row in rows]
        found = msgspec.convert(cells, self._many_cells)
        if self._is_keyword_only:
            # Takes twice the time of decoding by position, and a third of that by names and cells.
            records: list[RecordT] = msgspec.convert(found, list[self.record], from_attributes=True)  # type: ignore[name-defined]
        else:
            records = [self.record(*astuple(one)) for one in found]
        normalise = self._normalise
        return records if normalise is None else [normalise(record) for record in records]

    def _decode_each(self, rows: Sequence[Row], records: list[RecordT], quarantined: list[Quarantined]) -> None:
        """Decode row by row, so that only the unreadable ones are quarantined."""
        for row in rows:
            try:
                records.append(self.decode(row))
            except Unreadable as error:  # no fault: no search damages a row.
                reason = str(error.__cause__)
                quarantined.append(Quarantined(self.name, str(row[self.key_index]), reason))

    def _as_read(self, row: Row) -> list[Any]:
        """The cells, with JSON and boolean values in the record's form."""
        cells = list(row)
        for i in self._json:
            if row[i] is not None:
                cells[i] = parsed(row[i])
        for i in self._bool:
            if row[i] in (0, 1):
                cells[i] = bool(row[i])
        return cells


def parsed(text: str | bytes) -> JsonValue:
    """The JSON value in a cell. Raises one of msgspec's errors, also for one nested deeper than a caller may give."""
    value = msgspec.json.decode(text)
    refuse_deep(value, len(text))
    return value


def refuse_deep(value: JsonValue, length: int = 2 * DEEPEST_JSON + 1) -> None:
    """Raise `msgspec.ValidationError` for a value of so long a text that is nested deeper than a caller may give."""
    if length > 2 * DEEPEST_JSON and depth(value) > DEEPEST_JSON:
        raise msgspec.ValidationError(f"it is nested more than {DEEPEST_JSON} deep")


def refuse_padded(owner_key: str, run_id: str | None) -> None:
    """Raise `msgspec.ValidationError` for keys with white space around them, by which no query finds their row."""
    if owner_key.strip() != owner_key or (run_id is not None and run_id.strip() != run_id):
        raise msgspec.ValidationError("there is white space around its owner_key or its run_id")


def _as_read(task: Task) -> Task:
    refuse_padded(task.owner_key, task.run_id)
    return ordered(task)


TASKS: Final = RecordTable("tasks", Task, "task_id", normalise=_as_read)
DELIVERIES: Final = RecordTable("task_delivery_state", DeliveryState, "task_id", json_columns=("requester_origin",))
