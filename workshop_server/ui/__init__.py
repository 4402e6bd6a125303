"""The pages that a person opens in a browser: rendered on the server, kept fresh by a little script."""
