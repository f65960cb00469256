"""From nothing to a first verdict: a target written for a store, the next step, and names that complete themselves."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from tornpage.scenarios.cli import tornpage
from tornpage.scenarios.cli.project.completion import bug_names, script
from tornpage.scenarios.run.first_steps.suggestion import next_steps
from tornpage.scenarios.run.first_steps.tables import read
from tornpage.scenarios.targets.known_bugs import all_bugs

Command = Callable[..., Any]

# Some stores here leave connections open: from Python 3.13 on, that is a warning when they go.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected", "quick_is_small"),
]

# A cache in memory that is changed first, and no `close`: what the store answers is a set of its own.
MEMORY_FIRST = """
import sqlite3

class Kept:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY)")
        self.known = {name for (name,) in self.db.execute("SELECT name FROM names")}

    def add(self, name):
        self.known.add(name)
        self.db.execute("INSERT OR IGNORE INTO names VALUES (?)", (name,))

    def drop(self, name):
        self.known.discard(name)
        self.db.execute("DELETE FROM names WHERE name = ?", (name,))
"""

# A connection for each call, a directory instead of a path, a method that needs what another makes, the time of day,
# a table that opening fills, one that has no key, and a method that waits for ever.
PER_CALL = """
import contextlib, sqlite3, threading, time
from pathlib import Path

class Jobs:
    def __init__(self, directory: Path, *, retries: int = 3) -> None:
        self.path = Path(directory) / "jobs.db"
        with self._db() as db:
            db.execute("CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, name TEXT, state TEXT, made REAL)")
            db.execute("CREATE TABLE IF NOT EXISTS log (job INTEGER, what TEXT)")
            db.execute("CREATE TABLE IF NOT EXISTS meta AS SELECT 1 AS version")

    @contextlib.contextmanager
    def _db(self):
        db = sqlite3.connect(self.path)
        try:
            with db:
                yield db
        finally:
            db.close()

    def finish(self, job_id: int) -> None:
        with self._db() as db:
            if db.execute("UPDATE jobs SET state = 'done' WHERE id = ?", (job_id,)).rowcount != 1:
                raise KeyError(job_id)
            db.execute("INSERT INTO log VALUES (?, 'finished')", (job_id,))

    def enqueue(self, name: str) -> int:
        with self._db() as db:
            row = ('new', name, time.time())
            return db.execute("INSERT INTO jobs (state, name, made) VALUES (?, ?, ?)", row).lastrowid

    def run_forever(self) -> None:
        threading.Event().wait()

    def leave(self) -> None:
        raise SystemExit(1)

    def close(self) -> None:
        pass
"""

# A plain INSERT, whose key can't be used twice, an argument that has to be a number beside one that is a text, and a
# cache that is changed first.
NUMBERED = """
import sqlite3

class Numbered:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        self.cache = dict(self.db.execute("SELECT id, text FROM notes"))

    def add(self, id, text):
        self.cache[id] = text
        with self.db:
            self.db.execute("INSERT INTO notes VALUES (?, ?)", (id, text))

    def remove(self, id):
        with self.db:
            self.db.execute("DELETE FROM notes WHERE id = ?", (id,))
        self.cache.pop(id, None)

    def close(self):
        self.db.close()
"""

# A call that adds a row to each of two tables.
LOGGED = """
import sqlite3

class Logged:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        with self.db:
            self.db.execute("CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, total INTEGER)")
            self.db.execute("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, name TEXT, amount INTEGER)")

    def deposit(self, name: str, amount: int):
        with self.db:
            row = (name, amount)
            self.db.execute(
                "INSERT INTO accounts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET total = total + excluded.total",
                row,
            )
            self.db.execute("INSERT INTO log (name, amount) VALUES (?, ?)", row)

    def close(self):
        self.db.close()
"""

# A mapping over a table with one of SQL's words for its name, given a connection.
MAPPING = """
import sqlite3

class Mapped:
    __slots__ = ("_own",)

    def __init__(self, connection: sqlite3.Connection):
        self._own = connection
        with self._own:
            self._own.execute('CREATE TABLE IF NOT EXISTS "values" (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID')

    def __setitem__(self, key, value):
        with self._own:
            self._own.execute('INSERT OR REPLACE INTO "values" VALUES (?, ?)', (key, value))

    def items(self):
        return self._own.execute('SELECT key, value FROM "values"').fetchall()

    def __delitem__(self, key):
        with self._own:
            self._own.execute('DELETE FROM "values" WHERE key = ?', (key,))

    def close(self):
        self._own.close()
