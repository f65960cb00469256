"""The crash search."""
