"""The types of targets, scenarios, checks and results, and the oracle that judges a store. No I/O."""