"""


@pytest.mark.parametrize(
    ("source", "name", "said", "code"),
    [
        (MEMORY_FIRST, "Kept", "view: known: name of names", 1),
        (PER_CALL, "Jobs", "deterministic: the time and the random values", 0),
        (MAPPING, "Mapped", "view: its items: key and value of values", 0),
        (NUMBERED, "Numbered", "5 calls: add, remove", 1),
        (LOGGED, "Logged", "view: accounts, log, through store.db", 0),
    ],
)
def test_a_target_is_written_that_runs_at_once_and_judges_rightly(
    command: Command, tmp_path: Path, source: str, name: str, said: str, code: int
) -> None:
    module = f"written_for_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert wrote.code == 0, wrote
    assert said in wrote.out
    line = f"tornpage sweep --target {module}_target:{name}Target"
    assert wrote.out.splitlines()[-1] == f"Next: {line}"
    swept = command(*line.split()[1:], "--quiet", "--jobs", 1)
    assert swept.code == code, swept


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("class Bare:\n    pass\n", "Bare", "it takes no arguments, and so no path"),
        ("class Memory:\n    def __init__(self, path):\n        pass\n", "Memory", "there is no SQLite file"),
        (
            "import sqlite3\nclass Idle:\n    def __init__(self, path):\n        self.db = sqlite3.connect(path)\n"
            "        self.db.execute('CREATE TABLE t (x)')\n    def close(self):\n        self.db.close()\n",
            "Idle",
            "no public method added a row that another connection sees",
        ),
        ("async def opened(path):\n    pass\n", "opened", "there is no SQLite file"),
        ("Number = 1\n", "Number", "is a int"),
    ],
)
def test_what_no_target_can_be_written_for_is_said_and_writes_nothing(
    command: Command, tmp_path: Path, source: str, name: str, said: str
) -> None:
    module = f"nothing_for_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(source)
    ended = command("new", "target", "--from", f"{module}:{name}")
    assert (ended.code, ended.out) == (2, ""), ended
    assert said in ended.err
    assert not (tmp_path / f"{module}_target.py").exists()


def test_a_file_that_is_there_is_not_overwritten(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("mine")
    ended = command("new", "target", "--from", "any:Thing", "--out", "mine.py")
    assert ended.code == 2
    assert "mine.py is here already" in ended.err
    assert (tmp_path / "mine.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["names:", ":Names", "a b:C"])
def test_a_name_that_is_no_class_is_refused_with_an_example(command: Command, name: str) -> None:
    ended = command("new", "target", "--from", name)
    assert ended.code == 2
    assert "such as names:Names" in ended.err


# -- the next step ---------------------------------------------------------------------------------------------


def test_without_arguments_the_command_suggests_what_to_do_here(command: Command, tmp_path: Path) -> None:
    package = tmp_path / "src/shop"
    package.mkdir(parents=True)
    (package / "orders.py").write_text(MEMORY_FIRST.replace("import sqlite3", "import os, sqlite3"))
    (tmp_path / "test_orders.py").write_text("from shop.orders import Kept\n\ndef test_kept(tmp_path):\n    pass\n")
    ended = command()
    assert ended.code == 2
    assert "tornpage new target --from shop.orders:Kept" in ended.out
    assert "put this above test_kept" in ended.out
    marked = "\n@pytest.mark.every_fault\ndef test_marked(tmp_path):\n    pass\n"
    with (tmp_path / "test_orders.py").open("a") as file:
        file.write(marked)
    assert "Or the test that is marked already:  pytest test_orders.py" in command().out
    (tmp_path / "orders_target.py").write_text("class OrdersTarget(SimpleTarget):\n    pass\n")
    assert "tornpage check --target orders_target:OrdersTarget" in command().out


def test_plain_functions_that_open_sqlite_are_suggested_by_their_module(tmp_path: Path) -> None:
    (tmp_path / "links.py").write_text(
        "import sqlite3\n\ndef connect(path):\n    return sqlite3.connect(path)\n\ndef add(conn, name):\n    pass\n"
    )
    (tmp_path / "test_links.py").write_text("import links\n\ndef test_links():\n    pass\n")
    suggested = "\n".join(next_steps(tmp_path))
    assert "tornpage new target --from links\n" in suggested
    assert "put this above test_links" in suggested


def test_where_nothing_opens_sqlite_nothing_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("class Plain:\n    pass\n")
    (tmp_path / "broken.py").write_text("import sqlite3\nclass (:\n")
    (tmp_path / "test_plain.py").write_text("def test_plain():\n    pass\n")
    ours = tmp_path / "node_modules"
    ours.mkdir()
    (ours / "theirs.py").write_text(MEMORY_FIRST)
    assert next_steps(tmp_path) == []


# -- completion ------------------------------------------------------------------------------------------------


def test_every_known_bug_can_be_completed_without_loading_it() -> None:
    assert bug_names() == sorted(all_bugs())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_targets_checks_and_bugs(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class MineTarget(SimpleTarget):\n    pass\n")
    asked = {
        "tornpage int": "interleave",
        "tornpage check --target mine:": "MineTarget",
        "tornpage check --target bug:can": "canary cancelled-leaves-begin",
    }
    lines = "\n".join(
        f'COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; COMP_CWORD=1; COMPREPLY=(); _tornpage_completion tornpage; '
        'echo "${COMPREPLY[*]}"'
        for line in asked
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    typed = ["bash", "-c", f"{script('bash')}\n{lines}"]
    done = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert dict(zip(asked, done.stdout.splitlines(), strict=True)) == asked


@pytest.mark.parametrize(
    ("words", "incomplete", "names"),
    [
        (["sweep", "--target"], "json", ["json-file"]),
        (["replay", "--target"], "bug:clock", ["bug:clock-set-back"]),
        (["explain"], "no-res", ["no-resurrection"]),
        (["explain"], "IOERR_FS", ["IOERR_FSTAT", "IOERR_FSYNC"]),
        (["bugs", "canary"], "clock", ["clock-set-back"]),
    ],
)
def test_names_of_targets_checks_codes_and_bugs_complete(words: list[str], incomplete: str, names: list[str]) -> None:
    found = ShellComplete(tornpage, {}, "tornpage", "X").get_completions(words, incomplete)
    assert [one.value for one in found] == names


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_installed_once(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    for name in ("XDG_DATA_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / f".{shell}rc"
    settings.write_text("alias x=y")
    assert command("completion", "--install").code == 0
    once = settings.read_text()
    assert command("completion", "--install").code == 0
    assert settings.read_text() == once
    written = tmp_path / f".local/share/tornpage/completion.{shell}"
    assert once.startswith("alias x=y\n")
    assert str(written) in once
    assert "_TORNPAGE_COMPLETE" in written.read_text()


def test_an_unknown_shell_is_said_with_those_that_are_known(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    ended = command("completion")
    assert ended.code == 2
    assert "give one of bash, zsh, fish" in ended.err


# -- what a written target does not see ------------------------------------------------------------------------

COUNTED = """
import sqlite3

