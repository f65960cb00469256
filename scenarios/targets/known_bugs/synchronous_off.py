"""synchronous-off: a build that never syncs, behind the promise of FULL."""

from tornpage.scenarios.targets.known_bugs.build import KnownBug

BUG = KnownBug(
    name="synchronous-off",
    source="https://sqlite.org/pragma.html#pragma_synchronous, and every 'make SQLite faster' advice that sets it",
    defect="nothing is ever synced: after a power cut acknowledged tasks are gone, or the database is damaged",
    checks=("acknowledged-is-durable", "integrity", "no-resurrection"),
    parts=lambda: {"synchronous": "off"},
    searches=("crash",),
)
