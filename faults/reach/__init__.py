"""Finds the VFS of each SQLite library in the process, and proves it before anything is written to."""