class Inbox:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.opened = [self.db]
        self.db.execute("CREATE TABLE IF NOT EXISTS letters (id INTEGER PRIMARY KEY, sender TEXT)")
        self.unread = dict(self.db.execute("SELECT sender, count(*) FROM letters GROUP BY sender"))

    def deliver(self, sender):
        self.db.execute("INSERT INTO letters (sender) VALUES (?)", (sender,))
        self.unread[sender] = self.unread.get(sender, 0) + 1

    def senders(self):
        return sorted(self.unread)
"""


def test_what_the_store_holds_and_no_table_has_is_said(command: Command, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    wrote = command("new", "target", "--from", "counted:Inbox")
    assert wrote.code == 0, wrote
    assert "not checked: store.unread;" in wrote.out
    assert "store.opened" not in wrote.out
    assert "# Not judged yet: store.unread, until it is in here" in (tmp_path / "counted_target.py").read_text()
    # What a call answers is judged, so those that only look are made, too.
    assert wrote.out.startswith("counted_target.py was written: 3 calls: deliver, senders\n")


# A call that could mean a connection, one that needs what another removes, and three that can't be tried.
CARTS = """
import os, smtplib, sqlite3

class Carts:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.listeners = []
        self.db.execute("CREATE TABLE IF NOT EXISTS carts (id INTEGER PRIMARY KEY, owner TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS lines (cart INTEGER, sku TEXT, PRIMARY KEY (cart, sku))")

    def drop(self, cart: int):
        self.db.execute("DELETE FROM carts WHERE id = ?", (cart,))

    def put(self, cart: int, sku: str):
        if not self.db.execute("SELECT 1 FROM carts WHERE id = ?", (cart,)).fetchone():
            raise LookupError(cart)
        self.db.execute("INSERT OR IGNORE INTO lines VALUES (?, ?)", (cart, sku))

    def open(self, owner: str):
        for listener in self.listeners:
            listener(owner)
        return self.db.execute("INSERT INTO carts (owner) VALUES (?) RETURNING id", (owner,)).fetchone()[0]

    def tell(self, listener):
        self.listeners.append(listener)

    def refuse(self, cart: int):
        raise PermissionError("not today,\\n and not in one line")

    def pay(self, receipt: os.DirEntry):
        raise AssertionError("it needs an object")

    def send(self, cart: int):
        raise AssertionError("it would send mail")
