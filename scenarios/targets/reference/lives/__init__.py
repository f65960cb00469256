"""Ledgers beside that of a session, each in its own place: openings, other stores, workers, observers, drivers."""
