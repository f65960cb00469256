"""Known bugs are caught, and the reference has no findings."""
