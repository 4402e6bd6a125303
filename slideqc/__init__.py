"""Code that the workshop's scripts share. Attendees need not read it."""
