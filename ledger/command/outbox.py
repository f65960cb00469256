"""The commands under ``ledger outbox``."""

# no fault in this file: a target calls the ledger itself, not the command; its tests do that.

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from tornpage.ledger.command.output import as_utc, print_json, print_record, print_rows
from tornpage.ledger.command.program import DeliveryProgram
from tornpage.ledger.errors import NotFound, UsageError
from tornpage.ledger.ledger import Ledger
from tornpage.ledger.outbox import ImportReport, Message, MessageStatus, PayloadError
from tornpage.ledger.outbox.rules import DEFAULT_BUDGET_MS, DEFAULT_MAX_AGE_MS, parse_payload


class _Opener(Protocol):
    def opened(self) -> AbstractContextManager[Ledger]: ...


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_COLUMNS = ("id", "channel", "target", "status", "attempts", "queued", "next attempt", "reason")
_DEFAULT_TIMEOUT_MS = 30_000
_PRUNE_STEP = 10_000


@click.group("outbox")
def outbox_group() -> None:
    """Queue, watch and deliver messages.

    A message is queued or failed_retryable until it ends as delivered, failed_terminal or expired. It is delivered at
    least once: after a crash a second copy may be sent, with the same idempotency key.
    """


def _as_document(message: Message) -> dict[str, Any]:
    """The message with its payload as JSON, or as text if it isn't valid JSON."""
    document = msgspec.to_builtins(message)
    try:
        parse_payload(message.payload)
        # Embedded unchanged: its numbers may be longer than an encoder can write.
        document["payload"] = msgspec.Raw(message.payload.encode())
    except PayloadError as error:
        document["payload_error"] = str(error)
    return document if isinstance(document, dict) else {}


@outbox_group.command("list")
@click.option("--status", type=click.Choice([one.value for one in MessageStatus]), help="Only this status.")
@click.option("--channel", help="Only this channel.")
@_as_json
@click.pass_obj
def list_command(opener: _Opener, status: str | None, channel: str | None, as_json: bool) -> None:
    """List messages in the order in which they were queued.

    On a terminal a table; in a pipe tab-separated lines with a heading. Rows that can't be read are named on standard
    error.
    """
    with opener.opened() as ledger:
        messages = ledger.outbox.list(status=status, channel=channel)
        # Of all channels: a row that can't be read is of none.
        quarantined = ledger.outbox.quarantined()
    if as_json:
        documents = [_as_document(message) for message in messages]
        filters = {"status": status, "channel": channel}
        print_json({"count": len(messages), "filters": filters, "messages": documents, "quarantined": quarantined})
        return
    print_rows(_COLUMNS, [_cells(message) for message in messages], empty="No messages.")
    for one in quarantined:
        click.echo(f"quarantined: {one.table} {one.key}: {one.reason}", err=True)


def _cells(message: Message) -> tuple[str, ...]:
    return (
        message.id,
        message.channel,
        message.target,
        message.status.value,
        str(message.attempt_count),
        as_utc(message.queued_at),
        as_utc(message.next_attempt_at) if message.next_attempt_at is not None else "",
        message.terminal_reason or message.last_error or "",
    )


@outbox_group.command("show")
@click.argument("message_id")
@_as_json
@click.pass_obj
def show_command(opener: _Opener, message_id: str, as_json: bool) -> None:
    """Show one message, field by field."""
    with opener.opened() as ledger:
        message = ledger.outbox.get(message_id)
        if message is None:
            raise NotFound(f"there is no message {message_id!r}; `ledger outbox list` shows what there is")
    _show(message, as_json=as_json)


def _show(message: Message, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_document(message))
    else:
        print_record(message)


