"""The whole schema, and how one request is answered from it."""

import logging

import sqlalchemy as sa
from graphql import GraphQLError, GraphQLField, GraphQLObjectType, GraphQLSchema, GraphQLString, execute_sync

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.graph.operations import (
    agents,
    api_keys,
    cloud_hooks,
    flow_groups,
    flow_runs,
    flows,
    key_values,
    logs_and_artifacts,
    projects,
    schedules,
    secrets,
    task_runs,
    task_tag_limits,
    tenants,
)
from workshop_server.graph.query_cache import InvalidQueryError as InvalidQueryError  # which callers of `execute` catch
from workshop_server.graph.query_cache import QueryCache
from workshop_server.graph.reads import table_fields
from workshop_server.graph.types.mutation_field import TEXT, Fields, payload
from workshop_server.runs import states

logger = logging.getLogger("workshop_server")

API_INFO = payload("api", backend=TEXT, mode=TEXT, version=TEXT, core_version=TEXT, release_timestamp=TEXT)


def _api(*_: object) -> dict:
    return {"backend": "SERVER", "mode": "normal", "version": "workshop_server", "core_version": states.CORE_VERSION,
            "release_timestamp": None}


def _build() -> GraphQLSchema:
    query: Fields = table_fields.query_fields() | {
        "hello": GraphQLField(GraphQLString, resolve=lambda *_: "👋", description="Answers an agent that has started."),
        "api": GraphQLField(API_INFO, resolve=_api),
    }
    for noun in (api_keys, secrets, task_runs):
        query |= noun.QUERIES
    mutation: Fields = {}
    for noun in (tenants, projects, flows, flow_groups, schedules, flow_runs, task_runs, logs_and_artifacts, agents,
                 cloud_hooks, api_keys, secrets, key_values, task_tag_limits):
        mutation |= noun.FIELDS
    return GraphQLSchema(GraphQLObjectType("Query", query), GraphQLObjectType("Mutation", mutation))


SCHEMA = _build()
_QUERIES = QueryCache(SCHEMA)


def execute(caller: Caller, query: str, variables: dict | None) -> dict:
    """The answer to one request: `{"data": …}`, with `errors` if something went wrong.

    Raises InvalidQueryError for a query that does not parse or does not fit the schema, and SQLAlchemy's
    OperationalError if the database cannot be reached.
    """
    try:
        with _QUERIES.use(query, caller.server.settings.limits, variables or {}) as document:
            result = execute_sync(SCHEMA, document, context_value=caller, variable_values=variables,
                                  executor_class=table_fields.Executor)
            answer: dict = {"data": result.data}
            if result.errors:
                answer["errors"] = [_told(error) for error in result.errors]
            return answer
    except RequestError as error:
        return failure(error)


def failure(error: RequestError) -> dict:
    """The answer to a request that was refused before its execution."""
    return {"data": None, "errors": [{"message": str(error), "extensions": error.extensions}]}


def _told(error: GraphQLError) -> dict:
    cause = error.original_error
    if isinstance(cause, sa.exc.IntegrityError):
        return error.formatted | {"message": "the request names something that is not there", "extensions": {
            "code": "BAD_REQUEST"}}
    if isinstance(cause, sa.exc.OperationalError):
        raise cause
    if cause is not None and not isinstance(cause, (RequestError, GraphQLError)):
        logger.error("%s: %s", ".".join(map(str, error.path or [])), cause, exc_info=cause)
        return error.formatted | {"message": "the server failed at this request: its own log says why",
                                  "extensions": {"code": "INTERNAL_SERVER_ERROR"}}
    return error.formatted
