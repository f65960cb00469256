"""THIS FILE WAS OVERWRITTEN BY MISTAKE BY THE FOUNDER: helper for `kill`, please write your aftermath.py again here.

(The founder's module of that name is now scenarios/crash_reader.py.)
"""
