"""insert-after-lookup: what has to be there once is inserted after a look whether it is there."""

from tornpage.scenarios.model.target import Action, Refused
from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.small import SmallStore, build


class _Members(SmallStore):
    """Members, each once."""

    schema = (
        "CREATE TABLE IF NOT EXISTS member (name TEXT)",
        "CREATE TABLE IF NOT EXISTS tick (name TEXT PRIMARY KEY, n)",
    )

    def join(self, name: str) -> None:
        if self.db.execute("SELECT 1 FROM member WHERE name = ?", (name,)).fetchall():
            raise Refused(f"{name} is here already")
        self.db.execute("INSERT INTO member VALUES (?)", (name,))


class _JoinsAtOnce(_Members):
    """Members, each once: looked for in the statement that inserts."""

    def join(self, name: str) -> None:
        found = self.db.execute(
            "INSERT INTO member SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM member WHERE name = ?1)", (name,)
        )
        if found.rowcount != 1:
            raise Refused(f"{name} is here already")


_CALLS = (Action("join", {"name": "ann"}), Action("join", {"name": "bob"}), Action("join", {"name": "ann"}))
BUG = KnownBug(
    name="insert-after-lookup",
    source="forever-jukebox issue 96",
    defect="what may be there once is there twice",
    checks=("not-serializable",),
    make=build(_Members, _CALLS, refuses=frozenset({"join"})),
    sound=build(_JoinsAtOnce, _CALLS, refuses=frozenset({"join"})),
    searches=("interleave",),
    budget=200,
)
