"""Reports made from the record of a run: a page for people, and files for other tools."""