"""


def test_each_call_that_can_be_tried_is_written_and_the_others_are_said_with_the_reason(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "carts.py").write_text(CARTS)
    wrote = command("new", "target", "--from", "carts:Carts")
    assert wrote.code == 0, wrote
    assert "5 calls: open, put, drop\n" in wrote.out
    left_out = {
        "refuse": "it raised PermissionError: not today, and not in one line",
        "pay": "it needs an object",
        "tell": "it needs an object",
        "send": "by its name it waits, communicates or handles connections",
    }
    for name, reason in left_out.items():
        assert f"  not called: {name}: {reason}\n" in wrote.out
        assert f"# Not called yet: {name}: {reason}\n" in (tmp_path / "carts_target.py").read_text()


def test_a_module_in_src_that_is_not_installed_is_said(command: Command, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/not_installed.py").write_text(CARTS)
    said = "src has not_installed, and is not on Python's path: pip install -e . or set PYTHONPATH=src"
    for line in ("new target --from not_installed:Carts", "sweep --target not_installed:Carts"):
        ended = command(*line.split())
        assert ended.code == 2
        assert said in " ".join(ended.err.split())


# A folder instead of a file, a connection that is made at the first call, a level of its own, type variables, numbers
# that never end, and a removing call that only works before another one.
LAZY = """
import itertools, os, sqlite3
from typing import Optional, TypeVar, Union

K = TypeVar("K")

class Cache:
    connection = None

    def __init__(self, folder):
        self.folder = folder
        self.numbers = itertools.count(1)

    def _connected(self):
        if self.connection is None:
            connection = sqlite3.connect(os.path.join(self.folder, "cache.db"), isolation_level=None, timeout=60)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT)")
            self.connection = connection
        return self.connection

    def drop_all(self):
        self._connected().execute("DELETE FROM entries")

    def pop(self, key: K):
        if not self._connected().execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount:
            raise KeyError(key)

    def put(self, key: K, value: "Optional[Union[str, os.PathLike]]"):
        self._connected().execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, value))
"""


def test_a_store_that_connects_at_its_first_call_has_a_sound_first_target(command: Command, tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text(LAZY)
    wrote = command("new", "target", "--from", "lazy:Cache")
    assert wrote.code == 0, wrote
    assert "was written: 6 calls: put, drop_all, pop\n" in wrote.out
    assert "view: entries, from the file" in wrote.out
    assert "the store sets synchronous = NORMAL" in wrote.out
    for search in ("sweep", "crash"):
        ran = command(search, "--target", "lazy_target:CacheTarget", "--quiet", "--jobs", 1)
        assert ran.code == 0, ran


# A full-text table and no other; a call that fails is rolled back, or leaves its transaction open.
SEARCHED = """
import sqlite3

class Index:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS pages USING fts5(name UNINDEXED, text)")

    def index(self, name: str, text: str):
        {within}:
            self.db.execute("DELETE FROM pages WHERE name = ?", (name,))
            self.db.execute("INSERT INTO pages (name, text) VALUES (?, ?)", (name, text))
        self.db.commit()

    def tag(self, *names):
        with self.db:
            self.db.executemany("UPDATE pages SET text = 'tagged' WHERE name = ?", [(name,) for name in names])

    def search(self, text: str):
        return [name for (name,) in self.db.execute("SELECT name FROM pages WHERE pages MATCH ?", (text,))]

    def close(self):
        self.db.close()
