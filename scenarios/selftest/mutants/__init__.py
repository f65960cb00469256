"""Durability mutants: the ledger's own source with one promise broken, which the searches have to detect.

A mutant is generated: an operator finds every place where it can remove a promise, and each place is one mutant. `run`
determines which are killed, which survive, and which survivors are known, with the reason.
"""

from tornpage.scenarios.selftest.mutants.catalogue import OPERATORS, SOURCES, Mutant, all_mutants, chosen_mutants

__all__ = [
    "OPERATORS",
    "SOURCES",
    "Mutant",
    "all_mutants",
    "chosen_mutants",
]
