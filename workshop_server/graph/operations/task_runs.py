"""Task runs: created, given their states, renamed, and read by Prefect's client."""

import sqlalchemy as sa
from graphql import GraphQLArgument, GraphQLField, GraphQLList, GraphQLNonNull, GraphQLResolveInfo

from workshop_server.context import Caller
from workshop_server.graph.types.mutation_field import (
    INT,
    NEEDED_ID,
    NEEDED_TEXT,
    STATES,
    TEXT,
    Fields,
    mutation,
    payload,
)
from workshop_server.graph.types.scalars import JSONB, UUID
from workshop_server.runs import flow_runs, states, task_runs
from workshop_server.store.database import of_tenant, owned
from workshop_server.store.tables import task_run

INFO = payload("task_run_info", id=UUID, flow_run_id=UUID, task_id=UUID, map_index=INT, version=INT,
               serialized_state=JSONB, state=TEXT)
FIELDS: Fields = {}


def _known_task_run(conn: sa.Connection, caller: Caller, flow_run_id: str, task_id: str,
                    map_index: int | None) -> dict | None:
    index = -1 if map_index is None else map_index
    row = task_runs.known_task_run(conn, caller.tenant, flow_run_id, task_id, index)
    return row and row._asdict()


@mutation(FIELDS, INFO, known=_known_task_run, flow_run_id=NEEDED_ID, task_id=NEEDED_ID, map_index=INT)
def get_or_create_task_run_info(conn: sa.Connection, caller: Caller, flow_run_id: str, task_id: str,
                                map_index: int | None) -> dict:
    """The task run of a task, or of a mapped child; it is created if it does not exist."""
    index = -1 if map_index is None else map_index
    return task_runs.task_run_info(conn, caller.tenant, flow_run_id, task_id, index)._asdict()


@mutation(FIELDS, STATES, repeats="states", task_run_id=NEEDED_ID, version=INT, state=GraphQLNonNull(JSONB))
def set_task_run_states(conn: sa.Connection, caller: Caller, states: list[dict]) -> dict:
    """Give task runs their next states."""
    return {"states": [_set_task_run_state(conn, caller, **each) for each in states]}


def _set_task_run_state(conn: sa.Connection, caller: Caller, task_run_id: str, state: dict,
                        version: int | None = None) -> dict:
    states.set_task_run_state(conn, caller.tenant, task_run_id, state, version=version, agent_id=caller.agent_id)
    return {"id": task_run_id, "status": "SUCCESS", "message": None}


@mutation(FIELDS, task_run_id=NEEDED_ID, name=NEEDED_TEXT)
def set_task_run_name(conn: sa.Connection, caller: Caller, task_run_id: str, name: str) -> None:
    """Give a task run another name."""
    flow_runs.rename(conn, caller.tenant, task_run, task_run_id, name)


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


ONE_TASK_RUN = {"task_run_id": GraphQLArgument(NEEDED_ID)}
QUERIES: Fields = {
    "get_task_run_info": GraphQLField(INFO, ONE_TASK_RUN, _get_task_run_info),
    "mapped_children": GraphQLField(GraphQLList(INFO), ONE_TASK_RUN, _mapped_children),
}
