"""Finds the VFSs of each SQLite library in the process, and verifies them before anything is written."""
