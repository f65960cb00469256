"""Durability mutants: the ledger's own source with one promise broken, which the searches have to notice.

A mutant is made mechanically: an operator finds every place where it can take a promise away, and each place is one
mutant. `run` says which are killed, which survive, and which of these are known to, with the reason.
"""

from tornpage.scenarios.selftest.mutants.catalogue import OPERATORS, SOURCES, Mutant, all_mutants, chosen_mutants

__all__ = [
    "OPERATORS",
    "SOURCES",
    "Mutant",
    "all_mutants",
    "chosen_mutants",
]
