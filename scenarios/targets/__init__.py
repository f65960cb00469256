"""The targets that ship, one file each; `scenarios.targets.registry` finds them by name."""
