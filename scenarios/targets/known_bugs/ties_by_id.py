"""ties-by-id: tasks of one moment are listed by their id."""

from tornpage.ledger import Runtime, Status, Task, TaskRegistry
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import CREATE, KnownBug


class _SortsById(TaskRegistry):
    """Breaks ties by what has nothing to do with time."""

    def list(self, *, runtime: Runtime | str | None = None, status: Status | str | None = None) -> list[Task]:
        found = super().list(runtime=runtime, status=status)
        return sorted(found, key=lambda task: (-task.created_at, task.task_id))


BUG = KnownBug(
    name="ties-by-id",
    source="langfuse issue 13816; zou issue 813; khive issue 1351",
    defect="a page of a list repeats one row and leaves out another",
    checks=("as-specified",),
    parts=lambda: {"registry": _SortsById},
    calls=(
        Action("batch", {"calls": [{"name": CREATE.name, "args": CREATE.args | {"id": one}} for one in "ab"]}),
        Action("tasks.list"),
    ),
    searches=("sweep",),
)
