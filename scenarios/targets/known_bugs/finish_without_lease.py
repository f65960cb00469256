"""finish-without-lease: a worker finishes its job without another look at whose it is by now."""

from tornpage.scenarios.targets.known_bugs.build import KnownBug
from tornpage.scenarios.targets.known_bugs.lease_renewed_late import CALLS, SOUND, SoundLeases
from tornpage.scenarios.targets.known_bugs.small import build


class _FinishesBlindly(SoundLeases):
    """One job that is leased."""

    def finish(self, worker: str) -> bool:
        if not self.is_owner(worker):
            return False
        return self.changed("UPDATE job SET state = 'done' WHERE id = 1 AND state = 'running'", ())


BUG = KnownBug(
    name="finish-without-lease",
    source="tg_content_factory issue 450",
    defect="a late finish ends the job that another worker has leased since",
    checks=("not-serializable",),
    make=build(_FinishesBlindly, CALLS),
    sound=SOUND,
    searches=("interleave",),
    budget=300,
)
