"""Records what a store writes, and opens what a crash could leave of it."""
