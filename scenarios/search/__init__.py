"""Decides which scenarios to try."""
