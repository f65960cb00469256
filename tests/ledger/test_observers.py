"""Observers hear of every event in order, and can't disturb the ledger or each other."""

import logging

import pytest
from ledger_samples import TASK

from tornpage.ledger.errors import UsageError
from tornpage.ledger.observers import Observers


class Listener:
    """Notes everything it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def restored(self, tasks):
        self.heard.append(("restored", tasks))

    def upserted(self, task, previous):
        self.heard.append(("upserted", task, previous))

    def deleted(self, task_id, previous):
        self.heard.append(("deleted", task_id, previous))


class Broken:
    """Raises whatever it is told."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def restored(self, tasks):
        raise self.error

    def upserted(self, task, previous):
        raise self.error

    def deleted(self, task_id, previous):
        raise self.error


class OnlyDeleted:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def deleted(self, task_id, previous):
        self.heard.append(task_id)


def announce_all(observers: Observers) -> None:
    observers.restored(lambda: [TASK])
    observers.upserted(TASK, None)
    observers.deleted("task-1", TASK)


ALL = [("restored", (TASK,)), ("upserted", TASK, None), ("deleted", "task-1", TASK)]


def test_an_observer_hears_restored_upserted_and_deleted_in_order():
    listener = Listener()
    announce_all(Observers([listener]))
    assert listener.heard == ALL


def test_restored_is_told_also_when_the_ledger_is_empty():
    listener = Listener()
    Observers([listener]).restored(list)
    assert listener.heard == [("restored", ())]


def test_what_is_restored_is_built_once_for_all_and_not_at_all_for_nobody():
    built = []

    def build():
        built.append("built")
        return iter([TASK])

    Observers().restored(build)
    Observers([OnlyDeleted()]).restored(build)
    assert built == []
    first, second = Listener(), Listener()
    Observers([first, second]).restored(build)
    assert built == ["built"]
    assert first.heard == second.heard == [("restored", (TASK,))]


def test_what_is_restored_is_a_copy_of_the_list_it_came_from():
    listener, live = Listener(), [TASK]
    Observers([listener]).restored(lambda: live)
    live.clear()
    assert listener.heard == [("restored", (TASK,))]


def test_an_observer_without_a_method_is_not_told_of_that_event():
    partial = OnlyDeleted()
    announce_all(Observers([partial]))
    assert partial.heard == ["task-1"]


@pytest.mark.parametrize("error", [ValueError("no"), AssertionError("no"), MemoryError()])
def test_an_observer_that_raises_is_logged_and_the_others_still_run(caplog, error):
    before, after = Listener(), Listener()
    observers = Observers([before, Broken(error), after])
    with caplog.at_level(logging.ERROR, logger="ledger.observers"):
        announce_all(observers)
    assert before.heard == after.heard == ALL
    assert [(record.name, record.levelname) for record in caplog.records] == [("ledger.observers", "ERROR")] * 3
    assert [record.exc_info[1] for record in caplog.records] == [error] * 3
    for event, record in zip(("restored", "upserted", "deleted"), caplog.records, strict=True):
        assert record.getMessage().endswith(f"failed on the event {event}")
        assert "Broken" in record.getMessage()


def test_a_list_that_can_not_be_built_is_logged_and_told_to_nobody(caplog):
    def build():
        raise RuntimeError("unreadable")

    listener = Listener()
    with caplog.at_level(logging.ERROR, logger="ledger.observers"):
        Observers([listener]).restored(build)
    assert listener.heard == []
    assert [str(record.exc_info[1]) for record in caplog.records] == ["unreadable"]


def test_an_interrupt_gets_out_and_what_waits_is_told_with_the_next_event():
    interrupted, listener = Broken(KeyboardInterrupt()), Listener()
    observers = Observers([interrupted, listener])
    with pytest.raises(KeyboardInterrupt):
        observers.upserted(TASK, None)
    assert listener.heard == []
    observers.configure([listener])
    observers.deleted("task-1", TASK)
    assert listener.heard == [("upserted", TASK, None), ("deleted", "task-1", TASK)]


