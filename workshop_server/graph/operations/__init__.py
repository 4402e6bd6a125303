"""All that a request can do, except reading the rows of tables; one file for each noun.

Each file lists its mutations in `FIELDS`, and its reads, if it has any, in `QUERIES`.
"""
