"""Known bugs are caught, and the reference stays silent."""
