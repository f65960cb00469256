"""The command ``ledger``: the reference ledger from a terminal.

`ledger_group` is a click group that another command can mount; `main` runs it by itself.
"""

from tornpage.ledger.command.group import ledger_group, main
from tornpage.ledger.command.output import is_output_lost

__all__ = ["is_output_lost", "ledger_group", "main"]
