"""Parsing and validation of queries. The shapes of valid queries are kept, because validation takes ten times longer.

Prefect's client writes ids and numbers into its queries. Queries that differ only in such literals have one shape: if
one of them is valid, so are the others. Whether a literal fits its argument is checked again at each execution.
An `lru_cache` by text would miss two of five requests; with it, a request takes 1.5 times the CPU on average.
"""

import re

from graphql import DocumentNode, GraphQLError, GraphQLSchema, parse, validate

from workshop_server.errors import RequestError
from workshop_server.graph import query_limits
from workshop_server.settings import Limits

TOKENS = 20_000         # in one query; the longest that the client sends has some 400
LONGEST = 2**20         # characters of a query; one that lists 20,000 ids has 800,000
LONGEST_SHAPE = 20_000  # characters of a shape that is kept
MOST_SHAPES = 500
# A string, also one that never ends, or a search for the end would start at each of its quotes; a string ends with its
# line, and so does a comment with quotes in it.
LITERAL = re.compile(r'"(?:[^"\\\n\r]|\\[^\n\r])*"?|(?<![\w.])-?\d+(?![\w.])')


class InvalidQueryError(Exception):
    """The query does not parse or does not fit the schema; `errors` says where."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors[0].message)
        self.errors = [error.formatted for error in errors]


class QueryCache:
    """The shapes of queries that are valid in one schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._valid: set[str] = set()

    def document(self, query: str, limits: Limits, variables: dict) -> DocumentNode:
        """The parsed query. Raises InvalidQueryError if it is not valid, RequestError if it asks for too much."""
        if len(query) > LONGEST:
            raise RequestError(f"the query is longer than {LONGEST:,} characters")
        document = _parsed(query, no_location=True)
        shape = query if '"""' in query else LITERAL.sub(_blank, query)
        if shape in self._valid:
            query_limits.check_variables(document, variables)
            return document
        query_limits.check(document, limits, variables)
        if errors := validate(self._schema, _parsed(query), max_errors=5):
            raise InvalidQueryError(errors)
        if len(shape) <= LONGEST_SHAPE:
            if len(self._valid) >= MOST_SHAPES:
                self._valid.clear()
            self._valid.add(shape)
        return document


def _parsed(query: str, *, no_location: bool = False) -> DocumentNode:
    try:
        return parse(query, no_location=no_location, max_tokens=TOKENS)
    except GraphQLError as error:
        raise InvalidQueryError([error]) from None
    except RecursionError:
        raise RequestError("the query is nested too deep") from None


def _blank(literal: re.Match) -> str:
    return '"x"' if literal[0].startswith('"') else "0"  # not "": three quotes in a row mean something else
