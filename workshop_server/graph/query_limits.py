"""How much a query may ask for. Checked before the validation, which takes long for a query that is made to be slow."""

from dataclasses import dataclass, field
from itertools import chain

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    ValueNode,
)

from workshop_server.errors import RequestError
from workshop_server.settings import Limits
from workshop_server.store.tables import RELATIONS

DEFINITIONS = 40        # operations and fragments in one query
LISTS = 40              # selections of rows in one query: the outermost ones, and lists inside them
NESTED_LISTS = 5        # levels of lists: projects, their flows, the flows' runs, their task runs, their states
VALUE_DEPTH = 40        # levels of objects and lists in an argument
VALUES = 20_000         # values in the variables of a query

MANY = {name for relations in RELATIONS.values() for name, relation in relations.items() if relation.many}
INTROSPECTION = ("__schema", "__type")  # graphql-core has a rule of its own for their depth


@dataclass
class _Cost:
    """The cost of one selection set, with everything inside it."""

    fields: int = 0
    depth: int = 0
    lists: int = 0
    nested: int = 0
    names: set[str] = field(default_factory=set)  # names of the lists


def check(document: DocumentNode, limits: Limits, variables: dict) -> None:
    """Raises RequestError for a query that is too deep, asks for too much, or has a fragment that contains itself.

    Queries that differ only in their literals get the same result; `check_variables` checks the variables.
    """
    if len(document.definitions) > DEFINITIONS:
        raise RequestError(f"a query may have {DEFINITIONS} operations and fragments")
    measure = _Measure(document, limits)
    for definition in document.definitions:
        if isinstance(definition, FragmentDefinitionNode):
            measure.fragment(definition.name.value, 1)
        elif isinstance(definition, OperationDefinitionNode):
            measure.outermost(definition.selection_set)
    check_variables(document, variables)


def check_variables(document: DocumentNode, variables: dict) -> None:
    """Raises RequestError if the variables of a query are too many or too deep; fast, and done for each request."""
    if any(getattr(each, "operation", None) == OperationType.MUTATION for each in document.definitions):
        return  # they hold flows and logs, which `limits.body` limits
    level: list[object] = [variables]
    count = 0
    for _ in range(VALUE_DEPTH):
        level = list(chain.from_iterable(
            each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))))
        count += len(level)
        if count > VALUES:
            raise RequestError(f"the variables of a query may hold {VALUES:,} values")
        if not level:
            return
    raise RequestError(f"the variables are nested deeper than {VALUE_DEPTH} levels")


class _Measure:
    def __init__(self, document: DocumentNode, limits: Limits) -> None:
        self._limits = limits
        self._fragments = {each.name.value: each for each in document.definitions
                           if isinstance(each, FragmentDefinitionNode)}
        self._known: dict[str, _Cost | None] = {}  # None while it is measured

    def outermost(self, selections: SelectionSetNode) -> None:
        """Check an operation; each of its outermost fields counts as a list."""
        cost = self._measure(selections, 1)
        if cost.depth > self._limits.depth:
            raise self._too_deep()
        if cost.lists + len(selections.selections) > LISTS:
            raise RequestError(f"the query asks for more than {LISTS} lists: ask for less at once")

    def fragment(self, name: str, level: int) -> _Cost:
        if name not in self._fragments:
            return _Cost()  # the validation reports it
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self._measure(self._fragments[name].selection_set, level)
        cost = self._known[name]
        if cost is None:
            raise RequestError(f"the fragment {name[:60]} contains itself")
        return cost

    def _measure(self, selections: SelectionSetNode, level: int) -> _Cost:
        if level > 4 * self._limits.depth:  # fragments inside fragments count too
            raise self._too_deep()
        total = _Cost()
        for selection in selections.selections:
            cost = self._selection(selection, level)
            total.fields += cost.fields
            total.lists += cost.lists
            total.depth = max(total.depth, cost.depth)
            total.nested = max(total.nested, cost.nested)
            total.names |= cost.names
            if total.fields > self._limits.fields:
                raise RequestError(f"the query asks for more than {self._limits.fields} fields: ask for less at once")
            if total.lists > LISTS or total.nested > NESTED_LISTS:
                raise RequestError(f"the query asks for more than {LISTS} lists, or for more than {NESTED_LISTS} "
                                   "inside one another: ask for less at once")
        return total

    def _selection(self, selection: object, level: int) -> _Cost:
        if isinstance(selection, FragmentSpreadNode):
            return self.fragment(selection.name.value, level + 1)
        inside = self._measure(selection.selection_set, level + 1) if selection.selection_set else _Cost()
        if not isinstance(selection, FieldNode):
            return inside
        for argument in selection.arguments or ():
            _check_depth(argument.value)
        name = selection.name.value
        cost = _Cost(inside.fields + 1, inside.depth + 1, inside.lists, inside.nested, inside.names)
        if name in INTROSPECTION:
            cost.depth = 1
        if name in MANY:
            if name in inside.names:
                raise RequestError(f"the query asks for {name} inside {name}: ask for one of them at a time")
            cost = _Cost(cost.fields, cost.depth, cost.lists + 1, cost.nested + 1, {*inside.names, name})
        return cost

    def _too_deep(self) -> RequestError:
        return RequestError(f"the query is nested deeper than {self._limits.depth} levels: ask for less at once")


def _check_depth(value: ValueNode) -> None:
    level = [value]
    for _ in range(VALUE_DEPTH):
        level = [inside for each in level for inside in _inside(each)]
        if not level:
            return
    raise RequestError(f"an argument is nested deeper than {VALUE_DEPTH} levels")


def _inside(value: ValueNode) -> list[ValueNode]:
    if isinstance(value, ObjectValueNode):
        return [each.value for each in value.fields or ()]
    return list(value.values or ()) if isinstance(value, ListValueNode) else []
