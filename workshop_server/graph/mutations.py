"""What Prefect's client, command line and agents change: flows, runs, states, logs."""

import sqlalchemy as sa
from graphql import GraphQLBoolean, GraphQLList, GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.graph.fields import (
    ID,
    INT,
    NEEDED_ID,
    NEEDED_TEXT,
    OBJECTS,
    STRINGS,
    TEXT,
    Fields,
    home_of,
    mutation,
    payload,
)
from workshop_server.graph.scalars import JSONB, TIMESTAMPTZ, UUID
from workshop_server.runs import flows, logs, queue, runs, states
from workshop_server.store import timestamps
from workshop_server.store.database import delete, insert_unique
from workshop_server.store.tables import flow_run, project, task_run, task_run_artifact, tenant

FIELDS: Fields = {}
STATE = payload("set_state_element", id=UUID, status=TEXT, message=TEXT)
STATES = payload("set_states", states=GraphQLList(GraphQLNonNull(STATE)))
QUEUE = payload("runs_in_queue", flow_run_ids=GraphQLList(UUID))
CANCELLED = payload("cancel_flow_run", state=TEXT)
INFO = payload("task_run_info", id=UUID, flow_run_id=UUID, task_id=UUID, map_index=INT, version=INT,
               serialized_state=JSONB, state=TEXT)


# projects and tenants

@mutation(FIELDS, ID, name=NEEDED_TEXT, slug=TEXT)
def create_tenant(conn: sa.Connection, caller: Caller, name: str, slug: str | None) -> dict:
    """A tenant beside the first; not in a server that asks for keys, where each key has its own."""
    if caller.tenant is not None:
        raise RequestError("this server makes a tenant for each key: python -m workshop_server create-key NAME")
    return {"id": insert_unique(conn, tenant, name=name, slug=slug or name.lower().replace(" ", "-"))}


@mutation(FIELDS, ID, name=NEEDED_TEXT, description=TEXT, tenant_id=UUID)
def create_project(conn: sa.Connection, caller: Caller, name: str, description: str | None,
                   tenant_id: str | None) -> dict:
    """A project, to register flows in."""
    return {"id": insert_unique(conn, project, tenant_id=home_of(conn, caller, tenant_id), name=name,
                                description=description)}


@mutation(FIELDS, project_id=NEEDED_ID)
def delete_project(conn: sa.Connection, caller: Caller, project_id: str) -> None:
    """Delete a project with its flows and their runs."""
    flows.delete_project(conn, caller.tenant, project_id)


# flows

@mutation(FIELDS, ID, project_id=NEEDED_ID, serialized_flow=NEEDED_TEXT, set_schedule_active=GraphQLBoolean,
          version_group_id=TEXT, idempotency_key=TEXT, description=TEXT)
def create_flow_from_compressed_string(conn: sa.Connection, caller: Caller, serialized_flow: str,
                                       **rest: object) -> dict:
    """Register a flow from `base64(gzip(JSON))`."""
    return _register(conn, caller, flows.unpack(serialized_flow, caller.server.settings.limits.body), **rest)


@mutation(FIELDS, ID, project_id=NEEDED_ID, serialized_flow=GraphQLNonNull(JSONB), set_schedule_active=GraphQLBoolean,
          version_group_id=TEXT, idempotency_key=TEXT, description=TEXT)
def create_flow(conn: sa.Connection, caller: Caller, serialized_flow: dict, **rest: object) -> dict:
    """Register a flow from JSON."""
    return _register(conn, caller, serialized_flow, **rest)


def _register(conn: sa.Connection, caller: Caller, serialized_flow: dict, project_id: str, version_group_id: str | None,
              idempotency_key: str | None, description: str | None, set_schedule_active: bool | None) -> dict:
    if not isinstance(serialized_flow, dict):
        raise RequestError("not a serialized flow: register it with prefect 1.4.1")
    if description:
        serialized_flow = serialized_flow | {"description": description}
    return {"id": flows.register(conn, caller.tenant, project_id, serialized_flow, version_group_id=version_group_id,
                                 idempotency_key=idempotency_key, schedule_active=set_schedule_active is not False)}


