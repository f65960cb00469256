"""Runs one scenario under faults, judges the state it leaves, shrinks it and traces it."""
