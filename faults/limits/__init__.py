"""Memory, space and time that run out."""
