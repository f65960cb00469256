"""Repeats the field report: plays each library's target for a while, runs its scripts, and prints both.

    python docs/field/report.py [--seconds 60] [--most 240] [--only NAME …] [--scripts-only | --tables-only | --issues]

Each folder here has a library's target (``…_target.py``), a replay file of each finding, and a script for each that
shows it without tornpage, by what a system really does: a file that may not grow, a lock that another process holds,
Ctrl-C.

A search for which the time is up before it has tried anything says nothing of a library, so its target is played again
for twice as long, up to `--most`: most of a short run goes into importing a large library, and once more in a second
process. What then still could not be judged stands in the row, with the reason. Nothing is asserted: what the libraries
do is theirs to change. Exit code 0, whatever is found; 1 where a target can't run.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
# Folder, none for a target that ships with tornpage; target, class, package, and what `tornpage check` is to be given.
LIBRARIES = (
    ("", "diskcache", "cache", "diskcache"),
    ("", "huey", "queue", "huey"),
    ("", "litequeue", "queue", "litequeue"),
    ("", "apscheduler", "scheduler", "APScheduler"),
    ("", "sqlitedict", "dictionary", "sqlitedict"),
    ("", "sqlitedict-autocommit", "dictionary", "sqlitedict"),
    ("two_workers", "two_workers_target:TwoSchedulers", "scheduler", "APScheduler"),
    ("langgraph", "langgraph", "agent state", "langgraph-checkpoint-sqlite"),
    ("langgraph", "langgraph_target:AsyncCheckpoints", "agent state", "langgraph-checkpoint-sqlite"),
    ("google_adk", "adk_target:Events", "agent state", "google-adk"),
    ("openai_agents", "agents_target:Conversation", "agent state", "openai-agents"),
    ("mem0", "mem0_target:Memories", "agent state", "mem0ai"),
    ("agno", "agno_target:Agent", "agent state", "agno"),
    ("kombu", "kombu_target:Queue", "queue", "kombu"),
    ("queuelib", "queuelib_target:Fifo", "queue", "queuelib"),
    ("queuelib", "queuelib_target:Lifo", "queue", "queuelib"),
    ("persist_queue", "persist_queue_target:Fifo", "queue", "persist-queue"),
    ("persist_queue", "persist_queue_target:Ack", "queue", "persist-queue"),
    ("peewee", "peewee_target:Queue", "queue", "peewee"),
    ("scrapyd", "scrapyd_target:Spiders", "queue", "scrapyd"),
    ("celery", "celery_target:Backend", "queue", "celery"),
    ("requests_cache", "requests_cache_target:Responses", "cache", "requests-cache"),
    ("aiohttp_client_cache", "aiohttp_target:Responses", "cache", "aiohttp-client-cache"),
    ("beaker", "beaker_target:Namespace", "cache", "Beaker"),
    ("peewee", "peewee", "ORM", "peewee"),
    ("", "sqlalchemy", "ORM", "SQLAlchemy"),
    ("sqlalchemy_pool", "sqlalchemy_target:AsyncPool", "ORM", "SQLAlchemy"),
    ("django", "django_target:Model", "ORM", "Django"),
    ("sqlite_utils", "sqlite_utils_target:Items", "tool", "sqlite-utils"),
    ("dataset", "dataset_target:Items", "tool", "dataset"),
    ("optuna", "optuna_target:Storage", "tracker", "optuna"),
    # Its first opening makes a hundred tables, each with a fault to try: most of the time goes there.
    ("mlflow", "mlflow_target:Store", "tracker", "mlflow-skinny"),
    # In PHP, as Debian has it: apt-get install php-cli php-sqlite3 php-symfony-cache strace
    ("symfony_cache", "command:php symfony_cache.php", "cache", "php-symfony-cache"),
    # It waits without end wherever a COMMIT has failed: ten seconds each would be all that is seen.
    ("beets", "beets_target:Songs", "application", "beets", "--call-timeout", "3"),
)
COLUMNS = (
    "class", "library", "what", "findings", "faults fired", "crash states", "locks", "schedules", "limits", "kills",
    "steps",
)  # fmt: skip
# What each column of numbers counts, as search.count.
COUNTS = (
    ("sweep.fired", "syscalls.fired"),
    ("crash.states",),
    ("contend.contentions",),
    ("interleave.tried",),
    ("limits.limits",),
    ("kill.kills", "syscalls.kills"),
    ("fuzz.steps",),
)
# How a script says what it is for, and how it is run, by its ending.
SCRIPTS = {".py": ('"""', '"""', "python", sys.executable), ".php": ("/**", "*/", "php", "php")}


def main():
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--seconds", type=float, default=60, help="for each target (default: %(default)g)")
    asked.add_argument("--most", type=float, default=240, help="where that is too short (default: %(default)g)")
    asked.add_argument("--only", nargs="*", default=(), metavar="NAME", help="folders, or targets")
    asked.add_argument("--tables-only", action="store_true")
    asked.add_argument("--scripts-only", action="store_true")
    asked.add_argument("--issues", action="store_true", help="only: each finding as a report to its project")
    given = asked.parse_args()
    chosen = [one for one in LIBRARIES if not given.only or {one[0], one[1]} & set(given.only)]
    if given.issues:
        issues([one for one in chosen if one[0]])
        return 0
    could_run = given.scripts_only or tables(chosen, given.seconds, given.most)
    if not given.tables_only:
        scripts(sorted({one[0] for one in chosen} - {""}))
    return 0 if could_run else 1


def tables(chosen, seconds, most):
    """One row for each target; whether all could run."""
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    could_run = True
    for folder, target, kind, package, *options in chosen:
        known = f"{package} {version_of(package)}"
        record, said = run(folder, target, seconds, options)
        longer = 2 * seconds
        while record is not None and had_no_time(record) and longer <= most:
            record, said = run(folder, target, longer, options)
            longer *= 2
        if record is None:
            could_run = False
            print(f"| {kind} | {known} | {target} | did not run: {said} |", flush=True)
            continue
        print(row(record, kind, known), flush=True)
    return could_run


def had_no_time(record):
    """Whether it could not be judged for want of time."""
    return record["exit_code"] == 2 and any("the time was up" in one["reason"] for one in record["vacuous"])


def row(record, kind, known):
    """What a run came to, as a row of the table."""
    seen = {f"{one['search']}.{name}": number for one in record["searches"] for name, number in one["counts"].items()}
    cells = [f"{sum(seen.get(name, 0) for name in names):,}" for names in COUNTS]
    checks = sorted({one["check"] for one in record["findings"]})
    if not checks and record["exit_code"] == 2:
        why = "; ".join(f"{one['search']}: {one['reason'].partition(': ')[0]}" for one in record["vacuous"])
        checks = [f"inconclusive ({why})"]
    what = record["title"].partition(": ")[2]
    return f"| {kind} | {known} | {what} | {', '.join(checks) or '-'} | {' | '.join(cells)} |"


def run(folder, target, seconds, options):
    """The record of a run, or why there is none."""
    kept = Path(os.environ.get("TORNPAGE_FIELD", HERE.parents[1] / ".tornpage" / "field"))
    reports = kept / re.sub("[: ]", "-", target)
    (reports / "run.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "tornpage", "check", "--jobs", "1", "--quiet", "--max-time", str(seconds)]
    command += ["--target", target, "--report", reports, *options]
    done = subprocess.run(command, cwd=HERE / folder, capture_output=True, text=True, check=False)
    if not (reports / "run.json").exists():
        return None, " ".join(line for line in done.stderr.splitlines() if line.startswith("Error"))[:300]
    return json.loads((reports / "run.json").read_text()), ""


def scripts(folders):
    """Each script with what it prints."""
    for script in scripts_of(folders):
        print(f"\n{script.parent.name}/{script.name}\n{said_by(script)}", flush=True)


def issues(chosen):
    """A report for each script's project, ready to be sent."""
    packages = {one[0]: one[3] for one in chosen}
    for script in scripts_of(sorted(packages)):
        title, expected, fix, steps = told_in(script)
        package = packages[script.parent.name]
        python = f", Python {platform.python_version()}" if script.suffix == ".py" else ""
        versions = f"{package} {version_of(package)}{python}, SQLite {sqlite3.sqlite_version}, {platform.system()}"
        print(f"# {title}\n\n{versions}.\n\n## Steps\n\n```{SCRIPTS[script.suffix][2]}\n{steps}```\n")
        print(f"## Seen\n\n```text\n{said_by(script)}\n```\n\n## Expected\n\n{expected}\n")
        print(f"## Suggested fix\n\n{fix}\n", flush=True)


