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
import ast
import json
import os
import platform
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
# Folder, none for a target that ships with tornpage; target, class, package, and what `tornpage check` is to be given.
LIBRARIES = (
    ("langgraph", "langgraph", "agent state", "langgraph-checkpoint-sqlite"),
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
    # It waits without end wherever a COMMIT has failed: ten seconds each would be all that is seen.
    ("beets", "beets_target:Songs", "application", "beets", "--call-timeout", "3"),
)
COLUMNS = (
    "class", "library", "what", "faults fired", "crash states", "locks", "schedules", "limits", "kills", "steps",
    "findings",
)  # fmt: skip
COUNTS = {
    "sweep": ("fired",),
    "crash": ("states",),
    "contend": ("contentions",),
    "interleave": ("tried",),
    "limits": ("limits",),
    "kill": ("kills",),
    "fuzz": ("steps",),
}


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
        try:
            known = f"{package} {version(package)}"
        except PackageNotFoundError:
            known = f"{package} (not installed)"
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
    seen = {one["search"]: one["counts"] for one in record["searches"]}
    cells = [f"{sum(seen.get(search, {}).get(count, 0) for count in counts):,}" for search, counts in COUNTS.items()]
    checks = sorted({one["check"] for one in record["findings"]})
    if not checks and record["exit_code"] == 2:
        why = "; ".join(f"{one['search']}: {one['reason'].partition(': ')[0]}" for one in record["vacuous"])
        checks = [f"inconclusive ({why})"]
    what = record["title"].partition(": ")[2]
    return f"| {kind} | {known} | {what} | {' | '.join(cells)} | {', '.join(checks) or '-'} |"


def run(folder, target, seconds, options):
    """The record of a run, or why there is none."""
    reports = Path(os.environ.get("TORNPAGE_FIELD", HERE.parents[1] / ".tornpage" / "field")) / target.replace(":", "-")
    (reports / "run.json").unlink(missing_ok=True)
    command = f"check --jobs 1 --quiet --max-time {seconds} --target {target} --report".split()
    command = [sys.executable, "-m", "tornpage", *command, reports, *options]
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
        title, _, rest = ast.get_docstring(ast.parse(script.read_text())).partition("\n\n")
        expected, _, fix = rest.removeprefix("Expected: ").partition("\nFix: ")
        package = packages[script.parent.name]
        versions = f"{package} {version(package)}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
        steps = script.read_text().split('"""', 2)[2].lstrip()
        print(f"# {title}\n\n{versions}, {platform.system()}.\n\n## Steps\n\n```python\n{steps}```\n")
        print(f"## Seen\n\n```text\n{said_by(script)}\n```\n\n## Expected\n\n{in_a_line(expected)}\n")
        print(f"## Suggested fix\n\n{in_a_line(fix)}\n", flush=True)


def scripts_of(folders):
    """The scripts of these folders, in order."""
    return [
        one for folder in folders for one in sorted((HERE / folder).glob("*.py")) if not one.stem.endswith("_target")
    ]


def said_by(script):
    """What a script prints."""
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.rstrip()


def in_a_line(text):
    """A sentence that was broken into lines, with a capital letter."""
    joined = " ".join(text.split())
    return joined[:1].upper() + joined[1:]


if __name__ == "__main__":
    sys.exit(main())
