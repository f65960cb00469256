"""no-busy-timeout: a lock that somebody holds for a moment fails the write at once (openclaw 29998, review)."""

from tornpage.scenarios.targets.known_bugs.build import KnownBug

BUG = KnownBug(
    name="no-busy-timeout",
    source="openclaw PR 29998, review",
    defect="the connection has no busy timeout: a lock held for 50 ms fails the write at once",
    checks=("waits-for-a-short-lock",),
    parts=lambda: {"busy_timeout_ms": 0},
    searches=("contend",),
)
