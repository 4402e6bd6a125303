"""What happens to flows and their runs: registration, states, the queue of the agents, logs."""
