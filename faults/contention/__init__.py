"""Rivals that hold real locks."""
