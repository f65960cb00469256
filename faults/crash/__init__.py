"""The disk states that a crash can leave."""
