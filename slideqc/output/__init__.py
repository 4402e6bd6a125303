"""What a run leaves in its output folder: pictures, rows, the table, the report."""
