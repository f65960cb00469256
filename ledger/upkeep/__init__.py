"""Upkeep: auditing, repairing and inspecting a ledger."""
