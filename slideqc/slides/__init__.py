"""Fetch slides, generate slides, and read their pixels."""
