"""When a flow runs by itself."""
