"""The search `interleave`: two callers at once."""
