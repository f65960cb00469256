"""Handlers of the engine's events for the terminal. Each is a callable that takes one event."""
