"""A first target for a store, written from what was observed of it and checked against the contract.

Method. The store's data is searched among its attributes and its methods without arguments: a mapping or a collection
that has, right after the calls, the values of two columns or one column of a table. For a table without such data, the
view is read through the store's own connection, or, if it keeps none, from the file. Each proposal, the best first, is
compiled to a module and checked against the contract as in any search; the first that passes is the target.

Not covered: the data that a view of some tables leaves out; the written file says so.
"""

import itertools
import re
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final, NamedTuple

import msgspec

from tornpage.scenarios.execution.preflight.contract import require_contract
from tornpage.scenarios.execution.preflight.rules import NotEmptyError
from tornpage.scenarios.model.target import Action, Configuration, TargetError, View
from tornpage.scenarios.run.first_steps.answers import Answer, quoted, views
from tornpage.scenarios.run.first_steps.arguments import bounds_in
from tornpage.scenarios.run.first_steps.bounds import statement
from tornpage.scenarios.run.first_steps.left_out import READS_BOTH, WRITE_BEHIND, NotLearned, not_read
from tornpage.scenarios.run.first_steps.observed import Beat, Observed
from tornpage.scenarios.run.first_steps.tables import GIVEN, Table, grouped
from tornpage.scenarios.run.first_steps.validated import is_a_copy, is_put_right_when_read
from tornpage.scenarios.run.first_steps.values import imports_of, is_plain, literal

_MOST_PROPOSALS: Final = 24
_MOST_FILES: Final = 3
# What the store of a module's functions is called in its target, which makes it by a function of this name.
_FUNCTIONS: Final = "functions"
# Stands for the target's own module in its text.
_HERE: Final = "THIS_MODULE"


class Written(msgspec.Struct, frozen=True):
    """A target's source, its class, and notes on it, a line each."""

    text: str
    name: str
    notes: tuple[str, ...]


class _Proposal(NamedTuple):
    """The expression of a connection that reads tables, the beat, the view in two parts, and `beat_touches`."""

    source: str
    beat: Action
    answers: list[Answer]
    rest: list[Table]
    touches: tuple[str, ...]
    # What a new store shows, which view and rows leave out.
    begins_with: View = MappingProxyType({})

    def hides(self, observed: Observed) -> bool:
        """Whether it leaves a table out."""
        return len(self.answers) + len(self.rest) < len(observed.tables)


def write_target(observed: Observed, module: str, store: str, directory: Path, *, here: str) -> Written:
    """The first proposal that keeps the contract, tried below `directory`; raises `NotLearned`.

    `store` is the name of what makes it in `module`; "" for the module's functions.

    `here` is the name of the target's own module.

    Where none does, those without a lower limit in memory, those without the calls that take two keys, without those
    for a second key, then without those that overwrite something, those with one key for several rows, and those of a
    store that a restart changes.
    """
    choices = [observed]
    if observed.lowered:
        observed = msgspec.structs.replace(observed, lowered="")
        choices.append(observed)
    if observed.both_ways:
        choices.append(msgspec.structs.replace(observed, calls=observed.calls[: -observed.both_ways]))
    for more in filter(None, (observed.second, observed.overwriting)):
        fewer = tuple(one for one in choices[-1].calls if one not in more)
        choices.append(msgspec.structs.replace(choices[-1], calls=fewer))
    # A call may add several rows to each table.
    if (tables := tuple(map(grouped, observed.tables))) != observed.tables:
        choices += [msgspec.structs.replace(one, tables=tables) for one in (observed, choices[-1])]
    problem: NotLearned | None = None
    for number, (restores, one) in enumerate(itertools.product((True, False), choices)):
        try:
            found = _first_that_holds(one, module, store, directory / f"choice-{number}", restores=restores)
            return msgspec.structs.replace(found, text=found.text.replace(_HERE, here))
        except NotLearned as error:
            problem = problem or error
    raise problem or NotLearned("nothing was observed")


