"""Who is told when the state of a flow run changes."""
