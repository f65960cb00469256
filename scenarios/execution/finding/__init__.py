"""What is derived from a finding: a shorter scenario, its trace, its place in the source."""
