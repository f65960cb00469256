"""Runs a scenario in child processes that are really killed."""
