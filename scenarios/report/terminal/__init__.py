"""Handlers: what becomes of the engine's events. Each is a callable that takes one event."""
