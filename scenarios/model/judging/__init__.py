"""What must be true: the checks, and the oracles that say which states are possible."""
