"""bad-import-record-stops-all: the record of an import that can't be read ends each later import at that file."""

from tornpage.ledger.disk.transaction import Transaction
from tornpage.ledger.outbox import Outbox
from tornpage.ledger.outbox.legacy import LegacyFile
from tornpage.ledger.outbox.messages import IMPORTED
from tornpage.ledger.outbox.outbox import Verdict
from tornpage.scenarios.model.target import Action
from tornpage.scenarios.targets.known_bugs.build import KnownBug, OfOneScript


class _ReadsTheRecordFirst(Outbox):
    """Reads the record of an import where an unreadable row is not expected."""

    def _insert_or_ignore(self, transaction: Transaction, file: LegacyFile) -> Verdict:
        note = transaction.read(IMPORTED, file.message.id)
        if note is not None:
            IMPORTED.decode(note)
        return super()._insert_or_ignore(transaction, file)


def _file(name: str) -> Action:
    return Action("legacy_file", {"name": f"{name}.json", "content": {"id": name, "channel": "mail", "to": "you"}})


_SPOILED = {"table": "outbox_imports", "key": "a", "column": "imported_at", "value": "soon"}
_IMPORT = Action("outbox.import_legacy", {})

BUG = KnownBug(
    name="bad-import-record-stops-all",
    source="our own ledger, found by reading it against its specification",
    defect="messages in files of the old queue are never imported, since an earlier file comes back",
    checks=("as-specified",),
    make=lambda name: OfOneScript(
        name,
        (_file("a"), _IMPORT, Action("spoiled_row", _SPOILED), _file("a"), _file("b"), _IMPORT),
        outbox=_ReadsTheRecordFirst,
    ),
    searches=("sweep",),
)
