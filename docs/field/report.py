"""Repeats the field report: plays each library's target for a while, runs its scripts, and prints both.

    python docs/field/report.py [--seconds 60] [--only NAME ...] [--scripts-only | --tables-only]

Each folder here has a library's target (``…_target.py``), a replay file of each finding, and a script for each that
shows it without tornpage, by what a system really does: a file that may not grow, a lock that another process holds,
Ctrl-C. Nothing is asserted: what the libraries do is theirs to change. Exit code 0, whatever is found; 1 where a target
can't run.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
# Folder, target, class, package.
LIBRARIES = (
    ("langgraph", "langgraph_target:Checkpoints", "agent state", "langgraph-checkpoint-sqlite"),
    ("openai_agents", "agents_target:Conversation", "agent state", "openai-agents"),
    ("mem0", "mem0_target:Memories", "agent state", "mem0ai"),
    ("agno", "agno_target:Agent", "agent state", "agno"),
    ("kombu", "kombu_target:Queue", "queue", "kombu"),
    ("queuelib", "queuelib_target:Fifo", "queue", "queuelib"),
    ("queuelib", "queuelib_target:Lifo", "queue", "queuelib"),
    ("persist_queue", "persist_queue_target:Fifo", "queue", "persist-queue"),
    ("persist_queue", "persist_queue_target:Ack", "queue", "persist-queue"),
    ("peewee", "peewee_target:Queue", "queue", "peewee"),
    ("celery", "celery_target:Backend", "queue", "celery"),
    ("requests_cache", "requests_cache_target:Responses", "cache", "requests-cache"),
    ("aiohttp_client_cache", "aiohttp_target:Responses", "cache", "aiohttp-client-cache"),
    ("beaker", "beaker_target:Namespace", "cache", "Beaker"),
    ("peewee", "peewee_target:Model", "ORM", "peewee"),
    ("sqlalchemy_pool", "sqlalchemy_target:Pool", "ORM", "SQLAlchemy"),
    ("sqlalchemy_pool", "sqlalchemy_target:AsyncPool", "ORM", "SQLAlchemy"),
    ("django", "django_target:Model", "ORM", "Django"),
    ("sqlite_utils", "sqlite_utils_target:Items", "tool", "sqlite-utils"),
    ("dataset", "dataset_target:Items", "tool", "dataset"),
    ("optuna", "optuna_target:Storage", "tracker", "optuna"),
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
    asked.add_argument("--only", nargs="*", default=(), metavar="NAME", help="folders")
    asked.add_argument("--tables-only", action="store_true")
    asked.add_argument("--scripts-only", action="store_true")
    given = asked.parse_args()
    chosen = [one for one in LIBRARIES if not given.only or one[0] in given.only]
    could_run = given.scripts_only or tables(chosen, given.seconds)
    if not given.tables_only:
        scripts(sorted({one[0] for one in chosen}))
    return 0 if could_run else 1


def tables(chosen, seconds):
    """One row for each target; whether all could run."""
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    could_run = True
    for folder, target, kind, package in chosen:
        try:
            known = f"{package} {version(package)}"
        except PackageNotFoundError:
            known = f"{package} (not installed)"
        record, said = run(folder, target, seconds)
        if record is None:
            could_run = False
            print(f"| {kind} | {known} | {target} | did not run: {said} |", flush=True)
            continue
        print(row(record, kind, known), flush=True)
    return could_run


def row(record, kind, known):
    """What a run came to, as a row of the table."""
    seen = {one["search"]: one["counts"] for one in record["searches"]}
    cells = [f"{sum(seen.get(search, {}).get(count, 0) for count in counts):,}" for search, counts in COUNTS.items()]
    checks = sorted({one["check"] for one in record["findings"]})
    if not checks and record["exit_code"] == 2:
        checks = ["inconclusive"]
    what = record["title"].partition(": ")[2]
    return f"| {kind} | {known} | {what} | {' | '.join(cells)} | {', '.join(checks) or '-'} |"


def run(folder, target, seconds):
    """The record of a run, or why there is none."""
    reports = Path(os.environ.get("TORNPAGE_FIELD", HERE.parents[1] / ".tornpage" / "field")) / target.replace(":", "-")
    (reports / "run.json").unlink(missing_ok=True)
    command = f"check --jobs 1 --quiet --max-time {seconds} --target {target} --report".split()
    command = [sys.executable, "-m", "tornpage", *command, reports]
    done = subprocess.run(command, cwd=HERE / folder, capture_output=True, text=True, check=False)
    if not (reports / "run.json").exists():
        return None, " ".join(line for line in done.stderr.splitlines() if line.startswith("Error"))[:300]
    return json.loads((reports / "run.json").read_text()), ""


def scripts(folders):
    """Each script with what it prints."""
    for folder in folders:
        for script in sorted((HERE / folder).glob("*.py")):
            if script.stem.endswith("_target"):
                continue
            done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
            print(f"\n{folder}/{script.name}\n{done.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
