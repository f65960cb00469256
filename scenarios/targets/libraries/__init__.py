"""Well-known libraries as targets, one file each."""
