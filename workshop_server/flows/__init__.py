"""Flows: how they are registered, and what happens to their versions."""
