"""Two callers of one store: who they are, how a schedule is played, and what it has to come to."""