def _first_that_holds(observed: Observed, module: str, store: str, directory: Path, *, restores: bool) -> Written:
    problems: list[str] = []
    # A store that connects at its first call has no connection yet when its view is looked at: then the file is read.
    sources = [f"store.{observed.connection}", ""] if observed.connection else [""]
    proposals = (
        _Proposal(source, beat.action, answers, rest, touches)
        for source, beat, (seen, rest) in itertools.product(sources, observed.beats, views(observed))
        for answers in _shown(seen, source)
        for touches in _touched(beat, {*(answer.table.name for answer in seen), *(table.name for table in rest)})
    )
    # What the store itself shows comes first, then views of every table, then beats that change one table.
    ordered = sorted(proposals, key=lambda one: (not one.answers, one.hides(observed), bool(one.touches)))
    failing: list[Action] = []
    for proposal in ordered:
        # A call that needs what is not there is no beat in any of them: the others are worth a try.
        if proposal.beat in failing or len(problems) == _MOST_PROPOSALS:
            continue
        home = directory / f"proposal-{len(problems)}"
        try:
            return _that_holds(observed, module, store, proposal, home, restores=restores)
        except TargetError as error:
            problems.append(str(error))
            failing += [proposal.beat] if f"{proposal.beat} fails without any fault" in str(error) else []
    # A beat that fails says nothing of the others, and one that doesn't suit little.
    failed = [f"{beat} fails without any fault" for beat in failing]
    worst = min(
        problems or ["nothing adds exactly one row"],
        key=lambda one: 2 if any(part in one for part in failed) else int(" the beat " in one),
    )
    beside = not_read(observed.other_databases)
    # A call without arguments has nothing of its own to write.
    bare = [beat.action for beat in observed.beats if not beat.action.args]
    later = f"; if {bare[0]} writes what other calls have left, {WRITE_BEHIND}" if bare else ""
    raise NotLearned(f"no proposal keeps the contract of view and rows; one failed with: {worst}{later}{beside}")


def _that_holds(
    observed: Observed, module: str, store: str, proposal: _Proposal, home: Path, *, restores: bool
) -> Written:
    """The proposal as a target that keeps the contract; raises `TargetError`.

    What opening itself writes is left out of its view.
    """
    written = _written(observed, module, store, proposal)
    over_rows = [answer.source for answer in proposal.answers if answer.is_over_rows]
    try:
        _require(written, observed, home, restores=restores, over_rows=over_rows)
    except NotEmptyError as error:
        if not is_plain(dict(error.view)):
            raise
        written = _written(observed, module, store, proposal._replace(begins_with=error.view))
        _require(written, observed, home.with_name(f"{home.name}-new"), restores=restores, over_rows=over_rows)
    return written


def _touched(beat: Beat, shown: Container[str]) -> Iterator[tuple[str, ...]]:
    """What the beat may change beside its one key, for each table that may have that key."""
    changed = [name for name in beat.tables if name in shown]
    if len(changed) < 2:
        yield ()
        return
    for own in beat.tables[: beat.one_row]:
        if own in changed:
            yield tuple(f"{name}/" for name in changed if name != own)


def _shown(seen: list[Answer], source: str) -> Iterator[list[Answer]]:
    """The answers with the columns that they leave out, as they are, and over the rows."""
    if seen and source:
        if (whole := [_with_other_columns(one, source) for one in seen]) != seen:
            yield whole
        yield seen
        yield [_over_the_rows(one, source) for one in seen]
    else:
        yield seen


def _with_other_columns(answer: Answer, source: str) -> Answer:
    """The answer beside the columns of its table that it leaves out, but for the key; the same if there are none."""
    table, read = answer.table, re.search(r"SELECT (.+?) FROM ", answer.rows)
    shown = read[1].split(", ") if read else []
    others = [one for one in map(quoted, table.columns) if one not in {*shown, *map(quoted, table.keys)}]
    if not shown or not others:
        return answer
    query = f"SELECT {', '.join([shown[0], *others])} FROM {quoted(table.name)}"  # noqa: S608 - its own names
    rest = f'{{f"{table.name}/{{row[0]}}": list(row[1:]) for row in CONNECTION.execute({literal(query)})}}'
    return msgspec.structs.replace(
        answer,
        view=f"both({answer.view}, {rest.replace('CONNECTION', source)})",
        rows=f"both({answer.rows}, {rest.replace('CONNECTION', 'connection')})",
        what=f"{answer.what}, beside {', '.join(others)} through {source}",
    )


def _over_the_rows(answer: Answer, source: str) -> Answer:
    """The answer of a cache that is filled while it is used: what it has not read yet it would read from its table."""
    read = answer.rows.replace("connection.execute(", f"{source}.execute(")
    return msgspec.structs.replace(
        answer,
        view=f"{{**{read}, **{answer.view}}}",
        what=f"{answer.what}, over its rows: a new store has not read them",
        is_over_rows=True,
    )