"""
# A bound without a default that the second call would reach if it were 1, and a name that is extended.
BOUNDED = """
import sqlite3

class Recent:
    def __init__(self, name: str, max_entries: int):
        self.most = max_entries
        self.db = sqlite3.connect(f"{name}.db", isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY)")

    def add(self, key: str):
        self.db.execute("BEGIN IMMEDIATE")
        with self.db:
            if self.db.execute("SELECT count(*) FROM seen").fetchone()[0] >= self.most:
                self.db.execute("DELETE FROM seen WHERE rowid = (SELECT min(rowid) FROM seen)")
            self.db.execute("INSERT OR REPLACE INTO seen VALUES (?)", (key,))

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize(
    ("source", "name", "said", "plan", "code"),
    [
        (SEARCHED.format(within="with self.db"), "Index", "not called: tag: it takes *names", "lock:db@5..=BUSY", 0),
        (SEARCHED.format(within="if name"), "Index", "view: pages, through store.db", "lock:db@5..=BUSY", 1),
        (BOUNDED, "Recent", "out of reach: max_entries; lower it in `make`", "write@1=FULL", 0),
    ],
)
def test_a_full_text_index_and_a_bounded_store_get_a_target(
    command: Command, tmp_path: Path, source: str, name: str, said: str, plan: str, code: int
) -> None:
    module = f"also_written_for_{name.lower()}_{code}"
    (tmp_path / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert wrote.code == 0, wrote
    assert said in wrote.out
    swept = command("sweep", "--target", f"{module}_target:{name}Target", "--quiet", "--plan", plan)
    assert swept.code == code, swept


def test_a_store_without_a_row_is_said_with_the_reason_of_each_call(command: Command, tmp_path: Path) -> None:
    (tmp_path / "needing.py").write_text(
        "import os, sqlite3\nclass Needing:\n    def __init__(self, path):\n        self.db = sqlite3.connect(path)\n"
        "        self.db.execute('CREATE TABLE t (x)')\n    def put(self, one: os.DirEntry):\n        pass\n"
        "    def close(self):\n        self.db.close()\n"
    )
    ended = command("new", "target", "--from", "needing:Needing")
    assert ended.code == 2
    assert "tried: put (it needs an object); for a call that needs an object, name a function" in ended.err


def test_a_full_text_index_on_another_table_is_not_read_a_second_time(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("INSERT INTO pages (text) VALUES ('one')")
        connection.execute("CREATE VIRTUAL TABLE on_pages USING fts5(text, content = 'pages', content_rowid = 'id')")
        connection.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
    _, _, found = read(tmp_path)
    assert [table.name for table in found] == ["notes", "pages"]


# A value that is replaced by DELETE and INSERT, in one transaction or in two; what is replaced comes last of three.
REPLACED = """
import sqlite3

class Settings:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS settings (part, name, value, PRIMARY KEY (part, name))")

    def store(self, part: str, name: str, value: int) -> None:
        {begin}
        with self.db:
            self.db.execute("DELETE FROM settings WHERE part = ? AND name = ?", (part, name))
            self.db.execute("INSERT INTO settings VALUES (?, ?, ?)", (part, name, value))

    def close(self):
        self.db.close()
"""
# Numbers in memory, beside rows that are numbered as well; a number that is replaced is replaced in both places, or
# in one.
TALLY = """
import sqlite3

class Tally:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("CREATE TABLE IF NOT EXISTS votes (id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER)")
        self.votes = dict(self.db.execute("SELECT name, n FROM votes"))

    def vote(self, name: str, n: int) -> None:
        replaced = "ON CONFLICT (name) DO UPDATE SET n = excluded.n"
        self.db.execute(f"INSERT INTO votes (name, n) VALUES (?, ?) {{replaced}}", (name, n))
        {remember}

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize(
    ("source", "name", "view", "code"),
    [
        (REPLACED.format(begin='self.db.execute("BEGIN IMMEDIATE")'), "Settings", "settings, through store.db", 0),
        (REPLACED.format(begin=""), "Settings", "settings, through store.db", 1),
        (TALLY.format(remember="self.votes.setdefault(name, n)"), "Tally", "votes: name and n of votes", 1),
    ],
)
def test_a_first_target_also_replaces_what_is_there(
    command: Command, tmp_path: Path, source: str, name: str, view: str, code: int
) -> None:
    module = f"replaced_in_{name.lower()}_{code}"
    (tmp_path / f"{module}.py").write_text(source)
    wrote = command("new", "target", "--from", f"{module}:{name}")
    assert wrote.code == 0, wrote
    assert "3 calls: " in wrote.out
    assert f"view: {view}" in wrote.out
    swept = command("sweep", "--target", f"{module}_target:{name}Target", "--quiet", "--jobs", 1)
    assert swept.code == code, swept


def test_a_number_that_is_the_row_s_number_too_is_not_mistaken_for_it(command: Command, tmp_path: Path) -> None:
    (tmp_path / "tally.py").write_text(TALLY.format(remember="self.votes[name] = n"))
    wrote = command("new", "target", "--from", "tally:Tally")
    assert "view: votes: name and n of votes\n" in wrote.out, wrote


def test_a_call_that_can_not_replace_anything_adds_to_it(command: Command, tmp_path: Path) -> None:
    (tmp_path / "numbered.py").write_text(NUMBERED)
    assert command("new", "target", "--from", "numbered:Numbered").code == 0
    assert (tmp_path / "numbered_target.py").read_text().count('Action("add"') == 4  # two more rows, and the beat


# Its data lies in three places: the database, an attached one, and a file for each note.
SCATTERED = """
import pathlib, sqlite3

class Notes:
    def __init__(self, path):
        self.folder = pathlib.Path(path).parent
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("ATTACH ? AS old", (str(self.folder / "zz-old.sqlite"),))
        self.db.execute("CREATE TABLE IF NOT EXISTS main.notes (name TEXT PRIMARY KEY)")
        self.db.execute("CREATE TABLE IF NOT EXISTS old.notes (name TEXT PRIMARY KEY)")

    def add(self, name: str) -> None:
        (self.folder / f"{name}.txt").write_text("text")
        self.db.execute("INSERT OR IGNORE INTO notes VALUES (?)", (name,))

    def close(self):
        self.db.close()
"""


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (
            SCATTERED,
            "Notes",
            "  not checked: the database zz-old.sqlite; let view and rows read it, too: docs/your-own-store.md",
        ),
        (NUMBERED, "Numbered", ""),
    ],
)
def test_files_that_no_view_shows_are_said(command: Command, tmp_path: Path, source: str, name: str, said: str) -> None:
    (tmp_path / f"in_files_{name.lower()}.py").write_text(source)
    wrote = command("new", "target", "--from", f"in_files_{name.lower()}:{name}")
    assert wrote.code == 0, wrote
    assert said in wrote.out
    assert ("the file " in wrote.out) is bool(said)


# One call does not commit. The store may leave that to its caller, who has a method for it.
FORGETS = """
import sqlite3

class Forgets:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute("CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT)")

    def put(self, name: str, value: str):
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))

    def drop(self, name: str):
        self.db.execute("DELETE FROM kept WHERE name = ?", (name,))

    def refresh(self):
        self.db.execute("SELECT 1").fetchone()

    def close(self):
        self.db.close()
"""


def test_a_call_that_does_not_commit_is_swept_and_the_finding_says_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "forgets.py").write_text(FORGETS)
    wrote = command("new", "target", "--from", "forgets:Forgets")
    assert wrote.code == 0, wrote
    assert "was written: 4 calls: put, drop\n" in wrote.out
    assert "not called: refresh: it changed no row that another connection sees, and returned nothing" in wrote.out
    swept = command("sweep", "--target", "forgets_target:ForgetsTarget", "--quiet", "--jobs", 1)
    assert swept.code == 1, swept
    assert "the file has ['one']; a transaction is still open, neither committed nor rolled back" in swept.out


def test_a_call_whose_caller_commits_is_left_out_with_the_reason(command: Command, tmp_path: Path) -> None:
    (tmp_path / "leaves_it.py").write_text(FORGETS + "\n    def commit(self):\n        self.db.commit()\n")
    wrote = command("new", "target", "--from", "leaves_it:Forgets")
    assert wrote.code == 0, wrote
    assert "was written: 3 calls: put\n" in wrote.out
    assert "not called: drop: it leaves a transaction open, which commit ends: call both in one method" in wrote.out
