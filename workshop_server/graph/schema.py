"""The whole schema, and how one request is answered from it."""

import logging

import sqlalchemy as sa
from graphql import (
    GraphQLArgument,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    GraphQLString,
    execute_sync,
)

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.graph import administration, cloud, hooks, mutations, reads
from workshop_server.graph.fields import NEEDED_ID, TEXT, payload
from workshop_server.graph.query_cache import Documents
from workshop_server.graph.query_cache import InvalidQueryError as InvalidQueryError  # which callers of `execute` catch
from workshop_server.runs import states
from workshop_server.store.database import of_tenant, owned
from workshop_server.store.tables import task_run

logger = logging.getLogger("workshop_server")

LIKE_INFO = payload("api", backend=TEXT, mode=TEXT, version=TEXT, core_version=TEXT, release_timestamp=TEXT)


def _get_task_run_info(_root: object, info: GraphQLResolveInfo, task_run_id: str) -> dict:
    caller: Caller = info.context
    with caller.server.database.read() as conn:
        return owned(conn, task_run, task_run_id, caller.tenant)._asdict()


def _mapped_children(_root: object, info: GraphQLResolveInfo, task_run_id: str) -> list[dict]:
    caller: Caller = info.context
    with caller.server.database.read() as conn:
        parent = owned(conn, task_run, task_run_id, caller.tenant)
        children = sa.select(task_run).where(task_run.c.flow_run_id == parent.flow_run_id, task_run.c.map_index >= 0,
                                             task_run.c.task_id == parent.task_id).order_by(task_run.c.map_index)
        return [row._asdict() for row in conn.execute(of_tenant(children, task_run, caller.tenant))]


def _api(*_: object) -> dict:
    return {"backend": "SERVER", "mode": "normal", "version": "workshop_server", "core_version": states.CORE_VERSION,
            "release_timestamp": None}


def _build() -> GraphQLSchema:
    one_task_run = {"task_run_id": GraphQLArgument(NEEDED_ID)}
    query = reads.query_fields() | cloud.query_fields() | {
        "hello": GraphQLField(GraphQLString, resolve=lambda *_: "👋", description="Answers an agent that has started."),
        "api": GraphQLField(LIKE_INFO, resolve=_api),
        "get_task_run_info": GraphQLField(mutations.INFO, one_task_run, _get_task_run_info),
        "mapped_children": GraphQLField(GraphQLList(mutations.INFO), one_task_run, _mapped_children),
    }
    mutation = mutations.FIELDS | administration.FIELDS | hooks.FIELDS | cloud.mutation_fields()
    return GraphQLSchema(GraphQLObjectType("Query", query), GraphQLObjectType("Mutation", mutation))


SCHEMA = _build()


_DOCUMENTS = Documents(SCHEMA)


def execute(caller: Caller, query: str, variables: dict | None) -> dict:
    """The answer to one request: `{"data": …}`, with `errors` where something went wrong.

    Raises InvalidQueryError for a query that does not parse or does not fit the schema, and SQLAlchemy's
    OperationalError where the database is out of reach.
    """
    try:
        with _DOCUMENTS.use(query, caller.server.settings.limits, variables or {}) as document:
            result = execute_sync(SCHEMA, document, context_value=caller, variable_values=variables,
                                  executor_class=reads.Executor)
            answer: dict = {"data": result.data}
            if result.errors:
                answer["errors"] = [_told(error) for error in result.errors]
            return answer
    except RequestError as error:
        return failure(error)


def failure(error: RequestError) -> dict:
    """The answer to a request that could not even be started."""
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
