"""The reviewed survivors: why nothing is found in them, which test finds it, or what the searches lack.

*Equivalent* is a mutant that no caller, no reader of the disk and no crash can tell from the unchanged ledger. Most of
them drop one of two defences against the same fault; the reason names the other. *Elsewhere* is one that the searches
can't reach, because of what the target or its environment leaves out; `test` is the test that fails with it. A *hole*
is one that nothing finds, though it could be found; the reason says what that would take.

An entry whose mutant no longer exists, or that a search kills, is an error, and is reported.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

_TRANSACTION: Final = "ledger/disk/transaction.py:Transaction"
_DATABASE: Final = "ledger/disk/database.py:Database"
_ENGINE: Final = "ledger/cache/engine.py:RegistryEngine"
_TESTS: Final = "tests/ledger/test_ledger_transaction.py::test_"
_CORE: Final = "tests/ledger/test_core_regressions.py::test_"
_REGISTRY: Final = "tests/ledger/test_ledger_registry.py::test_"
_OPENING: Final = "tests/ledger/test_ledger_opening.py::test_"
_DEFECTS: Final = "tests/ledger/test_core_defects.py::test_"
_RUNS: Final = "tests/ledger/test_history_runs.py::test_"
_IMPORT: Final = "tests/ledger/test_import_legacy.py::test_"


class Reviewed(msgspec.Struct, frozen=True):
    """Why a mutant survives, in one full sentence; `test` fails with one that is killed elsewhere."""

    fate: Literal["equivalent", "elsewhere", "hole"]
    reason: str
    test: str = ""


_EQUIVALENT: Final[Mapping[str, tuple[str, ...]]] = {
    "The end of the outermost block rolls back whatever is open, and until then the doom refuses every statement.": (
        f"drop-rollback:{_TRANSACTION}._execute:1",
        f"drop-rollback:{_DATABASE}.reading:2",
    ),
    "A statement that fails dooms the transaction, so what was noted too early is rolled back and never asked for.": (
        f"swap-commit-and-memory:{_TRANSACTION}.write:1",
        f"swap-commit-and-memory:{_TRANSACTION}.write:2",
        f"swap-commit-and-memory:{_TRANSACTION}.delete:1",
        f"swap-commit-and-memory:{_TRANSACTION}.delete:2",
    ),
    "What stays pending makes the next look load everything, so all that is lost is the time of one load.": (
        f"drop-rollback:{_TRANSACTION}._roll_back:2",
        "drop-rollback:ledger/stores/sqlite.py:_Follower.rolled_back:1",
    ),
    "Nothing that is called between the two asks which transaction is active, and the lock keeps other threads out.": (
        f"swap-commit-and-memory:{_TRANSACTION}._roll_back:1",
        f"swap-commit-and-memory:{_TRANSACTION}._settle:1",
    ),
    "SQLite runs an empty text as nothing, and a COMMIT after no change writes nothing.": (
        f"drop-where-guard:{_TRANSACTION}.write:1",
    ),
    "The fence's one statement is a write, which takes the same lock after the same wait by itself.": (
        f"weaken-pragma:{_DATABASE}.lay_fence:1",
    ),
    "The level is not set back then, and a connection that syncs more than it was asked to is only slower.": (
        f"drop-rollback:{_DATABASE}._synced:1",
    ),
    "Every caller has made sure that the connection can be used, with the lock held since.": (
        "drop-reread:ledger/outbox/outbox.py:Outbox._durable:1",
    ),
    "The connection is checked once, at the opening, and a CHECK that is ignored afterwards holds no row of ours.": (
        "weaken-pragma:ledger/disk/connections.py:_check_content:2",
    ),
    "What follows does nothing where nothing is wrong, and closing twice comes to the same with a line of the log.": (
        f"drop-where-guard:{_DATABASE}.ensure_usable:2",
        f"drop-where-guard:{_DATABASE}.close:1",
    ),
    "An error of the ledger's own passes through the translation as it is.": (
        "swallow-except:ledger/disk/connections.py:open_connection:1",
    ),
    "A transaction that changes nothing is all that it costs to look for old messages where there are none.": (
        "drop-where-guard:ledger/outbox/recovery.py:RecoveringQueue._expire_old:1",
    ),
    "Every caller has restored before, so there is nothing left to do here.": (f"drop-reread:{_ENGINE}.view:1",),
    "All of it is done with the lock held and told only at the end of the unit, when memory has everything.": (
        f"observer-before-commit:{_ENGINE}.settled:2",
        f"swap-commit-and-memory:{_ENGINE}.settled:1",
    ),
}

_ELSEWHERE: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "did its work": (
        "To call a change that is there unknown is allowed to every store, so no check can object.",
        f"{_TESTS}a_commit_that_did_its_work_and_then_failed_is_a_success",
        (f"drop-where-guard:{_TRANSACTION}._settle:1",),
    ),
    "read again": (
        "A read that is made again after its error finds the same rows, so no check can object.",
        "tests/ledger/test_rows.py::test_a_read_that_fails_on_the_way_is_raised_though_another_would_succeed",
        ("swallow-except:ledger/disk/rows.py:chunks:1",),
    ),
    "interrupt": (
        "Only an interrupt leaves a transaction open there, and no search interrupts Python.",
        f"{_TESTS}a_transaction_that_an_interrupt_left_open_is_rolled_back_by_the_next_call",
        (f"drop-rollback:{_DATABASE}.begin:1",),
    ),
    "BEGIN": (
        "The catalogue knows no BEGIN that begins and then reports an error, since SQLite knows none.",
        f"{_TESTS}a_failed_statement_changes_nothing",
        (f"drop-rollback:{_DATABASE}.begin:2",),
    ),
    "no fence": (
        "It takes a COMMIT and its fence that both fail, and a power cut before the next commit.",
        f"{_TESTS}without_a_fence_the_outcome_is_unknown_and_memory_shows_what_disk_shows",
        (
            f"drop-fsync:{_DATABASE}.ensure_usable:1",
            f"swap-commit-and-memory:{_DATABASE}.lay_fence:1",
            f"swap-commit-and-memory:{_DATABASE}.lay_fence:2",
        ),
    ),
    "later commit": (
        "The executor looks after every call, and the look heals before the next call begins.",
        f"{_TESTS}any_later_commit_settles_an_owed_fence",
        (f"drop-reread:{_DATABASE}.begin:1",),
    ),
    "closing": (
        "The executor looks after every call, so nothing is owed any more when the store is closed.",
        f"{_TESTS}closing_lays_an_owed_fence",
        (f"drop-reread:{_DATABASE}.close:1",),
    ),
    "suspect": (
        "It takes a COMMIT that fails, and a second look or a new connection that fails, too.",
        f"{_TESTS}without_a_second_look_the_ledger_is_suspect_until_it_is_healed",
        (f"drop-rollback:{_DATABASE}.ensure_usable:1",),
    ),
    "promises": (
        "No search asks a closed ledger for anything.",
        f"{_DEFECTS}a_ledger_says_what_it_promises",
        (f"drop-where-guard:{_DATABASE}.ensure_usable:1",),
    ),
    "sticky": (
        "A ledger that is opened is restored at once, and no search restores one for a second time.",
        f"{_REGISTRY}a_failed_restore_is_sticky_until_it_is_repeated",
        (
            f"drop-reread:{_ENGINE}._current:1",
            f"drop-reread:{_ENGINE}._change:1",
            f"swallow-except:{_ENGINE}.restore:1",
        ),
    ),
    "batch restored": (
        "A ledger that is opened is restored at once, so no batch of a search comes before it.",
        f"{_CORE}a_batch_on_a_ledger_that_was_not_restored_is_refused",
        (f"drop-reread:{_ENGINE}.batch:1",),
    ),
    "batch others": (
        "No search reads inside a batch what another process committed just before it.",
        f"{_CORE}reads_in_a_batch_see_what_others_committed_before",
        (f"drop-reread:{_ENGINE}.batch:2",),
    ),
    "batch in a batch": (
        "No batch of a search reads what it has written itself.",
        f"{_CORE}a_batch_inside_a_batch_keeps_what_the_outer_one_has_done",
        (f"drop-where-guard:{_ENGINE}._current:1",),
    ),
    "pending": (
        "Only an interrupt leaves changes pending, and no search interrupts Python.",
        f"{_CORE}what_an_interrupt_left_pending_is_not_taken_for_the_next_unit_s",
        (f"drop-reread:{_ENGINE}.joined:1",),
    ),
    "reload": (
        "The look after a call is made without any fault, so its load never fails.",
        f"{_REGISTRY}a_reload_that_fails_raises_and_keeps_memory_for_nobody",
        (f"swallow-except:{_ENGINE}._load_or_refuse:1",),
    ),
    "damaged index": (
        "No search damages what is on the disk, so the check of the content finds nothing to object to.",
        f"{_OPENING}an_index_that_lacks_rows_counts_as_damage",
        ("weaken-pragma:ledger/disk/connections.py:_check_content:1",),
    ),
    "defaults": (
        "The target names its level of synchronous, and foreign keys matter only to rows that are never written.",
        f"{_OPENING}the_defaults_are_wal_and_full_and_the_others_are_by_choice",
        (
            "weaken-pragma:ledger/disk/connections.py:default_synchronous:1",
            "weaken-pragma:ledger/disk/connections.py:default_synchronous:2",
            "weaken-pragma:ledger/disk/connections.py:open_connection:2",
        ),
    ),
    "directories": (
        "The state directory of a search is there before the ledger is opened.",
        f"{_DEFECTS}every_new_directory_is_synced_into_its_parent_before_the_database_is_made",
        ("drop-fsync:ledger/disk/files.py:_make_directory:1", "drop-fsync:ledger/disk/files.py:_sync_directory:1"),
    ),
    "no directory": (
        "The state directory of a search is a directory.",
        f"{_OPENING}a_state_directory_that_is_a_file_is_named_in_the_error",
        ("swallow-except:ledger/disk/files.py:prepare:1",),
    ),
    "unsynced directory": (
        "No fault reaches what Python does with files by itself.",
        f"{_DEFECTS}a_directory_that_cannot_be_synced_is_an_error_unless_it_never_can_be",
        ("swallow-except:ledger/disk/files.py:prepare:3", "swallow-except:ledger/disk/files.py:_sync_directory:1"),
    ),
    "sessions of others": (
        "No rule says that the session of a run that has ended in good order stays valid.",
        "tests/ledger/test_recovery_rules.py::"
        "test_runs_in_flight_of_dead_workers_are_interrupted_and_all_others_untouched",
        ("drop-where-guard:ledger/history.py:RunHistory._invalidate_sessions:1",),
    ),
    "invalid sessions": (
        "No call of a search invalidates a session by itself.",
        f"{_RUNS}an_invalid_session_stays_so_and_says_when_and_why",
        ("drop-where-guard:ledger/history.py:RunHistory._invalidate_sessions:2",),
    ),
    "running rows": (
        "A recovery that is refused is a no like any other to a search, and lock files are none of its concern.",
        f"{_RUNS}looking_for_running_rows_does_not_read_the_whole_history",
        (
            "drop-where-guard:ledger/history.py:RunHistory._workers_of_running_rows:1",
            "drop-where-guard:ledger/recovery.py:Recovery._in_flight:1",
        ),
    ),
    "deleted task": (
        "No call of the workload deletes the task of a run in flight.",
        f"{_RUNS}a_run_ends_though_its_task_was_deleted_or_cannot_be_read",
        ("drop-where-guard:ledger/history.py:RunHistory._end_task:1",),
    ),
    "tasks of a run": (
        "No rule says which tasks a call by run may touch.",
        f"{_REGISTRY}calls_by_run_touch_the_tasks_of_that_run_only",
        ("drop-where-guard:ledger/stores/sqlite.py:SqliteUnit.tasks_of_run:1",),
    ),
    "level that sticks": (
        "The import raises the level for itself only at NORMAL and OFF, and faults there are not among the hunts.",
        f"{_IMPORT}a_level_that_cannot_be_set_loses_nothing_and_does_not_stick",
        (
            "drop-rollback:ledger/outbox/outbox.py:Outbox._durable:1",
            "swallow-except:ledger/outbox/outbox.py:Outbox._set_synchronous:1",
        ),
    ),
    "durable import": (
        "The crash search has no legacy file among the files that a power cut takes back.",
        f"{_IMPORT}the_commit_is_durable_whatever_level_the_ledger_runs_at",
        (
            "drop-fsync:ledger/outbox/outbox.py:Outbox._store_imported:1",
            "weaken-pragma:ledger/outbox/outbox.py:Outbox._set_synchronous:1",
            "drop-where-guard:ledger/outbox/outbox.py:Outbox._durable:1",
            "weaken-pragma:ledger/outbox/outbox.py:module:1",
            "weaken-pragma:ledger/outbox/outbox.py:module:2",
        ),
    ),
    "not writable": (
        "The state directory of a search can be written to.",
        f"{_OPENING}a_directory_without_write_permission_is_refused",
        ("drop-where-guard:ledger/disk/files.py:prepare:1",),
    ),
    "same key": (
        "No workload imports a message whose key is known under another id.",
        f"{_IMPORT}a_known_idempotency_key_is_known_under_any_id",
        ("drop-where-guard:ledger/outbox/outbox.py:Outbox._insert_or_ignore:2",),
    ),
    "changed file": (
        "No old file changes while it is imported.",
        f"{_IMPORT}a_file_that_changes_while_it_is_imported_stays",
        ("drop-where-guard:ledger/outbox/outbox.py:Outbox._remove_imported:1",),
    ),
    "two under one id": (
        "No workload has two old files with the same id.",
        f"{_IMPORT}two_messages_under_one_id_are_not_thrown_together",
        ("drop-where-guard:ledger/outbox/outbox.py:Outbox._import_file:1",),
    ),
    "store": (
        "No search reads a task through the store itself inside a batch.",
        "tests/ledger/test_ledger_stores.py::test_a_store_gives_back_what_was_saved_in_the_same_order",
        (f"drop-where-guard:{_DATABASE}._read_transaction:1",),
    ),
    "close in a batch": (
        "No search closes a ledger inside a batch.",
        f"{_TESTS}a_ledger_cannot_be_closed_inside_a_batch",
        (f"drop-where-guard:{_DATABASE}.close:2",),
    ),
    "switch to WAL": (
        "A fault that lets the switch of the mode fail lets the next statement of the opening fail, too.",
        f"{_OPENING}a_fault_while_opening_leaves_nothing_open_and_the_next_open_works",
        ("swallow-except:ledger/disk/connections.py:_set_journal_mode:1",),
    ),
    "stale memory": (
        "No other process of a search commits between the last look and a call.",
        f"{_REGISTRY}no_change_is_made_from_a_stale_memory",
        ("drop-reread:ledger/registry.py:_existing:1",),
    ),
    "young messages": (
        "No rule says how old a message must be to be pruned, as long as it has ended.",
        "tests/ledger/test_outbox_queue.py::test_only_what_ended_longer_ago_is_pruned",
        ("drop-where-guard:ledger/outbox/queue.py:module:2",),
    ),
    "pending messages": (
        "No row of a search has a date of its end and is still pending.",
        "tests/ledger/test_outbox_queue.py::test_a_pending_row_is_never_pruned_whatever_it_says_of_its_end",
        ("drop-where-guard:ledger/outbox/queue.py:module:3",),
    ),
    "ended messages": (
        "What has ended is refused again when it is to be sent, and no rule says what a pass reports.",
        "tests/ledger/test_outbox_recovery.py::test_no_budget_sends_nothing_but_expires",
        ("drop-where-guard:ledger/outbox/queue.py:module:1",),
    ),
    "known key": (
        "No rule says that a message that was queued is there, where its key was taken for a known one.",
        "tests/ledger/test_outbox_queue.py::test_a_call_that_fails_has_changed_nothing_and_works_afterwards",
        ("drop-where-guard:ledger/outbox/queue.py:MessageQueue._find_by_key:1",),
    ),
    "same key again": (
        "No workload queues the same key twice.",
        "tests/ledger/test_outbox_queue.py::test_the_same_idempotency_key_gives_back_the_first_message_unchanged",
        ("drop-where-guard:ledger/outbox/queue.py:MessageQueue.enqueue:1",),
    ),
    "taken id": (
        "No workload queues another message under an id that is taken.",
        "tests/ledger/test_outbox_queue.py::test_an_id_that_is_taken_is_refused",
        ("drop-where-guard:ledger/outbox/queue.py:MessageQueue.enqueue:2",),
    ),
    "living worker": (
        "A worker that claims a message in a search is alive.",
        "tests/ledger/test_outbox_queue.py::test_only_the_living_can_claim",
        ("drop-where-guard:ledger/outbox/queue.py:MessageQueue._lease:1",),
    ),
    "no message": (
        "A search changes only messages that are there.",
        "tests/ledger/test_outbox_queue.py::test_a_message_that_is_not_there_is_not_found",
        ("drop-where-guard:ledger/outbox/queue.py:MessageQueue._update:1",),
    ),
    "limited prune": (
        "No call of a search prunes with a limit.",
        "tests/ledger/test_outbox_queue.py::test_a_limited_prune_takes_the_oldest_rows_first",
        ("drop-where-guard:ledger/outbox/queue.py:MessageQueue.prune:2",),
    ),
    "sixth attempt": (
        "No message of a search comes to its last attempt.",
        "tests/ledger/test_outbox_defects.py::test_a_sender_gets_no_sixth_attempt_by_claiming",
        ("drop-where-guard:ledger/outbox/recovery.py:RecoveringQueue._attempt:1",),
    ),
    "unreadable row": (
        "No task of a search has a row that can't be read.",
        "tests/ledger/test_ledger_transaction.py::test_a_row_that_cannot_be_read_dooms_the_batch",
        ("swallow-except:ledger/disk/rows.py:RecordTable.decode:1",),
    ),
    "stale delivery": (
        "No other process of a search commits between the last look and a call.",
        "tests/ledger/test_ledger_registry.py::test_a_delivery_state_that_is_no_json_is_quarantined_and_its_task_loads",
        ("drop-reread:ledger/registry.py:TaskRegistry.set_delivery_state.compute:1",),
    ),
    "pruned and back": (
        "No workload imports a file again after its message was pruned.",
        f"{_IMPORT}what_has_ended_never_comes_back_not_even_when_it_was_pruned",
        ("drop-where-guard:ledger/outbox/outbox.py:Outbox._insert_or_ignore:1",),
    ),
}

_HOLES: Final[Mapping[str, tuple[str, ...]]] = {
    "It would take two COMMITs in a row that fail, the second without its fence, and then a power cut.": (
        f"drop-fsync:{_TRANSACTION}._secure_what_was_read:1",
        f"swap-commit-and-memory:{_TRANSACTION}._commit:1",
        f"drop-where-guard:{_TRANSACTION}._commit:1",
    ),
    "It would take an observer that calls the ledger while a fault is armed; the mirror only listens.": (
        f"observer-before-commit:{_TRANSACTION}._commit:2",
        f"observer-before-commit:{_TRANSACTION}._committed:1",
        f"observer-before-commit:{_TRANSACTION}._settle:1",
        f"observer-before-commit:{_ENGINE}._tell_restored:1",
        f"observer-before-commit:{_ENGINE}.committed:1",
        f"observer-before-commit:{_ENGINE}.committed:2",
        f"observer-before-commit:{_ENGINE}.rolled_back:1",
        f"observer-before-commit:{_ENGINE}.rolled_back:2",
    ),
    "It would take an interrupt of Python, or another error that is not SQLite's, in the middle of a statement.": (
        f"swap-commit-and-memory:{_DATABASE}.settle:1",
        f"swap-commit-and-memory:{_ENGINE}._load_memory:1",
        f"swallow-except:{_DATABASE}._run:2",
        f"swallow-except:{_DATABASE}._asking:2",
        "swallow-except:ledger/outbox/outbox.py:Outbox._set_synchronous:2",
        "swallow-except:ledger/stores/sqlite.py:SqliteUnit.__enter__:1",
    ),
    "It would take a new connection that fails while a failed COMMIT is being settled or healed.": (
        f"swallow-except:{_DATABASE}._reconnected:1",
        f"swallow-except:{_DATABASE}._asking:1",
    ),
    "It would take a file system that denies what it has just allowed, or a directory of somebody else.": (
        "swallow-except:ledger/disk/files.py:prepare:2",
        "swallow-except:ledger/disk/files.py:existing:1",
    ),
    "It would take another process that commits between this one's last look and its call.": (
        "drop-reread:ledger/stores/sqlite.py:SqliteUnit.__enter__:1",
        "drop-reread:ledger/registry.py:TaskRegistry.create.compute:1",
        "drop-reread:ledger/registry.py:TaskRegistry.create.compute:2",
        "drop-reread:ledger/registry.py:TaskRegistry.revise.compute:1",
        "drop-reread:ledger/registry.py:TaskRegistry._update_run.compute:1",
        "drop-reread:ledger/registry.py:_refuse_taken:1",
    ),
    "It would take a JSON file that can't be read or written, or is damaged; no fault reaches plain files.": (
        "swallow-except:ledger/stores/json_snapshot.py:JsonSnapshotStore.load_snapshot:1",
        "swallow-except:ledger/stores/json_snapshot.py:JsonSnapshotStore.load_snapshot:2",
        "swallow-except:ledger/stores/json_snapshot.py:JsonSnapshotStore.save_snapshot:1",
        "swallow-except:ledger/stores/json_snapshot.py:JsonSnapshotStore._replace:1",
    ),
    "It would take a message that another process prunes between two statements of a pass.": (
        "drop-where-guard:ledger/outbox/recovery.py:RecoveringQueue._expire_old:2",
    ),
    "It would take a batch that is begun while the ledger is suspect; a look comes before each call.": (
        f"drop-where-guard:{_DATABASE}.ensure_usable:3",
    ),
    "It would take a search that asks for the level of synchronous after a fence at NORMAL.": (
        f"drop-where-guard:{_DATABASE}.abandon:1",
    ),
    "It would take real workers; those of a search are pretended and leave no lock files.": (
        "drop-where-guard:ledger/outbox/queue.py:MessageQueue.leaseholders:1",
        "drop-where-guard:ledger/outbox/queue.py:MessageQueue.leaseholders:2",
    ),
    "It would take a rival that comes after an impatient fence; rivals and faults are not combined.": (
        f"weaken-pragma:{_DATABASE}.lay_fence:2",
    ),
    "It would take a history or an outbox that is read first after a failed COMMIT; the executor reads tasks first.": (
        f"drop-reread:{_DATABASE}.reading:1",
        "drop-reread:ledger/stores/sqlite.py:SqliteStore.version:1",
    ),
    "It would take a search that asks a suspect ledger how durable it is.": (f"drop-reread:{_DATABASE}.durability:1",),
    "It would take a ledger in memory under faults; a connection of its own is closed, which ends what it read.": (
        f"drop-rollback:{_DATABASE}._read_again:1",
    ),
}

REVIEWED: Final[Mapping[str, Reviewed]] = {
    **{name: Reviewed("equivalent", reason) for reason, names in _EQUIVALENT.items() for name in names},
    **{name: Reviewed("elsewhere", reason, test) for reason, test, names in _ELSEWHERE.values() for name in names},
    **{name: Reviewed("hole", reason) for reason, names in _HOLES.items() for name in names},
}