def _require(written: Written, observed: Observed, home: Path, *, restores: bool, over_rows: list[str]) -> None:
    made = ModuleType(written.name)
    try:
        exec(compile(written.text, f"<{written.name}>", "exec"), made.__dict__)  # noqa: S102 - the source was just written
    except Exception as error:
        # It imports the user's code, from the place that it will be imported from.
        raise TargetError(f"it can't be imported: {type(error).__name__}: {error}") from error
    target = getattr(made, written.name)()
    target.name = written.name
    home.mkdir(parents=True)
    configuration = Configuration(observed.journal_mode, observed.synchronous)
    is_kept = require_contract(target, configuration, home, restores=restores)
    if over_rows and not is_kept and is_put_right_when_read(target, configuration, home / "read", observed.reads):
        raise TargetError(f"{written.name}: {over_rows[0]} is compared with the file only when the store reads")
    if over_rows and is_a_copy(target, configuration, home / "copy"):
        raise TargetError(f"{written.name}: {over_rows[0]} shows a copy of the rows that a call makes")


# -- the file --------------------------------------------------------------------------------------------------

_FILE: Final = (
    '"""'
    + """\
A first target for {store} of {module}: written by `tornpage new target`, yours from now on.

    tornpage sweep --target THIS_MODULE:{name}
    tornpage check --target THIS_MODULE:{name}
"""
    + '"""'
    + """

{imports}


{helpers}class {name}(SimpleTarget):
    title = "{store} of {module}"
    file = "{file}"
    configurations = (Configuration("{journal_mode}", "{synchronous}"),){deterministic}
    # Each starts from the state that the earlier ones left; add the calls that your users make.
    calls = ({calls}
    )
    # A call that adds exactly one key, and may be repeated.
    beat = {beat}{touches}

    def make(self, path, configuration, environment):
        {make}

    def view(self, store):
        # The state in the running process.{unseen}
        return {view}

    def rows(self, connection):
        # The same state, read from the file.
        return {rows}
{answer}"""
)

_ANSWER: Final = """
    def answer(self, action, returned):
        # The store reports a failure by what it returns: for a search that is an exception.
        if getattr(returned, "{reports}", True) is False:
            raise RuntimeError(f"{{action}} returned {{returned}}")
        return super().answer(action, returned)
"""

_DETERMINISTIC: Final = """
    # It reads the clock, or draws random values, by itself: they are replaced while it runs.
    deterministic = True"""

_TOUCHES: Final = """
    # It also adds or changes keys that begin so.
    beat_touches = {touches}"""

_TABLES: Final = """\
# Each table's name, the number of its key columns, and the query that reads it.
TABLES = ({reads}
)


def tables(connection):
    there = {{name for (name,) in connection.execute("SELECT name FROM sqlite_master")}}
    found = {{}}
    for table, keys, query in TABLES:
        for row in connection.execute(query) if table in there else ():
            plain = [one.hex() if isinstance(one, bytes) else one for one in tuple(row)]
            key = "/".join(map(str, [table, *plain[:keys]]))
            found[key] = [*found.get(key, ()), *plain[keys:]]
    return found


"""

_BOTH: Final = """\
# For each key what the store answers, and the columns that it does not answer.
def both(own, others):
    return {key: [own.get(key), others.get(key)] for key in {*own, *others}}


"""

_NEW: Final = """\
# What a new store shows.
BEGINS_WITH = {begins_with}


def new(view):
    return {{key: value for key, value in view.items() if key not in BEGINS_WITH or BEGINS_WITH[key] != value}}


"""

_FROM_FILE: Final = """\
def from_file(path):
    if not path.exists():
        return {}
    with contextlib.closing(OPEN(path)) as connection:
        return tables(connection)


"""

_CLOSING: Final = """\
class Opened({store}):
    def close(self):
        {how}


"""

_CLOSING_WHAT_IT_MAKES: Final = """\
def with_close(store):
    def close(self=store):
        {how}

    store.close = close
    return store


"""


