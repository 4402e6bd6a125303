"""What is stored: the tables, and the database that holds them."""
