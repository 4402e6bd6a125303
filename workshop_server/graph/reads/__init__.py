"""Reads of tables: from the selection of a query to SQL, and back to the answer."""
