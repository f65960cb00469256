"""The commands that set up and examine a project: a first target, completion, supported faults."""