def _written(observed: Observed, module: str, store: str, proposal: _Proposal) -> Written:
    source, beat, answers, rest, touches, begins_with = proposal
    name = f"{store[:1].upper()}{store[1:]}Target" if store else _class_of(module)
    shown, rows = [answer.view for answer in answers], [answer.rows for answer in answers]
    from_file = bool(rest) and not source
    if rest:
        shown.append("from_file(store.path_under_test)" if from_file else f"tables({source})")
        rows.append("tables(connection)")
    template = _CLOSING if observed.is_class else _CLOSING_WHAT_IT_MAKES
    closing = "" if observed.closes == "close" else template.format(store=store, how=_how_to_close(observed))
    text = _FILE.format(
        module=module, store=store or _FUNCTIONS, name=name, file=observed.file, journal_mode=observed.journal_mode,
        synchronous=observed.synchronous, deterministic=_DETERMINISTIC if observed.deterministic else "",
        imports=_imports(module, store, observed, rows, library=observed.library if from_file else ""),
        helpers=_defaults(answers) + (_BOTH if any("both(" in answer.view for answer in answers) else "")
        + (_NEW.format(begins_with=literal(begins_with)) if begins_with else "")
        + (_tables(rest) if rest else "") + (_from_file(observed) if from_file else "") + closing,
        calls="".join(f"\n        {_action(action)}," for action in observed.calls)
        + "".join(f"\n        # Not called yet: {name}: {reason}" for name, reason in observed.left_out.items()),
        touches=_TOUCHES.format(touches=touches) if touches else "",
        beat=_action(beat), view=_united(shown, without=begins_with), rows=_united(rows, without=begins_with),
        answer=_ANSWER.format(reports=observed.reports) if observed.reports else "", unseen="".join(
            f"\n        # Not judged yet: store.{held}, until it is in here, as `rows` reads it from the file."
            for held in _unseen(observed, answers)
        ),
        make=_make(_expression(observed, store, is_opened=bool(closing)), observed, from_file=from_file),
    )  # fmt: skip
    return Written(text, name, tuple(_notes(observed, answers, rest, source)))


def _class_of(module: str) -> str:
    words = module.rpartition(".")[2].split("_")
    return "".join(f"{word[:1].upper()}{word[1:]}" for word in words) + "Target"


def _notes(observed: Observed, answers: list[Answer], rest: list[Table], source: str) -> Iterator[str]:
    for answer in answers:
        yield f"view: {answer.what}"
    if rest:
        how = f"through {source}" if source else "from the file"
        names = ", ".join(table.name + f" by {table.keys[0]}" * table.is_grouped for table in rest)
        yield f"view: {names}, {how}; add the data that your store returns from memory"
    seen = [*(answer.table for answer in answers), *rest]
    for table in seen:
        if table.left_out:
            yield f"left out: {', '.join(table.left_out)} of {table.name}: another value each time"
    yield from _not_checked(observed, answers, seen)
    yield from _notes_of_the_store(observed)
    for name, reason in observed.left_out.items():
        yield f"not called: {name}: {reason}"


def _notes_of_the_store(observed: Observed) -> Iterator[str]:
    if observed.deterministic:
        yield "deterministic: the time and the random values that it takes by itself are replaced"
    if observed.stays_open:
        yield f"its `close` leaves {observed.file} open: let `close` release it, or no search can run"
    if observed.synchronous in ("OFF", "NORMAL"):
        yield f"the store sets synchronous = {observed.synchronous}: what a power cut may then cost is no finding"
    if observed.reports:
        yield f"answers: a call whose answer has a false `{observed.reports}` has failed"
    if observed.lowered:
        yield f"lowered: {statement(observed.lowered)}, so that the calls reach this limit of what it keeps in memory"
    yield from (
        f"out of reach: {one}; lower it in `make` to test what happens then"
        for one in bounds_in(observed.make)
        if one != observed.lowered.rpartition(".")[2].lstrip("_")
    )


def _not_checked(observed: Observed, answers: list[Answer], seen: list[Table]) -> Iterator[str]:
    for name in _unseen(observed, answers):
        yield f"not checked: store.{name}; add it to the view, or return it from a call"
    named = {table.name for table in seen}
    if unseen := [table.name for table in observed.tables if table.name not in named]:
        yield f"not checked: {', '.join(unseen)}"
    for other in observed.other_databases[:_MOST_FILES]:
        yield f"not checked: the database {other}; {READS_BOTH}"
    for other in [one for one in observed.other_files if one not in observed.other_databases][:_MOST_FILES]:
        yield f"not checked: the file {other}; let a call return what it holds"


def _unseen(observed: Observed, answers: list[Answer]) -> list[str]:
    """The attributes with data in memory that the view doesn't show."""
    used = {answer.source for answer in answers}
    return [name for name in observed.held if name not in used]


