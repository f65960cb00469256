"""The commands that set up and examine: a first target, completion, what can be reached."""
