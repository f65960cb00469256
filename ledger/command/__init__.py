"""The command ``ledger``: the reference ledger from a terminal.

`ledger_group` is a click group that another command can mount; `main` runs it by itself.
"""

from ledger.command.group import ledger_group, main

__all__ = ["ledger_group", "main"]
