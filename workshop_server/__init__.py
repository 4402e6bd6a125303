"""A Prefect 1 server without Docker: the unmodified prefect 1.4.1 client, command line and agents talk to it."""
