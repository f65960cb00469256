"""What is made of a finding: a shorter scenario, its trace, its place in the source."""
