"""The targets that ship, one file each; `scenarios.naming` finds them by name."""
