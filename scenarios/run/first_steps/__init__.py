"""The first steps in a project: what to do next in it, and a first target, learned from a store that is played once."""
