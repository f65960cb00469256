"""Two callers of one store: the kinds of callers, the player of a schedule, and the check of its result."""
