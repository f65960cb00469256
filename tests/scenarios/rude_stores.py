"""A store that is right but for its memory, and whose keys would break out of any page that is careless with them."""

from collections.abc import Mapping

from tiny_stores import RemembersFirst, RemembersFirstSession

from tornpage.scenarios.model.target import Action, Configuration

RUDE = "</script><img src=x onerror=\"document.title='broken'\"><!--\u2028'&quot;{{7*7}}"


class RudeSession(RemembersFirstSession):
    """Says it again in its errors."""

    def do_remove(self, key: str) -> None:
        try:
            super().do_remove(key)
        except Exception as error:
            raise RuntimeError(f"{RUDE}: {error}") from error


class Rude(RemembersFirst):
    """memory-equals-disk, with keys, a title and reasons that are markup."""

    name = f"rude_stores:Rude {RUDE}"
    title = f"<b>{RUDE}</b>"
    session = RudeSession
    configurations = (Configuration("wal", "FULL"), Configuration("delete", "FULL"))
    unpromised: Mapping[str, str] = {"waits-for-a-short-lock": f"<script>{RUDE}</script>"}
    calls = (Action("put", {"key": RUDE, "value": 1}), Action("remove", {"key": RUDE}))
