"""What makes a finding reproducible: its replay file, its test, its files."""
