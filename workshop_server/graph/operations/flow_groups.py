"""Flow groups, which are all versions of a flow: their description, parameters, labels and run config."""

import sqlalchemy as sa

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.flows import versions
from workshop_server.graph.types.mutation_field import NEEDED_ID, STRINGS, TEXT, Fields, mutation
from workshop_server.graph.types.scalars import JSONB
from workshop_server.store.database import update
from workshop_server.store.tables import flow_group

FIELDS: Fields = {}


@mutation(FIELDS, flow_group_id=NEEDED_ID)
def delete_flow_group(conn: sa.Connection, caller: Caller, flow_group_id: str) -> None:
    """Delete a flow with all its versions and runs."""
    versions.delete_flow(conn, caller.tenant, flow_group_id)


@mutation(FIELDS, flow_group_id=NEEDED_ID, description=TEXT)
def set_flow_group_description(conn: sa.Connection, caller: Caller, flow_group_id: str,
                               description: str | None) -> None:
    """Describe a flow."""
    update(conn, flow_group, flow_group_id, caller.tenant, description=description)


@mutation(FIELDS, flow_group_id=NEEDED_ID, parameters=JSONB)
def set_flow_group_default_parameters(conn: sa.Connection, caller: Caller, flow_group_id: str,
                                      parameters: dict | None) -> None:
    """Default parameters for all runs of a flow."""
    if not isinstance(parameters or {}, dict):
        raise RequestError("default parameters are an object: name and value of each")
    update(conn, flow_group, flow_group_id, caller.tenant, default_parameters=parameters or {})


@mutation(FIELDS, flow_group_id=NEEDED_ID, labels=STRINGS)
def set_flow_group_labels(conn: sa.Connection, caller: Caller, flow_group_id: str, labels: list[str] | None) -> None:
    """Labels for all runs of a flow; null restores those of the registration."""
    update(conn, flow_group, flow_group_id, caller.tenant, labels=labels)


@mutation(FIELDS, flow_group_id=NEEDED_ID, run_config=JSONB)
def set_flow_group_run_config(conn: sa.Connection, caller: Caller, flow_group_id: str,
                              run_config: dict | None) -> None:
    """A run config for all runs of a flow; null restores the one of the registration."""
    if not isinstance(run_config or {}, dict):
        raise RequestError("a run config is an object, as prefect 1.4.1 serializes it")
    update(conn, flow_group, flow_group_id, caller.tenant, run_config=run_config)
