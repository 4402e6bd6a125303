"""Everything that a run writes to its output folder: pictures, rows, the table, the report."""