def _imports(module: str, store: str, observed: Observed, rows: list[str], *, library: str) -> str:
    """The imports; `library` is the binding that reads the file, "" for none."""
    needs_contextlib = library or not (observed.closes or (observed.connection or "db").isidentifier())
    standard = ["import contextlib"] if needs_contextlib else []
    standard += [f"import {name}" for name in ("os", "threading") if f"[{name}." in (observed.connection or "")]
    standard += [f"import {name}" for name in ("json", "pickle") if any(f"{name}.loads(" in text for text in rows)]
    ours = ", ".join(
        ["Action, Configuration, SimpleTarget", *(["awaited"] if observed.is_awaited else [])]
        + (["entered"] if observed.make.startswith("entered(") else [])
        + ([] if store else [_FUNCTIONS])
    )
    others = [*([f"from {module} import {store}"] if store else []), f"from tornpage import {ours}"]
    if library:
        (standard if library == "sqlite3" else others).insert(0 if library != "sqlite3" else 1, f"import {library}")
    for line in imports_of(value for action in observed.calls for value in action.args.values()):
        is_standard = line.split()[1].split(".")[0] in sys.stdlib_module_names
        (standard if is_standard else others).insert(0, line)
    blocks = (sorted(block, key=lambda line: (line.startswith("from"), line)) for block in (standard, others) if block)
    return "\n\n".join("\n".join(dict.fromkeys(block)) for block in blocks)


def _from_file(observed: Observed) -> str:
    opened = "apsw.Connection(str(path))" if observed.library == "apsw" else f"{observed.library}.connect(path)"
    return _FROM_FILE.replace("OPEN(path)", opened)


def _expression(observed: Observed, store: str, *, is_opened: bool) -> str:
    """How to create it; one that appends something to the name that it is given gets the name without it."""
    made = observed.make
    if is_opened:
        made = made.replace(f"{store}(", "Opened(", 1) if observed.is_class else f"with_close({made})"
    if observed.file.startswith(GIVEN) and observed.file != GIVEN:
        return re.sub(r"(?<![\w.])path(?![\w=])", f'path.with_name("{GIVEN}")', made)
    return made


def _make(expression: str, observed: Observed, *, from_file: bool) -> str:
    then = [] if observed.is_awaited else [f"store.{name}()" for name in observed.openings]
    then += ["# Its limit in memory, so low that the calls reach it."] if observed.lowered else []
    then += [statement(observed.lowered)] if observed.lowered else []
    then += ["store.path_under_test = path"] if from_file else []
    return "\n        ".join([f"store = {expression}", *then, "return store"] if then else [f"return {expression}"])


def _how_to_close(observed: Observed) -> str:
    if observed.closes == "__exit__":
        return "self.__exit__(None, None, None)"
    if observed.closes:
        return f"self.{observed.closes}()"
    if observed.connection is None:
        return "pass" if observed.stays_open else "pass  # it keeps nothing open"
    if not observed.connection.isidentifier():
        return f"with contextlib.suppress(AttributeError, LookupError):\n            self.{observed.connection}.close()"
    # It may connect at its first call.
    return f"if self.{observed.connection} is not None:\n            self.{observed.connection}.close()"


def _action(action: Action) -> str:
    args = ", ".join(f'"{key}": {literal(value)}' for key, value in action.args.items())
    return f'Action("{action.name}", {{{args}}})' if args else f'Action("{action.name}")'


def _united(parts: list[str], *, without: View) -> str:
    whole = parts[0] if len(parts) == 1 else "{" + ", ".join(f"**{part}" for part in parts) + "}"
    return f"new({whole})" if without else whole


def _defaults(answers: list[Answer]) -> str:
    known = {key: value for answer in answers for key, value in answer.defaults.items()}
    return f"# What a new store holds already; no table has it.\nDEFAULTS = {literal(known)}\n\n\n" if known else ""


def _tables(rest: list[Table]) -> str:
    reads = ""
    for table in rest:
        others = [one for one in table.columns if one not in table.keys]
        columns = ", ".join(map(quoted, [*table.keys, *others]))
        query = f"SELECT {columns} FROM {quoted(table.name)}"  # noqa: S608 - its own names, in a file to be read
        query += f" ORDER BY {columns}" if table.is_grouped else ""
        reads += f'\n    ("{table.name}", {len(table.keys)}, {literal(query)}),'
    return _TABLES.format(reads=reads)
