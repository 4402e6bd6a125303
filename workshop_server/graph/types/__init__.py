"""What all operations are declared with: scalar types, and the decorator of a mutation."""
