"""The checks, and the oracles that say which states are possible."""
