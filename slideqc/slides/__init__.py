"""Where slides come from, fetched or generated, and how their pixels are read."""
