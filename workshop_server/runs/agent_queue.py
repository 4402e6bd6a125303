"""Which flow runs an agent may take now.

Two agents may be told of the same run. The first that sets it to Submitted has it; see `states.py`.
"""

from functools import cache

import sqlalchemy as sa

from workshop_server.store.tables import WAITING, flow_run, task_run


def runs_for(conn: sa.Connection, tenant_id: str | None, labels: list[str], before: str, most: int) -> list[str]:
    """The ids of at most `most` flow runs that are due by `before`, the earliest first.

    A run that is Running is due if a task run of it waits for a retry.
    """
    found = []
    for row in conn.execute(_due(tenant_id is None), {"before": before, "tenant": tenant_id}):
        if labels_match(row.labels, labels):
            found.append(row.id)
            if len(found) == most:
                break
    return found


def labels_match(of_run: list[str] | None, of_agent: list[str] | None) -> bool:
    """May the agent take the run? If it has all labels of the run; a run without labels needs an agent without."""
    wanted, offered = set(of_run or []), set(of_agent or [])
    return wanted <= offered and bool(wanted) == bool(offered)


@cache  # building the statement takes longer than executing it
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
