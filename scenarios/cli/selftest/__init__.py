"""The commands for developers of this project: known bugs and mutants."""
