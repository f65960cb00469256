"""Choosing among tasks: those of a run id, the one of a token, and the order of lists.

Every function takes its tasks in insertion order (the order in which they were added to the ledger), because that order
breaks ties; an index yields ids without an order, so the caller must sort them.
"""

from collections.abc import Callable, Iterable

from tornpage.ledger.records import Runtime, Task
from tornpage.ledger.rules.values import blank_to_none


def newest_first(tasks: Iterable[Task]) -> list[Task]:
    """By created_at descending; of equal ones, the one inserted last comes first."""
    latest_insertion_first = list(tasks)[::-1]
    return sorted(latest_insertion_first, key=lambda task: task.created_at, reverse=True)


def by_preference(tasks: Iterable[Task]) -> list[Task]:
    """Tasks of one run, the most likely one for the run id first: non-cli before cli, then the oldest.

    A cli task often only watches a run of another runtime.
    """
    return sorted(tasks, key=lambda task: (task.runtime == Runtime.CLI, task.created_at))


def select_for_run(tasks: Iterable[Task], session_key: str | None) -> list[Task]:
    """The tasks of one run to which a report on that run applies; empty if there are none or it is ambiguous.

    With a session key: the tasks with this child session, else those with this owner. Without one (None or blank): all
    of them, unless they differ in (runtime, scope, owner, child).
    """
    matches = list(tasks)
    key = blank_to_none(session_key)
    if key is not None:
        children = [task for task in matches if blank_to_none(task.child_session_key) == key]
        return children or [task for task in matches if blank_to_none(task.owner_key) == key]
    return matches if len({_party(task) for task in matches}) <= 1 else []


def find_by_token(
    token: str,
    by_id: Callable[[str], Task | None],
    by_run: Callable[[str], Iterable[Task]],
    by_session: Callable[[str], Iterable[Task]],
) -> Task | None:
    """The task that a token identifies: a task id, else a run id, else a session's newest task; else None.

    The three callables get the trimmed token and answer from the ledger, in insertion order.
    """
    wanted = blank_to_none(token)
    if wanted is None:
        return None
    found = by_id(wanted)
    if found is not None:
        return found
    of_run = by_preference(by_run(wanted))
    candidates = of_run or newest_first(by_session(wanted))
    return candidates[0] if candidates else None


def _party(task: Task) -> tuple[str | None, ...]:
    """The task's runtime, scope, owner and child session."""
    return (
        task.runtime,
        task.scope_kind,
        blank_to_none(task.owner_key),
        blank_to_none(task.child_session_key),
    )
