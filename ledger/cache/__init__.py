"""Memory: what was committed, a batch's draft over it, and how a change gets from the store into it."""
