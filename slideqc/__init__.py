"""What the workshop's scripts share and nobody reads aloud: one file a concern."""
