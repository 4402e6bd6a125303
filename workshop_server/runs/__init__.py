"""Flow runs and task runs: created, given to agents, moved from state to state, ended."""
