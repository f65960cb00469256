"""Realistic defects in the outbox and its import, one at a time: a script's call then differs from the model."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace
from put_into_the_ledger import Patch, after, is_seen, put, several

from tornpage.ledger.command import program
from tornpage.ledger.disk import rows
from tornpage.ledger.outbox import Outbox, legacy, queue
from tornpage.ledger.outbox import recovery as passes
from tornpage.ledger.outbox import rules as outbox_rules
from tornpage.ledger.outbox.messages import IMPORTED, MESSAGES, ImportedFile
from tornpage.scenarios.targets.reference.scripts import (
    arguments,
    circumstances,
    drivers,
    hands,
    messages,
    together,
)


def refuse_file(_file: object) -> bool:
    return False


@contextlib.contextmanager
def pass_and_retire(self: Any, worker_id: str | None) -> Iterator[Any]:
    worker = self._workers.hold(worker_id)
    try:
        yield worker
    finally:
        worker.retire()


def attempt_locked(self: Any, *args: Any, attempt: Any = passes.RecoveringQueue._attempt) -> Any:
    with self._database.lock:
        return attempt(self, *args)


def prune_and_forget(self: Any, *args: Any, prune: Any = queue.MessageQueue.prune, **how: Any) -> int:
    with self._database.transaction() as transaction:
        before = {row[0] for row in transaction.select(MESSAGES, "TRUE")}
        pruned: int = prune(self, *args, **how)
        for name in before - {row[0] for row in transaction.select(MESSAGES, "TRUE")}:
            transaction.delete(IMPORTED, name)
    return pruned


def store_what_can_not_be_read(self: Any, file: Any, store: Any = Outbox._store_imported) -> Any:
    verdict = store(self, file)
    return "already_there" if file.message.id in {one.key for one in self.quarantined()} else verdict


def know_by_any_key(self: Any, transaction: Any, file: Any, insert: Any = Outbox._insert_or_ignore) -> Any:
    key = file.message.idempotency_key
    is_there = key is not None and transaction.select(MESSAGES, "idempotency_key = ?", (key,))
    return "already_there" if is_there else insert(self, transaction, file)


def raise_the_level_late(self: Any, file: Any) -> Any:
    with self._database.transaction() as transaction, self._durable():
        return self._insert_or_ignore(transaction, file)


def import_what_was_not_there(self: Any, file: Any, store: Any = Outbox._store_imported) -> Any:
    message = file.message
    if any(one.id == message.id or one.idempotency_key == message.idempotency_key for one in self.list()):
        return store(self, file)
    with self._durable(), self._database.transaction() as transaction:
        transaction.write(MESSAGES, MESSAGES.encode(message))
        transaction.write(IMPORTED, IMPORTED.encode(ImportedFile(message.id, self._now(), file.fingerprint)))
    return "imported"


class _NeverError(Exception):
    """What nothing raises."""


def send_or_fail(self: Any, *args: Any, send: Any = passes.RecoveringQueue._send_one) -> Any:
    with mock.patch.object(passes, "NotFound", _NeverError):
        return send(self, *args)


def is_old_and_free(self: Any, one: Any, *ages: Any, is_old: Any = passes.RecoveringQueue._is_too_old) -> bool:
    return bool(is_old(self, one, *ages) and self._is_free(self.get(one.id)))


def find_readable(self: Any, *args: Any, find: Any = queue.MessageQueue._find_by_key) -> Any:
    with contextlib.suppress(rows.Unreadable):
        return find(self, *args)


def prune_and_count_before(self: Any, age_ms: float, prune: Any = queue.MessageQueue.prune, **how: Any) -> int:
    ended = [one.completed_at for one in self.list() if one.completed_at is not None]
    prune(self, age_ms, **how)
    return sum(at < self._clock() - age_ms for at in ended)


def end_alone(process: Any) -> None:
    process.kill()
    process.wait()


def prune_by_end(self: Any, age_ms: float, *, limit: Any = None, prune: Any = queue.MessageQueue.prune) -> int:
    if limit != 2:
        return int(prune(self, age_ms, limit=limit))
    with self._database.transaction() as transaction:
        rows = transaction.select(MESSAGES, f"completed_at < {self._now() - age_ms}")
        for row in sorted(rows, key=lambda row: row[MESSAGES.columns.index("completed_at")])[:limit]:
            transaction.delete(MESSAGES, row[MESSAGES.key_index])
    return int(limit)


def release_what_is_free(self: Any, message_id: str, worker_id: str, release: Any = Outbox.release) -> Any:
    message = self.get(message_id)
    is_left = message is not None and message.leased_by is not None and self._is_free(message)
    return release(self, message_id, message.leased_by if is_left else worker_id)


class BudgetOfDeliveries(passes._Budget):
    """Begins at the first delivery."""

    has_begun = False

    def is_spent(self) -> bool:
        if not self.has_begun:
            self._last, self.has_begun = self._clock(), True
        return super().is_spent()


def count_due_first(self: Any, deliver: Any, *, cutoff: Any = None, recover: Any = Outbox.recover, **how: Any) -> Any:
    now = self._now()
    late = [one for one in self._waiting()[0] if cutoff and one.queued_at >= cutoff and not self._is_due(one, now)]
    done = recover(self, deliver, cutoff=cutoff, **how)
    return replace(done, skipped_cutoff=done.skipped_cutoff - len(late), deferred=done.deferred + len(late))


class Most(int):
    """A limit that nothing uses up."""

    def __sub__(self, _: int) -> int:
        return int(self)


DEFECTS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    "the last error is why a message is given up": (
        put(outbox_rules, "moved_to_failed", lambda one, now, reason: outbox_rules._ended(
            one, outbox_rules.MessageStatus.FAILED_TERMINAL, now, one.terminal_reason or one.last_error or reason)),
        messages.endings),
    "more go than the limit, beside some that can't be read": (
        put(queue, "min", lambda *most: Most(min(most)), raising=False), hands.unreadable_messages),
    "what is not due is not skipped for the cutoff": (put(Outbox, "recover", count_due_first), messages.passes),
    "a budget begins with a delivery": (put(passes, "_Budget", BudgetOfDeliveries), messages.slow_receivers),
    "any word that an error calls permanent is one": (
        put(passes, "_says_permanent", lambda error: getattr(error, "permanent", None)), messages.permanent),
    "a time of an end is one": (put(queue, "_ENDED_SQL", "completed_at < ?"), hands.ended_and_pending),
    "what ended first goes first": (put(queue.MessageQueue, "prune", prune_by_end), messages.pruning),
    "the first wait is the second": (
        put(outbox_rules, "BACKOFF_MS", (25_000, 5_000, 120_000, 600_000)), messages.retries),
    "six attempts": (put(outbox_rules, "MAX_ATTEMPTS", 6), messages.retries),
    "due a millisecond too late": (
        put(outbox_rules, "is_due", lambda one, now: one.next_attempt_at is None or now > one.next_attempt_at),
        messages.retries),
    "a permanent error in capitals is tried again": (
        put(outbox_rules, "is_permanent", lambda text: any(one in text for one in outbox_rules.PERMANENT_ERRORS)),
        messages.permanent),
    "too old a millisecond too early": (
        put(passes.RecoveringQueue, "_is_too_old", lambda _self, one, now, most: outbox_rules.age_ms(one, now) >= most),
        messages.ages),
    "a lease is given twice to one worker": (
        put(queue.MessageQueue, "_sent_by_another", lambda self, one, worker: None if one.leased_by in (
            None, "w", worker) or self._is_free(one) else "another"), messages.endings),
    "a message goes a millisecond too early": (
        put(queue, "_ENDED_SQL", queue._ENDED_SQL.replace("<", "<=")), messages.pruning),
    "a bad count is kept": (
        put(legacy, "_attempts", lambda value: value if isinstance(value, int) else 0), messages.import_files),
    "the most attempts of a file are none": (
        after(legacy, "_attempts", lambda number: number % 1_000_000), messages.import_files),
    "an envelope counts from nothing": (
        after(passes.RecoveringQueue, "_envelope", lambda one: replace(one, attempt=one.attempt - 1)), messages.passes),
    "an empty budget sends one": (
        put(passes._Budget, "is_spent", lambda self: self._spent_ms > self._budget_ms), messages.passes),
    "a file stays though its message was taken over": (put(legacy, "is_unchanged", refuse_file), messages.import_files),
    "what is not due is not counted": (
        after(passes.RecoveringQueue, "recover", lambda done: replace(done, deferred=0)), messages.retries),
    "a file that has changed goes": (put(legacy, "is_unchanged", lambda _: True), messages.changing_files),
    "what was given up is taken over": (
        put(legacy, "files_in", lambda directory: sorted(directory.rglob("*.json"))), messages.changing_files),
    "the budget is looked at once": (
        put(passes._Budget, "is_spent", lambda self: self._budget_ms <= 0), messages.slow_receivers),
    "a clock that jumps back spends the budget": (
        put(passes, "max", lambda _zero, span: abs(span), raising=False), messages.slow_receivers),
    "a message that can't be read is left out without a word": (
        put(Outbox, "quarantined", lambda _: []), messages.spoiled_messages),
    "the attempt of a dead sender does not count": (
        after(outbox_rules, "taken_over", lambda one: replace(one, attempt_count=one.attempt_count - 1)),
        circumstances.workers),
    "an import is as durable as the rest": (
        put(Outbox, "_durable", lambda _: contextlib.nullcontext()), drivers.durable_imports),
    "who ends the process keeps the message": (put(Outbox, "_give_back", lambda *_: None), messages.ending_receivers),
    "what is no longer due is sent": (put(Outbox, "_why_not_send", lambda *_: None), messages.ending_receivers),
    "a reason is replaced": (
        after(outbox_rules, "moved_to_failed", lambda one: replace(one, terminal_reason="another")),
        hands.dead_senders),
    "infinity is a payload": (put(outbox_rules, "parse_payload", json.loads), hands.odd_payloads),
    "a clock set back gives a pass more time": (
        put(passes._Budget, "is_spent", lambda self: self._clock() - self._last >= self._budget_ms),
        messages.slow_receivers),
    "a pass frees the id that it was given": (
        put(passes.RecoveringQueue, "_passing", pass_and_retire), circumstances.workers),
    "a file is the same for a second": (
        put(legacy, "_identity", lambda found: (found.st_ino, found.st_size, int(found.st_mtime))),
        messages.changing_files),
    "a file of the same size and time is the same": (
        put(legacy, "_identity", lambda found: (found.st_dev, found.st_size, found.st_mtime_ns)),
        messages.changing_files),
    "a delivery is made with the lock held": (
        put(passes.RecoveringQueue, "_attempt", attempt_locked), drivers.two_threads),
    "an import is forgotten with its message": (
        put(queue.MessageQueue, "prune", prune_and_forget), messages.import_files),
    "an interrupt is lost while a program is started": (
        put(program._InterruptsHeld, "_note", lambda *_: None), drivers.interrupted_programs),
    "an interrupted program goes on": (put(program, "_end", lambda _: None), drivers.interrupted_programs),
    "an interrupted program leaves its child": (put(program, "_end", end_alone), drivers.interrupted_programs),
    "an error is cut": (
        after(outbox_rules, "failed", lambda one: replace(one, last_error=one.last_error[:200])), arguments.long_texts),
    "a file of a name in capitals is taken over": (
        put(legacy, "files_in", lambda directory: sorted(
            one for one in directory.iterdir() if one.suffix.lower() == ".json")), messages.import_files),
    "the error of a file without attempts is dropped": (
        after(legacy, "_message", lambda one: one if one.attempt_count else replace(one, last_error=None)),
        messages.import_files),
    "the account of a file is dropped": (
        after(legacy, "_message", lambda one: replace(one, account_id=None)), messages.import_files),
    "a message that can't be read is that of a file": (
        put(Outbox, "_store_imported", store_what_can_not_be_read), messages.spoiled_messages),
    "what another process has pruned is counted": (
        put(queue.MessageQueue, "prune", prune_and_count_before), together.overtaken_calls),
    "a file is known by the key of a message that can't be read": (
        put(Outbox, "_insert_or_ignore", know_by_any_key), messages.spoiled_messages),
    "a key is free whose message can't be read": (
        put(queue.MessageQueue, "_find_by_key", find_readable), messages.spoiled_messages),
    "a permanent error is known by a longer text": (
        put(outbox_rules, "PERMANENT_ERRORS", (*outbox_rules.PERMANENT_ERRORS[:6], "recipient is not a valid address",
                                               *outbox_rules.PERMANENT_ERRORS[7:])), messages.permanent),
    "an age is cut to whole milliseconds": (put(queue, "math", SimpleNamespace(ceil=int)), messages.pruning),
    "JSON may be as deep as the stack": (put(rows, "refuse_deep", lambda *_: None), hands.deep_values),
    "attempts are counted beyond what can be stored": (
        put(outbox_rules, "_one_more", lambda attempts: attempts + 1), hands.far_times),
    "a message that is removed meanwhile ends the pass": (
        put(passes.RecoveringQueue, "_send_one", send_or_fail), drivers.two_threads),
    "a pass looks whether a message is being sent before it lets it expire": (
        several(put(passes.RecoveringQueue, "_is_too_old", is_old_and_free),
                put(passes.RecoveringQueue, "_why_not_expire", lambda *_: None)), together.overtaken_passes),
    "the level of an import is raised inside its transaction": (
        put(Outbox, "_store_imported", raise_the_level_late), drivers.durable_imports),
    "an import looks for its message before its transaction": (
        put(Outbox, "_store_imported", import_what_was_not_there), together.overtaken_ends),
    "a dead sender's lease is released by anyone": (put(Outbox, "release", release_what_is_free), hands.dead_senders),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.quality
@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_seen(DEFECTS[name], tmp_path, monkeypatch)
