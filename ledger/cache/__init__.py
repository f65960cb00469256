"""Memory: the committed records, a batch's draft over them, and how committed changes are applied to it."""
