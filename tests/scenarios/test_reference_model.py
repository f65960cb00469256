"""The model is a second source, which the ledger agrees with; `test_reference_defects_*` have ledgers that don't."""

import ast
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import pytest

from tornpage import faults, ledger
from tornpage.ledger.command import ledger_group
from tornpage.ledger.history import RunHistory
from tornpage.ledger.outbox import Outbox
from tornpage.ledger.registry import TaskRegistry
from tornpage.scenarios.execution.executor import play
from tornpage.scenarios.model.scenario import Arm, Call, Clear, Scenario
from tornpage.scenarios.model.target import Action, Configuration
from tornpage.scenarios.search.scripts import play_script
from tornpage.scenarios.targets.reference import model as model_package
from tornpage.scenarios.targets.reference.compared import differing
from tornpage.scenarios.targets.reference.scripts import (
    Script,
    drivers,
    edges,
    messages,
    scripts,
    tasks,
    together,
    upkeep,
)
from tornpage.scenarios.targets.reference.target import Reference


def wrong_in(script: Iterable[Any], home: Path) -> str:
    """The code of the first check that a script breaks, "" where all hold."""
    with faults.install() as shim, shim.deterministic():
        _, wrong = play_script(Reference(), Configuration(), tuple(script), home / "store")
    return "" if wrong is None else str(wrong[0])


@pytest.mark.slow
def test_the_ledger_does_in_every_script_what_the_model_says(tmp_path: Path) -> None:
    assert [wrong_in(one, tmp_path / f"{number}") for number, one in enumerate(scripts())] == [""] * len(scripts())


def test_another_process_comes_just_before_each_change() -> None:
    """A call that looks before its transaction would pass else: no fault and no second call shows it."""
    calls = [action for script in scripts() for action in script]
    overtaken = {one.args["then"]["name"] for one in calls if one.name == "overtaken" and one.args.get("at") == 1}
    changing = {
        name
        for name, rule in model_package.ACTIONS.items()
        if name.partition(".")[0] in ("tasks", "history", "outbox") and rule.__name__ != "asked"
    }
    # A command on many rows, which has a script of its own.
    changing.remove("outbox.pruned")
    assert changing | {"batch", "recover"} <= overtaken
    assert any(one.name == "maintenance_while" for one in calls)


QUICK_SCRIPTS = [
    together.elsewhere, together.batches, upkeep.audit, edges.odd_values, drivers.two_faults, drivers.durable_imports,
    edges.values_that_python_calls_equal, drivers.interrupts, tasks.refused_creation,
    messages.imports_in_turns,
]  # fmt: skip


@pytest.mark.parametrize("script", QUICK_SCRIPTS)
def test_the_ledger_does_what_the_model_says(script: Callable[[], Script], tmp_path: Path) -> None:
    assert wrong_in(script(), tmp_path) == ""


def test_the_model_takes_nothing_from_the_ledger() -> None:
    for file in Path(inspect.getfile(model_package)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] in {
                    "collections", "dataclasses", "datetime", "hashlib", "json", "math", "re", "typing", "tornpage",
                }, file  # fmt: skip
                assert not name.startswith("tornpage") or "targets.reference.model" in name, file


def test_every_function_of_the_model_cites_its_section_or_says_that_there_is_none() -> None:
    """Those that a call comes to; helpers are part of what they help."""
    for name, rule in model_package.ACTIONS.items():
        doc = inspect.getdoc(rule) or ""
        assert doc, name
        if rule.__module__.endswith(("tasks", "runs", "outbox", "upkeep")):
            assert re.search(r"§\d|[Nn]ot in the specification", doc), name


def test_what_differs_is_said_and_not_all_that_is_compared() -> None:
    one, other = {"task_id": "a", "status": "queued", "label": None}, {"task_id": "b", "status": "lost", "label": None}
    assert differing._parted([one, other], [other, one]) == (["a", "b"], ["b", "a"])
    assert differing._parted([one], [one | {"label": "x"}]) == ({"label": None}, {"label": "x"})
    assert differing._parted({"count": 1, "tasks": [one]}, {"count": 2, "tasks": []}) == (
        {"count": 1, "tasks": ["a"]},
        {"count": 2, "tasks": []},
    )
    assert differing._parted(3, None) == (3, None)
    assert differing._parted({"a": [1], "b": 0}, {"a": [True], "b": 0}) == ({"a": [1]}, {"a": [True]})


# -- every public name -----------------------------------------------------------------------------------------

# What no action calls, and why; each is covered elsewhere.
NOT_CALLED = {
    "tasks.observe": "the action observers.life",
    "tasks.configure_observers": "the action observers.life",
    "tasks.revise": "maintenance calls it",
    "tasks.change": "the run history calls it",
    "tasks.batch": "the action batch",
    "tasks.view": "the session's checks call it",
    "tasks.joined": "a backend calls it",
    "tasks.committed": "a backend calls it",
    "tasks.settled": "a backend calls it",
    "tasks.rolled_back": "a backend calls it",
    "history.recover": "the action recover",
    "history.write_end": "recovery calls it",
    "outbox.leaseholders": "recovery calls it",
}


def test_every_public_method_of_the_ledger_is_an_action_or_says_why_not() -> None:
    parts = {"tasks": TaskRegistry, "history": RunHistory, "outbox": Outbox}
    public = {
        f"{part}.{name}"
        for part, kind in parts.items()
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    public |= {
        f"workers.{name}" for name, _ in inspect.getmembers(ledger.Workers, inspect.isfunction) if name[0] != "_"
    }
    public |= {name for name in vars(ledger.Ledger) if not name.startswith("_")} - {*parts, "open", "close"}
    # The calls of one action are on real workers.
    called = {
        f"workers.{one[0]}"
        for script in scripts()
        for call in script
        if call.name == "workers.life"
        for one in call.args["calls"]
    }
    covered = {"batch", "durability", "workers", *called, *model_package.ACTIONS, *NOT_CALLED}
    assert sorted(public - covered) == []
    assert sorted(NOT_CALLED.keys() - public) == []


def test_every_command_of_the_ledger_is_typed_in_a_script() -> None:
    def paths(group: click.Group) -> Iterable[tuple[str, ...]]:
        for name, command in group.commands.items():
            inner = list(paths(command)) if isinstance(command, click.Group) else [()]
            yield from ((name, *one) for one in inner)

    typed = {tuple(one.args["argv"][:2]) for script in scripts() for one in script if one.name == "command"}
    there = set(paths(ledger_group)) - {("runs", "recover")}  # the same command as recover
    assert sorted(one for one in there if not any(argv[: len(one)] == one for argv in typed)) == []


@pytest.mark.parametrize("effect", ["EINTR", "EACCES", "EIO"])
def test_a_file_of_the_old_queue_that_a_fault_keeps_is_no_answer_of_the_ledgers_own(effect: str, home: Path) -> None:
    """The message is taken over, its file stays, and the caller is told so; the model knows of no faults."""
    old = [
        Action("legacy_file", {"name": f"{one}.json", "content": {"id": one, "channel": "mail", "to": "you"}})
        for one in "ab"
    ]
    imports = Call(Action("outbox.import_legacy"))
    steps = (*map(Call, old), Arm(f"file-unlink:.json@1={effect}"), imports, Clear(), imports)
    with faults.install() as shim, shim.deterministic():
        violation, counts = play(Scenario("reference", Configuration(), steps), Reference(), home)
    assert (violation, counts["fired"]) == (None, 1)
