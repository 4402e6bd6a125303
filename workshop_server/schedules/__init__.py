"""Schedules: the moments at which a flow runs by itself."""
