"""State on disk, specified: readable rows, openings, other stores."""
