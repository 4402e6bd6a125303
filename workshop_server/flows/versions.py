"""What happens to the versions of a flow: archived, deleted, scheduled."""

from collections.abc import Iterable

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.runs import scheduler, states
from workshop_server.schedules import events as schedule_events
from workshop_server.store.database import delete, owned, update
from workshop_server.store.tables import flow, flow_group, flow_run, project


def archive(conn: sa.Connection, tenant: str | None, flow_id: str) -> None:
    """Archive a version: it makes no new runs. Its scheduled runs are deleted, other waiting runs are cancelled."""
    update(conn, flow, flow_id, tenant, archived=True, is_schedule_active=False)
    _drop_scheduled(conn, flow_id)
    waiting = conn.scalars(sa.select(flow_run.c.id).where(
        flow_run.c.flow_id == flow_id, flow_run.c.state == "Scheduled")).all()
    for run_id in waiting:
        states.set_flow_run_state(conn, None, run_id, states.make("Cancelled", "The flow was archived"))


def _drop_scheduled(conn: sa.Connection, flow_id: str) -> None:
    conn.execute(sa.delete(flow_run).where(flow_run.c.flow_id == flow_id, flow_run.c.auto_scheduled.is_(True),
                                           flow_run.c.state == "Scheduled"))


def delete_project(conn: sa.Connection, tenant: str | None, project_id: str) -> None:
    """Delete a project with its flows and their runs."""
    groups = conn.scalars(sa.select(flow.c.flow_group_id).where(flow.c.project_id == project_id).distinct()).all()
    delete(conn, project, project_id, tenant)
    _drop_empty(conn, groups)


def delete_version(conn: sa.Connection, tenant: str | None, flow_id: str) -> None:
    """Delete a version of a flow with its runs, and the flow with its last version."""
    group_id = owned(conn, flow, flow_id, tenant).flow_group_id
    delete(conn, flow, flow_id, tenant)
    _drop_empty(conn, [group_id])


def _drop_empty(conn: sa.Connection, group_ids: Iterable[str]) -> None:
    """Delete the flow groups that have no version any more."""
    for group_id in group_ids:
        left = sa.select(flow.c.id).where(flow.c.flow_group_id == group_id)
        conn.execute(sa.delete(flow_group).where(flow_group.c.id == group_id, ~sa.exists(left)))


def delete_flow(conn: sa.Connection, tenant: str | None, flow_group_id: str) -> None:
    """Delete a flow with all its versions and runs."""
    delete(conn, flow_group, flow_group_id, tenant)


def set_schedule_active(conn: sa.Connection, tenant: str | None, flow_id: str, active: bool) -> None:
    """Switch the schedule of a flow on, or off: then its runs that have not started are deleted."""
    row = owned(conn, flow, flow_id, tenant, lock=True)
    of_group = conn.scalar(sa.select(flow_group.c.schedule).where(flow_group.c.id == row.flow_group_id))
    if active and row.archived and not (of_group or row.schedule):
        return  # clients send this for every flow, even if a faster registration has just archived this version
    if active and row.archived:
        raise RequestError(f"flow {row.name!r}, version {row.version}, is archived: its schedule stays off")
    conn.execute(sa.update(flow).where(flow.c.id == flow_id).values(is_schedule_active=active))
    if active:
        scheduler.schedule_flow(conn, None, flow_id)
    else:
        _drop_scheduled(conn, flow_id)


def set_schedule(conn: sa.Connection, tenant: str | None, flow_group_id: str, schedule: dict | None) -> None:
    """Give all versions of a flow a schedule instead of the registered one; None removes it."""
    if schedule:
        schedule_events.check(schedule)
    update(conn, flow_group, flow_group_id, tenant, schedule=schedule)
    current = conn.scalars(sa.select(flow.c.id).where(
        flow.c.flow_group_id == flow_group_id, flow.c.is_schedule_active.is_(True))).all()
    for flow_id in current:
        _drop_scheduled(conn, flow_id)
        scheduler.schedule_flow(conn, None, flow_id)


def set_setting(conn: sa.Connection, tenant: str | None, flow_id: str, **settings: object) -> None:
    """Change settings of a flow: `heartbeat_enabled`, `lazarus_enabled`."""
    row = owned(conn, flow, flow_id, tenant, lock=True)
    conn.execute(sa.update(flow).where(flow.c.id == flow_id).values(settings=row.settings | settings))
