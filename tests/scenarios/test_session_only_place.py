"""A new session that is asked for an answer stands where the store is: its rows may hold that path."""

from pathlib import Path
from typing import Any

import others_stores

from tornpage import faults
from tornpage.scenarios.execution.session_only import SessionOnly
from tornpage.scenarios.execution.snapshots import place
from tornpage.scenarios.execution.trial import Trial
from tornpage.scenarios.model.target import Action


class ByPathTarget(others_stores.ShelfTarget):
    """Finds a key by the absolute path that it has written."""

    class kind(others_stores.Shelf):  # noqa: N801 - the attribute's name
        def keep(self, key: str) -> None:
            self.put(str(Path(self.path).with_name(key)))

        def has(self, key: str) -> bool:
            wanted = str(Path(self.path).with_name(key))
            return self.db.execute("SELECT 1 FROM item WHERE key = ?", (wanted,)).fetchone() is not None

    def view(self, store: Any) -> Any:
        return {Path(key).name: value for key, value in store.all().items()}


def test_a_new_session_finds_what_is_kept_by_its_absolute_path(home: Path, shim: faults.Shim) -> None:
    target, here = ByPathTarget(), home / "real"
    configuration = target.configurations[0]
    place({}, here)
    with Trial(target, configuration, here, {}) as trial:
        trial.open()
        before = trial.crash_copy()
        trial.ask(Action("keep", {"key": "a"}))
        asked, answered = Action("has", {"key": "a"}), trial.ask(Action("has", {"key": "b"})).value
        sessions = SessionOnly(target, configuration, home / "other", here)
        assert sessions.is_outdated(asked, answered, trial.crash_copy(), 0, lambda: [(before, 0)]) == (True,)
        # The session that is open there goes on.
        assert trial.ask(asked).value is True