def test_an_observer_that_was_removed_hears_nothing_more_also_not_what_waits():
    removed, kept = Listener(), Listener()
    observers = Observers([Broken(KeyboardInterrupt()), removed, kept])
    with pytest.raises(KeyboardInterrupt):
        observers.upserted(TASK, None)
    with pytest.raises(UsageError):
        observers.configure([object()])
    observers.configure([kept])
    observers.deleted("task-1", TASK)
    assert removed.heard == []
    assert kept.heard == [("upserted", TASK, None), ("deleted", "task-1", TASK)]


def test_events_stay_in_order_where_an_observer_causes_the_next_one():
    class Deletes:
        def upserted(self, task, previous):
            observers.deleted(task.task_id, task)

    listener = Listener()
    observers = Observers([Deletes(), listener])
    observers.upserted(TASK, None)
    assert listener.heard == [("upserted", TASK, None), ("deleted", "task-1", TASK)]


def test_an_observer_is_not_told_of_the_next_event_before_it_is_done_with_this_one():
    class Deletes:
        def __init__(self):
            self.calls = []

        def upserted(self, task, previous):
            self.calls.append("upserted begins")
            observers.deleted(task.task_id, task)
            self.calls.append("upserted ends")

        def deleted(self, task_id, previous):
            self.calls.append("deleted")

    observer = Deletes()
    observers = Observers([observer])
    observers.upserted(TASK, None)
    assert observer.calls == ["upserted begins", "upserted ends", "deleted"]


def test_events_announced_together_all_come_before_what_one_of_them_causes():
    class Deletes:
        def upserted(self, task, previous):
            if previous is None:
                observers.deleted(task.task_id, task)

    listener = Listener()
    observers = Observers([Deletes(), listener])
    with observers.together():
        observers.upserted(TASK, None)
        with observers.together():
            observers.upserted(TASK, TASK)
        assert listener.heard == []
    assert listener.heard == [("upserted", TASK, None), ("upserted", TASK, TASK), ("deleted", "task-1", TASK)]
    observers.deleted("task-2", None)
    assert listener.heard[-1] == ("deleted", "task-2", None)


def test_events_announced_together_are_told_also_where_the_block_raises():
    listener = Listener()
    observers = Observers([listener])

    def interrupted():
        with observers.together():
            observers.upserted(TASK, None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert listener.heard == [("upserted", TASK, None)]


def test_what_is_restored_is_as_it_was_when_announced_also_where_an_observer_is_being_told():
    live = [TASK]

    class Restores:
        def deleted(self, task_id, previous):
            observers.restored(lambda: live)
            live.clear()

    listener = Listener()
    observers = Observers([Restores(), listener])
    observers.deleted("task-1", TASK)
    assert listener.heard == [("deleted", "task-1", TASK), ("restored", (TASK,))]


def test_an_observer_configured_while_others_are_told_hears_only_what_comes_after():
    late = Listener()

    class Hires:
        def upserted(self, task, previous):
            observers.configure([late])

    observers = Observers([Hires()])
    observers.upserted(TASK, None)
    observers.deleted("task-1", TASK)
    assert late.heard == [("deleted", "task-1", TASK)]


def test_configuring_replaces_and_none_clears_and_leaving_the_argument_out_keeps():
    first, second = Listener(), Listener()
    observers = Observers([first])
    observers.configure()
    observers.deleted("a", None)
    observers.configure([second])
    observers.deleted("b", None)
    observers.configure(None)
    observers.deleted("c", None)
    assert first.heard == [("deleted", "a", None)]
    assert second.heard == [("deleted", "b", None)]


def test_an_empty_sequence_clears_too():
    listener = Listener()
    observers = Observers([listener])
    observers.configure([])
    announce_all(observers)
    assert listener.heard == []


class NotCallable:
    restored = "a text"


@pytest.mark.parametrize("wrong", [object(), NotCallable(), None], ids=["nothing", "not-callable", "none"])
def test_an_observer_with_none_of_the_methods_is_refused_and_nothing_changes(wrong):
    listener = Listener()
    observers = Observers([listener])
    with pytest.raises(UsageError, match="at least one of the methods restored, upserted, deleted"):
        observers.configure([Listener(), wrong])
    announce_all(observers)
    assert listener.heard == ALL


def test_one_observer_outside_a_sequence_is_refused_by_name():
    with pytest.raises(UsageError, match="observers must be a sequence of observers or None, not <"):
        Observers().configure(Listener())
