"""Records what a store writes, and opens the states that a crash could leave."""
