"""A campaign: workers, verdict, record and replay files."""
