"""Which flow runs an agent may take now, and the agents themselves."""

from functools import cache

import sqlalchemy as sa

from workshop_server.store import timestamps
from workshop_server.store.database import owned
from workshop_server.store.tables import WAITING, agent, agent_config, flow_run, task_run, tenant

LIVE = 60  # seconds since its last poll for which an agent counts as alive: it polls every 10 at least


def runs_for(conn: sa.Connection, tenant_id: str | None, labels: list[str], before: str, most: int) -> list[str]:
    """The ids of at most `most` flow runs that are due by `before`, the earliest first.

    A run goes to an agent that has all of the run's labels, and one without labels to an agent without.
    A run that is Running is due where a task run of it waits for a retry.
    """
    offered = set(labels)
    found = []
    for row in conn.execute(_due(tenant_id is None), {"before": before, "tenant": tenant_id}):
        asked = set(row.labels or [])
        if asked <= offered and bool(asked) == bool(offered):
            found.append(row.id)
            if len(found) == most:
                break
    return found


@cache  # to make it takes longer than to execute it
def _due(of_any: bool) -> sa.Select:
    before = sa.bindparam("before")
    mine = sa.true() if of_any else flow_run.c.tenant_id == sa.bindparam("tenant")
    due = sa.union_all(
        sa.select(flow_run.c.id, flow_run.c.labels, flow_run.c.state_start_time.label("start")).where(
            mine, flow_run.c.state.in_(WAITING), flow_run.c.state_start_time <= before),
        sa.select(flow_run.c.id, flow_run.c.labels, sa.func.min(task_run.c.state_start_time).label("start"))
        .join(task_run, task_run.c.flow_run_id == flow_run.c.id).where(
            mine, flow_run.c.state == "Running", task_run.c.state.in_(WAITING), task_run.c.state_start_time <= before)
        .group_by(flow_run.c.id)).subquery()
    return sa.select(due).order_by(due.c.start)


def register_agent(conn: sa.Connection, tenant_id: str | None, *, kind: str, name: str | None, labels: list[str],
                   core_version: str | None, agent_config_id: str | None = None) -> str:
    """Note that an agent has started; returns its id, which an equal agent that has gone leaves to it."""
    home = tenant_id or conn.scalar(sa.select(tenant.c.id).order_by(tenant.c.created).limit(1))
    if agent_config_id is not None:
        owned(conn, agent_config, agent_config_id, tenant_id)
    gone = conn.execute(sa.select(agent.c.id, agent.c.labels).where(
        agent.c.tenant_id == home, agent.c.type == kind, agent.c.name == name,
        agent.c.last_queried < timestamps.now(shift=-LIVE)).order_by(agent.c.last_queried.desc())).all()
    values = {"core_version": core_version, "last_queried": timestamps.now(), "agent_config_id": agent_config_id}
    for row in gone:
        if sorted(row.labels) == sorted(labels) and conn.execute(
                sa.update(agent).where(agent.c.id == row.id, agent.c.last_queried < timestamps.now(shift=-LIVE))
                .values(**values)).rowcount:
            return row.id
    return conn.execute(sa.insert(agent).values(
        tenant_id=home, type=kind, name=name, labels=labels, **values)).inserted_primary_key[0]


def seen(conn: sa.Connection, tenant_id: str | None, agent_id: str | None) -> None:
    """Note that the agent has asked for work."""
    if agent_id is not None:
        asking = sa.update(agent).where(agent.c.id == agent_id).values(last_queried=timestamps.now())
        conn.execute(asking if tenant_id is None else asking.where(agent.c.tenant_id == tenant_id))
