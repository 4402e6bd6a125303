"""The pages for a browser: rendered on the server, kept up to date by a small script."""
