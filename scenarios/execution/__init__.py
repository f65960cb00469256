"""Runs one scenario under faults, looks at what it left, shrinks it and traces it."""
