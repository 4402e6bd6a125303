"""Flow runs: created, given their states, renamed, cancelled, deleted."""

import sqlalchemy as sa
from graphql import GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.graph.types.mutation_field import (
    ID,
    INT,
    NEEDED_ID,
    NEEDED_TEXT,
    STATES,
    STRINGS,
    TEXT,
    Fields,
    mutation,
    payload,
)
from workshop_server.graph.types.scalars import JSONB, TIMESTAMPTZ, UUID
from workshop_server.runs import flow_runs, states
from workshop_server.store.database import delete, update
from workshop_server.store.tables import flow_run

CANCELLED = payload("cancel_flow_run", state=TEXT)
FIELDS: Fields = {}


@mutation(FIELDS, ID, flow_id=UUID, version_group_id=TEXT, parameters=JSONB, run_config=JSONB, labels=STRINGS,
          context=JSONB, scheduled_start_time=TIMESTAMPTZ, flow_run_name=TEXT, idempotency_key=TEXT)
def create_flow_run(conn: sa.Connection, caller: Caller, flow_run_name: str | None, **rest: object) -> dict:
    """Create a run of a flow."""
    return {"id": flow_runs.create(conn, caller.tenant, name=flow_run_name, **rest)}


@mutation(FIELDS, STATES, repeats="states", flow_run_id=NEEDED_ID, version=INT, state=GraphQLNonNull(JSONB))
def set_flow_run_states(conn: sa.Connection, caller: Caller, states: list[dict]) -> dict:
    """Give flow runs their next states."""
    return {"states": [_set_flow_run_state(conn, caller, **each) for each in states]}


def _set_flow_run_state(conn: sa.Connection, caller: Caller, flow_run_id: str, state: dict,
                        version: int | None = None) -> dict:
    states.set_flow_run_state(conn, caller.tenant, flow_run_id, state, version=version, agent_id=caller.agent_id)
    return {"id": flow_run_id, "status": "SUCCESS", "message": None}


@mutation(FIELDS, flow_run_id=NEEDED_ID)
def update_flow_run_heartbeat(conn: sa.Connection, caller: Caller, flow_run_id: str) -> None:
    """Store a heartbeat of a flow run: its process is alive."""
    flow_runs.beat(conn, caller.tenant, flow_run_id)


@mutation(FIELDS, CANCELLED, flow_run_id=NEEDED_ID)
def cancel_flow_run(conn: sa.Connection, caller: Caller, flow_run_id: str) -> dict:
    """Cancel a flow run."""
    return {"state": flow_runs.cancel(conn, caller.tenant, flow_run_id)}


@mutation(FIELDS, flow_run_id=NEEDED_ID, name=NEEDED_TEXT)
def set_flow_run_name(conn: sa.Connection, caller: Caller, flow_run_id: str, name: str) -> None:
    """Give a flow run another name."""
    flow_runs.rename(conn, caller.tenant, flow_run, flow_run_id, name)


@mutation(FIELDS, flow_run_id=NEEDED_ID, labels=STRINGS)
def set_flow_run_labels(conn: sa.Connection, caller: Caller, flow_run_id: str, labels: list[str] | None) -> None:
    """Labels of a flow run: which agents may take it."""
    update(conn, flow_run, flow_run_id, caller.tenant, labels=sorted(labels or []))


@mutation(FIELDS, flow_run_id=NEEDED_ID)
def delete_flow_run(conn: sa.Connection, caller: Caller, flow_run_id: str) -> None:
    """Delete a flow run, with its task runs and logs."""
    delete(conn, flow_run, flow_run_id, caller.tenant)
