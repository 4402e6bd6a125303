"""Agents: registered, and alive as long as they poll."""

import sqlalchemy as sa

from workshop_server.store import timestamps
from workshop_server.store.database import owned
from workshop_server.store.tables import agent, agent_config, tenant

ALIVE = 60  # seconds since its last poll for which an agent counts as alive: it polls every 10 s at least
STALE = 24 * 3600  # seconds after which the page offers to remove an agent


def is_gone(last_queried: str | sa.ColumnElement, seconds: float = ALIVE) -> bool | sa.ColumnElement:
    """Is the last poll of an agent longer ago than this? For the value of one agent, or for the column of all."""
    return last_queried < timestamps.now(shift=-seconds)


def is_alive(agent: sa.Row) -> bool:
    """Has the agent asked for runs within the last minute?"""
    return bool(agent.last_queried) and not is_gone(agent.last_queried)


def register(conn: sa.Connection, tenant_id: str | None, *, kind: str, name: str | None, labels: list[str],
             core_version: str | None, agent_config_id: str | None = None) -> str:
    """Store an agent that has started; returns its id.

    If an agent of the same type, name and labels is gone, the new one gets its id: agents that are restarted make no
    new rows.
    """
    home = tenant_id or conn.scalar(sa.select(tenant.c.id).order_by(tenant.c.created).limit(1))
    if agent_config_id is not None:
        owned(conn, agent_config, agent_config_id, tenant_id)
    gone = conn.execute(sa.select(agent.c.id, agent.c.labels).where(
        agent.c.tenant_id == home, agent.c.type == kind, agent.c.name == name,
        is_gone(agent.c.last_queried)).order_by(agent.c.last_queried.desc())).all()
    values = {"core_version": core_version, "last_queried": timestamps.now(), "agent_config_id": agent_config_id}
    for row in gone:
        if sorted(row.labels) == sorted(labels) and conn.execute(
                sa.update(agent).where(agent.c.id == row.id, is_gone(agent.c.last_queried))
                .values(**values)).rowcount:
            return row.id
    return conn.execute(sa.insert(agent).values(
        tenant_id=home, type=kind, name=name, labels=labels, **values)).inserted_primary_key[0]


def note_poll(conn: sa.Connection, tenant_id: str | None, agent_id: str | None) -> None:
    """Note that an agent has polled just now."""
    if agent_id is not None:
        asking = sa.update(agent).where(agent.c.id == agent_id).values(last_queried=timestamps.now())
        conn.execute(asking if tenant_id is None else asking.where(agent.c.tenant_id == tenant_id))
