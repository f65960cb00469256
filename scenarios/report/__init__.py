"""What is made of the record of a run: a page to look at, and files for other tools."""
