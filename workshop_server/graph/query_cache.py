"""Parsed and validated queries, kept by their shape. Prefect's client writes ids and numbers into its queries.

Queries that differ only in such literals have one shape: if one of them is valid, so are the others. The parsed query
of a shape is used again, with the literals of the next one in it; whether a literal fits its argument is checked at
each execution. Two of five requests have literals, so an `lru_cache` by text misses them. Requests a second, with 16
clients on 2 cores, on SQLite and PostgreSQL: 455 and 290 with this; 380 and 255 if only the valid shapes are kept and
each query is parsed.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    ValueNode,
    Visitor,
    parse,
    validate,
    visit,
)

from workshop_server.errors import RequestError
from workshop_server.graph import query_limits
from workshop_server.settings import Limits

TOKENS = 20_000         # in one query; the longest that the client sends has some 400
LONGEST = 2**20         # characters of a query; one that lists 20,000 ids has 800,000
LONGEST_SHAPE = 20_000  # characters of a shape that is kept
MOST = 500_000          # characters of all that are kept; a document takes a hundred times the memory
# A string, also one that never ends, or a search for the end would start at each of its quotes; a string ends with its
# line, and so does a comment with quotes in it.
LITERAL = re.compile(r'"(?:[^"\\\n\r]|\\[^\n\r])*"?|(?<![\w.])-?\d+(?![\w.])')
PLAIN = re.compile(r'"[ !#-\[\]-~]*"|-?(?:0|[1-9][0-9]*)')  # a literal without escapes


class InvalidQueryError(Exception):
    """The query does not parse or does not fit the schema; `errors` says where."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors[0].message)
        self.errors = [error.formatted for error in errors]


@dataclass(frozen=True)
class _Document:
    """A parsed query, and the nodes of its literals in the order of the text."""

    node: DocumentNode
    literals: list[ValueNode]

    def fill(self, literals: list[str]) -> None:
        for node, literal in zip(self.literals, literals, strict=True):
            # Nodes are frozen, because they may be shared; between two executions, these are not.
            object.__setattr__(node, "value", literal[1:-1] if literal[0] == '"' else literal)


@dataclass(frozen=True)
class _Shape:
    """One shape of valid queries; `free` holds documents that no request uses now."""

    free: list[_Document] = field(default_factory=list)


class QueryCache:
    """The parsed queries that are valid in one schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._shapes: dict[str, _Shape] = {}
        self._size = 0
        self._lock = threading.Lock()

    @contextmanager
    def use(self, query: str, limits: Limits, variables: dict) -> Iterator[DocumentNode]:
        """The parsed query, for its execution; afterwards another query may get the document.

        Raises InvalidQueryError if it is not valid, RequestError if it asks for too much.
        """
        if len(query) > LONGEST:
            raise RequestError(f"the query is longer than {LONGEST:,} characters")
        literals = [] if '"""' in query else LITERAL.findall(query)
        text = LITERAL.sub(_blank, query) if literals else query
        shape = self._shapes.get(text)
        if shape is None:
            document = _parsed(query, no_location=False)
            query_limits.check(document, limits, variables)
            if errors := validate(self._schema, document, max_errors=5):
                raise InvalidQueryError(errors)
            if len(text) <= LONGEST_SHAPE:
                self._add(text, _Shape())
            yield document
            return
        plain = all(map(PLAIN.fullmatch, literals))
        try:
            document = shape.free.pop() if plain else _read(query)
        except IndexError:
            document = _read(query)
            self._add(text, shape)
        query_limits.check_variables(document.node, variables)
        usable = plain and len(document.literals) == len(literals)  # a comment may have literals too
        if usable:
            document.fill(literals)
        yield document.node
        if usable:
            shape.free.append(document)

    def _add(self, text: str, shape: _Shape) -> None:
        """Count a shape, or one more document of it; forget all if they have become too many."""
        with self._lock:
            self._size += len(text)
            if self._size > MOST:
                self._shapes.clear()
                self._size = len(text)
            self._shapes[text] = shape


class _Literals(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[ValueNode] = []

    def enter_string_value(self, node: ValueNode, *_: object) -> None:
        self.found.append(node)

    enter_int_value = enter_string_value


def _read(query: str) -> _Document:
    document = _parsed(query)
    literals = _Literals()
    for definition in document.definitions:
        defaults = isinstance(definition, OperationDefinitionNode) and definition.variable_definitions
        if not any(each.default_value for each in defaults or ()):  # graphql-core keeps what those come to
            visit(definition, literals)
    return _Document(document, literals.found)


def _parsed(query: str, *, no_location: bool = True) -> DocumentNode:
    try:
        return parse(query, no_location=no_location, max_tokens=TOKENS)
    except GraphQLError as error:
        raise InvalidQueryError([error]) from None
    except RecursionError:
        raise RequestError("the query is nested too deep") from None


def _blank(literal: re.Match) -> str:
    return '"x"' if literal[0].startswith('"') else "0"  # not "": three quotes in a row mean something else
