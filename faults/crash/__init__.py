"""What a crash can leave on disk."""
