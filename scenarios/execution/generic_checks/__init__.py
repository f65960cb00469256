"""Checks that apply to every store, without any declaration by its target."""
