"""What answers requests: the API, who may use it, and the start of the server."""