@outbox_group.command("enqueue")
@click.argument("channel")
@click.argument("target")
@click.argument("payload")
@click.option("--key", "idempotency_key", help="The same key is queued only once.")
@click.option("--turn", "turn_id", help="The turn of the conversation that it belongs to.")
@click.option("--account", "account_id", help="The account that sends it.")
@click.option("--kind", "dispatch_kind", help="What kind of message it is, such as final.")
@_as_json
@click.pass_obj
def enqueue_command(opener: _Opener, /, payload: str, as_json: bool, **fields: Any) -> None:
    """Queue a message; PAYLOAD is JSON. Prints its id.

    If the idempotency key is known, the existing message stays unchanged and its id is printed.
    """
    with opener.opened() as ledger:
        try:
            value = parse_payload(payload, every_key=True)
        except PayloadError as error:
            raise UsageError(f"PAYLOAD must be JSON: {error}") from error
        message = ledger.outbox.enqueue(payload=value, **fields)
    if as_json:
        print_json(_as_document(message))
    else:
        click.echo(message.id)


@outbox_group.command("recover")
@click.option("--deliver-command", required=True, help="The program that delivers, with its arguments.")
@click.option(
    "--timeout-ms",
    type=click.IntRange(min=1),
    default=_DEFAULT_TIMEOUT_MS,
    show_default=True,
    help="How long the program may take for one message.",
)
@click.option(
    "--budget-ms", type=float, default=DEFAULT_BUDGET_MS, show_default=True, help="Begin no delivery after this time."
)
@click.option(
    "--max-age-ms", type=float, default=DEFAULT_MAX_AGE_MS, show_default=True, help="Expire what is older than this."
)
@click.option(
    "--cutoff", type=int, help="Leave what was queued at this time or later, in milliseconds since the epoch."
)
@_as_json
@click.pass_obj
def recover_command(opener: _Opener, /, deliver_command: str, timeout_ms: int, as_json: bool, **limits: Any) -> None:
    """Deliver the due messages, by a program.

    The program runs once for every message that is due, oldest first. It gets a JSON object on its standard input
    (id, idempotency_key, channel, account_id, target, payload and more) and reports the result by its exit code. It
    must drop a message whose idempotency_key it has delivered before.

    \b
    Exit codes of the program:
      0      delivered
      75     temporary failure: retry later
      other  permanent failure

    A program that takes too long is killed, with its child processes. After that, a death by a signal or a failed start
    the message is retried later; `ledger outbox list` shows the reasons.
    """
    with opener.opened() as ledger:
        done = ledger.outbox.recover(DeliveryProgram(deliver_command, timeout_ms=timeout_ms), **limits)
    if as_json:
        print_json(done)
        return
    for name, count in msgspec.structs.asdict(done).items():
        click.echo(f"{name:<22} {count}")


@outbox_group.command("prune")
@click.option("--age-ms", type=float, required=True, help="Delete messages that ended longer ago; more than 0.")
@_as_json
@click.pass_obj
def prune_command(opener: _Opener, age_ms: float, as_json: bool) -> None:
    """Delete messages that ended long ago; there is no way back."""
    pruned = 0
    with opener.opened() as ledger:
        # In steps, so that others don't wait long for the write lock.
        while step := ledger.outbox.prune(age_ms, limit=_PRUNE_STEP):
            pruned += step
    if as_json:
        print_json({"pruned": pruned})
    else:
        click.echo(f"pruned {pruned}")


@outbox_group.command("import")
@click.argument("directory", type=click.Path(path_type=Path))
@_as_json
@click.pass_obj
def import_command(opener: _Opener, directory: Path, as_json: bool) -> None:
    """Import the files of the old queue in DIRECTORY.

    Each file is removed once its message is safely in the outbox. A file that can't be imported stays, is named on
    standard error, and makes the exit code 1.
    """
    with opener.opened() as ledger:
        report = ledger.outbox.import_legacy(directory)
    _print_report(report, as_json=as_json)
    if report.problems:
        raise click.ClickException(f"files still in {directory}: {len(report.problems)}")


def _print_report(report: ImportReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        click.echo(f"imported {report.imported}, known before {report.already_there}, files removed {report.removed}")
    for problem in report.problems:
        where = "imported, but the file stays" if problem.imported else "not imported"
        click.echo(f"{problem.file}: {where}: {problem.reason}", err=True)
