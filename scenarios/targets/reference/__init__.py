"""The reference ledger as a target."""
