"""Agents: registered, given flow runs, deleted, and their configs."""

import sqlalchemy as sa
from graphql import GraphQLList

from workshop_server.context import Caller
from workshop_server.graph.types.mutation_field import (
    ID,
    NEEDED_ID,
    NEEDED_TEXT,
    STRINGS,
    TEXT,
    Fields,
    home_of,
    mutation,
    payload,
)
from workshop_server.graph.types.scalars import JSONB, TIMESTAMPTZ, UUID
from workshop_server.runs import agent_queue, agents
from workshop_server.store import timestamps
from workshop_server.store.database import delete, update
from workshop_server.store.tables import agent, agent_config

QUEUE = payload("runs_in_queue", flow_run_ids=GraphQLList(UUID))
FIELDS: Fields = {}


@mutation(FIELDS, ID, type=NEEDED_TEXT, name=TEXT, labels=STRINGS, tenant_id=UUID, agent_config_id=UUID)
def register_agent(conn: sa.Connection, caller: Caller, type: str, name: str | None,
                   labels: list[str] | None, tenant_id: str | None, agent_config_id: str | None) -> dict:
    """Store an agent that has started."""
    return {"id": agents.register(conn, home_of(conn, caller, tenant_id), kind=type, name=name,
                                       labels=labels or [], core_version=caller.core_version,
                                       agent_config_id=agent_config_id)}


@mutation(FIELDS, QUEUE, before=TIMESTAMPTZ, labels=STRINGS, tenant_id=UUID)
def get_runs_in_queue(conn: sa.Connection, caller: Caller, before: str | None, labels: list[str] | None,
                      tenant_id: str | None) -> dict:
    """The flow runs that an agent with these labels may take now."""
    agents.note_poll(conn, caller.tenant, caller.agent_id)
    due = agent_queue.runs_for(conn, caller.tenant or tenant_id, labels or [], before or timestamps.now(),
                               caller.server.settings.limits.queued)
    return {"flow_run_ids": due}


@mutation(FIELDS, agent_id=NEEDED_ID)
def delete_agent(conn: sa.Connection, caller: Caller, agent_id: str) -> None:
    """Delete an agent from the list; if it still runs, it goes on without being listed."""
    delete(conn, agent, agent_id, caller.tenant)


@mutation(FIELDS, ID, tenant_id=UUID, name=TEXT, settings=JSONB)
def create_agent_config(conn: sa.Connection, caller: Caller, tenant_id: str | None, name: str | None,
                        settings: dict | None) -> dict:
    """Create settings for agents that are started with `--agent-config-id`."""
    values = {"name": name, "settings": settings or {}}
    return {"id": conn.execute(sa.insert(agent_config).values(
        tenant_id=home_of(conn, caller, tenant_id), **values)).inserted_primary_key[0]}


@mutation(FIELDS, agent_config_id=NEEDED_ID, name=TEXT, settings=JSONB)
def update_agent_config(conn: sa.Connection, caller: Caller, agent_config_id: str, name: str | None,
                        settings: dict | None) -> None:
    """Change the name or the settings of an agent config."""
    given = {key: value for key, value in (("name", name), ("settings", settings)) if value is not None}
    update(conn, agent_config, agent_config_id, caller.tenant, **given)


@mutation(FIELDS, agent_config_id=NEEDED_ID)
def delete_agent_config(conn: sa.Connection, caller: Caller, agent_config_id: str) -> None:
    """Delete an agent config."""
    delete(conn, agent_config, agent_config_id, caller.tenant)
