"""Reproduction of a finding: its replay file, its test, its files."""
