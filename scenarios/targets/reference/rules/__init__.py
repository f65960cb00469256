"""What every state of the reference must be, and what a step may make of it."""
