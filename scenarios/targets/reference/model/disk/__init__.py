"""What lies on disk, specified: rows that can be read, openings, other stores."""