@mutation(FIELDS, flow_id=NEEDED_ID, serialized_tasks=OBJECTS)
def register_tasks(conn: sa.Connection, caller: Caller, flow_id: str, serialized_tasks: list | None) -> None:
    """Add tasks to a flow that was registered without."""
    flows.add_tasks(conn, caller.tenant, flow_id, serialized_tasks or [])


@mutation(FIELDS, flow_id=NEEDED_ID, serialized_edges=OBJECTS)
def register_edges(conn: sa.Connection, caller: Caller, flow_id: str, serialized_edges: list | None) -> None:
    """Add edges to a flow that was registered without."""
    flows.add_edges(conn, caller.tenant, flow_id, serialized_edges or [])


@mutation(FIELDS, flow_id=NEEDED_ID)
def set_schedule_active(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Switch a flow's schedule on."""
    flows.set_schedule_active(conn, caller.tenant, flow_id, active=True)


# flow runs

@mutation(FIELDS, ID, flow_id=UUID, version_group_id=TEXT, parameters=JSONB, run_config=JSONB, labels=STRINGS,
          context=JSONB, scheduled_start_time=TIMESTAMPTZ, flow_run_name=TEXT, idempotency_key=TEXT)
def create_flow_run(conn: sa.Connection, caller: Caller, flow_run_name: str | None, **rest: object) -> dict:
    """Ask for a run of a flow."""
    return {"id": runs.create(conn, caller.tenant, name=flow_run_name, **rest)}


@mutation(FIELDS, QUEUE, before=TIMESTAMPTZ, labels=STRINGS, tenant_id=UUID)
def get_runs_in_queue(conn: sa.Connection, caller: Caller, before: str | None, labels: list[str] | None,
                      tenant_id: str | None) -> dict:
    """The flow runs that an agent with these labels may take now."""
    queue.seen(conn, caller.tenant, caller.agent_id)
    return {"flow_run_ids": queue.runs_for(conn, caller.tenant or tenant_id, labels or [], before or timestamps.now(),
                                           caller.server.settings.limits.queued)}


@mutation(FIELDS, ID, type=NEEDED_TEXT, name=TEXT, labels=STRINGS, tenant_id=UUID, agent_config_id=UUID)
def register_agent(conn: sa.Connection, caller: Caller, type: str, name: str | None,
                   labels: list[str] | None, tenant_id: str | None, agent_config_id: str | None) -> dict:
    """Note that an agent has started."""
    return {"id": queue.register_agent(conn, home_of(conn, caller, tenant_id), kind=type, name=name,
                                       labels=labels or [], core_version=caller.core_version,
                                       agent_config_id=agent_config_id)}


@mutation(FIELDS, STATES, repeats="states", flow_run_id=NEEDED_ID, version=INT, state=GraphQLNonNull(JSONB))
def set_flow_run_states(conn: sa.Connection, caller: Caller, states: list[dict]) -> dict:
    """Give flow runs their next states."""
    return {"states": [_set_flow_run_state(conn, caller, **each) for each in states]}


def _set_flow_run_state(conn: sa.Connection, caller: Caller, flow_run_id: str, state: dict,
                        version: int | None = None) -> dict:
    states.set_flow_run_state(conn, caller.tenant, flow_run_id, state, version=version, agent_id=caller.agent_id)
    return {"id": flow_run_id, "status": "SUCCESS", "message": None}


@mutation(FIELDS, STATES, repeats="states", task_run_id=NEEDED_ID, version=INT, state=GraphQLNonNull(JSONB))
def set_task_run_states(conn: sa.Connection, caller: Caller, states: list[dict]) -> dict:
    """Give task runs their next states."""
    return {"states": [_set_task_run_state(conn, caller, **each) for each in states]}


def _set_task_run_state(conn: sa.Connection, caller: Caller, task_run_id: str, state: dict,
                        version: int | None = None) -> dict:
    states.set_task_run_state(conn, caller.tenant, task_run_id, state, version=version, agent_id=caller.agent_id)
    return {"id": task_run_id, "status": "SUCCESS", "message": None}


@mutation(FIELDS, flow_run_id=NEEDED_ID)
def update_flow_run_heartbeat(conn: sa.Connection, caller: Caller, flow_run_id: str) -> None:
    """Note that the process of a flow run lives."""
    runs.beat(conn, caller.tenant, flow_run_id)


@mutation(FIELDS, CANCELLED, flow_run_id=NEEDED_ID)
def cancel_flow_run(conn: sa.Connection, caller: Caller, flow_run_id: str) -> dict:
    """Cancel a flow run."""
    return {"state": runs.cancel(conn, caller.tenant, flow_run_id)}


@mutation(FIELDS, flow_run_id=NEEDED_ID, name=NEEDED_TEXT)
def set_flow_run_name(conn: sa.Connection, caller: Caller, flow_run_id: str, name: str) -> None:
    """Give a flow run another name."""
    runs.rename(conn, caller.tenant, flow_run, flow_run_id, name)


# task runs, logs, artifacts

def _known_task_run(conn: sa.Connection, caller: Caller, flow_run_id: str, task_id: str,
                    map_index: int | None) -> dict | None:
    index = -1 if map_index is None else map_index
    row = runs.known_task_run(conn, caller.tenant, flow_run_id, task_id, index)
    return row and row._asdict()


@mutation(FIELDS, INFO, known=_known_task_run, flow_run_id=NEEDED_ID, task_id=NEEDED_ID, map_index=INT)
def get_or_create_task_run_info(conn: sa.Connection, caller: Caller, flow_run_id: str, task_id: str,
                                map_index: int | None) -> dict:
    """The task run of a task, or of a mapped child, which is created where it is new."""
    index = -1 if map_index is None else map_index
    return runs.task_run_info(conn, caller.tenant, flow_run_id, task_id, index)._asdict()


@mutation(FIELDS, task_run_id=NEEDED_ID, name=NEEDED_TEXT)
def set_task_run_name(conn: sa.Connection, caller: Caller, task_run_id: str, name: str) -> None:
    """Give a task run another name."""
    runs.rename(conn, caller.tenant, task_run, task_run_id, name)


@mutation(FIELDS, repeats="logs", flow_run_id=UUID, task_run_id=UUID, timestamp=TIMESTAMPTZ, name=TEXT, level=TEXT,
          message=TEXT, info=JSONB)
def write_run_logs(conn: sa.Connection, caller: Caller, logs: list[dict]) -> None:
    """Keep log lines of runs."""
    _write(conn, caller.tenant, logs)


@mutation(FIELDS, ID, task_run_id=NEEDED_ID, kind=NEEDED_TEXT, data=GraphQLNonNull(JSONB), tenant_id=UUID)
def create_task_run_artifact(conn: sa.Connection, caller: Caller, task_run_id: str, kind: str, data: dict,
                             tenant_id: str | None) -> dict:
    """Keep a link or a Markdown text of a task run."""
    return {"id": logs.add_artifact(conn, caller.tenant, task_run_id, kind, data)}


@mutation(FIELDS, task_run_artifact_id=NEEDED_ID, data=GraphQLNonNull(JSONB))
def update_task_run_artifact(conn: sa.Connection, caller: Caller, task_run_artifact_id: str, data: dict) -> None:
    """Replace what an artifact holds."""
    logs.change_artifact(conn, caller.tenant, task_run_artifact_id, data)


@mutation(FIELDS, task_run_artifact_id=NEEDED_ID)
def delete_task_run_artifact(conn: sa.Connection, caller: Caller, task_run_artifact_id: str) -> None:
    """Delete an artifact."""
    delete(conn, task_run_artifact, task_run_artifact_id, caller.tenant)


_write = logs.write  # `logs` is also Prefect's name for the lines
