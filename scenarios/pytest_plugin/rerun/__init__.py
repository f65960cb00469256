"""Runs one test again and again, as if each time were the first."""