def version_of(package):
    """The version of a package of Python's, or of Debian's."""
    try:
        return version(package)
    except PackageNotFoundError:
        asked = ["dpkg-query", "--show", "--showformat=${Version}", package]
        if shutil.which(asked[0]) is None:
            return "(not installed)"
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout or "(not installed)"


def scripts_of(folders):
    """The scripts of these folders, in order: what is no target, and has a finding's name."""
    found = (one for folder in folders for one in sorted((HERE / folder).iterdir()) if one.suffix in SCRIPTS)
    return [one for one in found if one.with_suffix(".json").exists()]


def told_in(script):
    """A script's title, what is expected, a fix, and its code without all that."""
    text = script.read_text()
    begins, ends, _, _ = SCRIPTS[script.suffix]
    before, _, rest = text.partition(begins)
    told, _, steps = rest.partition(ends)
    told = "\n".join(line.strip().removeprefix("*").strip() for line in told.splitlines()).strip()
    title, _, rest = told.partition("\n\nExpected: ")
    expected, _, fix = rest.partition("\nFix: ")
    return title, in_a_line(expected), in_a_line(fix), before + steps.lstrip()


def said_by(script):
    """What a script prints."""
    line = [SCRIPTS[script.suffix][3], script]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False).stdout.rstrip()


def in_a_line(text):
    """A sentence that was broken into lines, with a capital letter."""
    joined = " ".join(text.split())
    return joined[:1].upper() + joined[1:]


if __name__ == "__main__":
    sys.exit(main())
