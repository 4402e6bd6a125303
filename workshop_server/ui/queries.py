"""What the pages ask of the database about projects, flows, their runs, and agents."""

import sqlalchemy as sa

from workshop_server.errors import NotFoundError
from workshop_server.store import timestamps
from workshop_server.store.tables import (
    WAITING,
    agent,
    cloud_hook,
    edge,
    flow,
    flow_group,
    flow_run,
    message,
    project,
    task,
    task_run,
    tenant,
)

ROWS = 100  # of a table on one page
BARS = 60   # of the widest history of runs
FAILURES = ("Failed", "TimedOut", "TriggerFailed")
MANY = 99   # unread messages are counted up to this number

RUN = (flow_run.c.id, flow_run.c.name, flow_run.c.state, flow_run.c.state_message, flow_run.c.start_time,
       flow_run.c.end_time, flow_run.c.scheduled_start_time, flow_run.c.auto_scheduled, flow_run.c.labels,
       flow_run.c.flow_id, flow.c.name.label("flow_name"), flow.c.version.label("flow_version"),
       flow.c.flow_group_id, project.c.name.label("project_name"))
RUNS = sa.select(*RUN).join_from(flow_run, flow).join(project)

FLOW = (flow.c.id, flow.c.name, flow.c.version, flow.c.description, flow.c.archived, flow.c.is_schedule_active,
        flow.c.schedule, flow.c.parameters, flow.c.run_config, flow.c.environment, flow.c.storage, flow.c.core_version,
        flow.c.created, flow.c.flow_group_id, flow.c.project_id, project.c.name.label("project_name"))


def tenant_of(conn: sa.Connection, slug: str, allowed: str | None) -> sa.Row:
    """The tenant of a URL; raises NotFoundError if there is none, or if it is not the one `allowed`."""
    found = conn.execute(sa.select(tenant).where(tenant.c.slug == slug)).first()
    if found is None or allowed not in (None, found.id):
        raise NotFoundError(f"{slug!r} not found")
    return found


def tenants(conn: sa.Connection, allowed: str | None) -> list[sa.Row]:
    """The tenants that the visitor may see, oldest first."""
    statement = sa.select(tenant).order_by(tenant.c.created, tenant.c.slug)
    return conn.execute(statement if allowed is None else statement.where(tenant.c.id == allowed)).all()


def projects(conn: sa.Connection, tenant_id: str) -> list[sa.Row]:
    flows = sa.func.count(sa.distinct(flow.c.flow_group_id)).filter(sa.not_(flow.c.archived))
    return conn.execute(sa.select(project.c.id, project.c.name, flows.label("flows"))
                        .join_from(project, flow, isouter=True).where(project.c.tenant_id == tenant_id)
                        .group_by(project.c.id, project.c.name).order_by(project.c.name)).all()


def flow_groups(conn: sa.Connection, tenant_id: str, project_id: str | None, page: int) -> list[sa.Row]:
    """The newest version of each flow, and one row more if another page follows."""
    newest = (sa.select(flow.c.flow_group_id, sa.func.max(flow.c.version).label("version"))
              .where(flow.c.tenant_id == tenant_id).group_by(flow.c.flow_group_id).subquery())
    statement = (sa.select(*FLOW).join_from(flow, project)
                 .join(newest, (newest.c.flow_group_id == flow.c.flow_group_id) & (newest.c.version == flow.c.version))
                 .where(flow.c.tenant_id == tenant_id).order_by(flow.c.archived, project.c.name, flow.c.name))
    if project_id:
        statement = statement.where(flow.c.project_id == project_id)
    return conn.execute(statement.limit(ROWS + 1).offset(page * ROWS)).all()


def group_of(conn: sa.Connection, an_id: str, allowed: str | None) -> sa.Row:
    """The flow group with this id, or the group of the flow with this id; raises NotFoundError."""
    statement = (sa.select(flow_group, tenant.c.slug).join_from(flow_group, tenant)
                 .where((flow_group.c.id == an_id)
                        | flow_group.c.id.in_(sa.select(flow.c.flow_group_id).where(flow.c.id == an_id))))
    if allowed is not None:
        statement = statement.where(flow_group.c.tenant_id == allowed)
    if (found := conn.execute(statement).first()) is None:
        raise NotFoundError(f"flow {an_id} not found")
    return found


def versions(conn: sa.Connection, group_id: str) -> list[sa.Row]:
    """Every version of a flow, the newest first, with the number of its runs."""
    runs = sa.select(sa.func.count()).where(flow_run.c.flow_id == flow.c.id).scalar_subquery()
    return conn.execute(sa.select(*FLOW, runs.label("runs")).join_from(flow, project)
                        .where(flow.c.flow_group_id == group_id).order_by(flow.c.version.desc())).all()


def structure(conn: sa.Connection, flow_id: str) -> tuple[list[sa.Row], list[sa.Row]]:
    """The tasks and the edges of a flow."""
    tasks = conn.execute(sa.select(task.c.id, task.c.name, task.c.slug, task.c.type, task.c.mapped, task.c.trigger,
                                   task.c.max_retries).where(task.c.flow_id == flow_id).order_by(task.c.slug)).all()
    edges = conn.execute(sa.select(edge.c.upstream_task_id, edge.c.downstream_task_id, edge.c.key, edge.c.mapped)
                         .where(edge.c.flow_id == flow_id)).all()
    return tasks, edges


def runs(conn: sa.Connection, tenant_id: str, *, project_id: str | None = None, group_id: str | None = None,
         flow_id: str | None = None, states: tuple[str, ...] = (), limit: int = BARS, page: int = 0) -> list[sa.Row]:
    """Flow runs that are not scheduled for later, the newest first; one more than `limit` if there are more."""
    due = (flow_run.c.state != "Scheduled") | (flow_run.c.scheduled_start_time <= timestamps.now())
    statement = _of(RUNS, tenant_id, project_id, group_id, flow_id).where(due)
    if states:
        statement = statement.where(flow_run.c.state.in_(states))
    newest = sa.func.coalesce(flow_run.c.start_time, flow_run.c.scheduled_start_time).desc()
    return conn.execute(statement.order_by(newest, flow_run.c.id).limit(limit + 1).offset(page * limit)).all()


def runs_by_group(conn: sa.Connection, tenant_id: str, group_ids: list[str], each: int) -> dict[str, list[sa.Row]]:
    """The last runs of each flow, the newest first."""
    newest = sa.func.coalesce(flow_run.c.start_time, flow_run.c.scheduled_start_time).desc()
    rank = sa.func.row_number().over(partition_by=flow.c.flow_group_id, order_by=newest)
    due = (flow_run.c.state != "Scheduled") | (flow_run.c.scheduled_start_time <= timestamps.now())
    ranked = (sa.select(flow_run.c.id, rank.label("rank")).join_from(flow_run, flow)
              .where(flow_run.c.tenant_id == tenant_id, flow.c.flow_group_id.in_(group_ids), due).subquery())
    found: dict[str, list[sa.Row]] = {group_id: [] for group_id in group_ids}
    for run in conn.execute(RUNS.join(ranked, (ranked.c.id == flow_run.c.id) & (ranked.c.rank <= each))
                            .order_by(ranked.c.rank)):
        found[run.flow_group_id].append(run)
    return found


def counts(conn: sa.Connection, tenant_id: str, *, project_id: str | None = None, group_id: str | None = None,
           flow_id: str | None = None) -> dict[str, int]:
    """Numbers of flow runs that are not scheduled for later, by state, the most frequent first."""
    due = (flow_run.c.state != "Scheduled") | (flow_run.c.scheduled_start_time <= timestamps.now())
    statement = sa.select(flow_run.c.state, sa.func.count()).join_from(flow_run, flow).join(project)
    statement = _of(statement, tenant_id, project_id, group_id, flow_id).where(due)
    rows = conn.execute(statement.group_by(flow_run.c.state).order_by(sa.func.count().desc(), flow_run.c.state))
    return {state or "Pending": count for state, count in rows}


def upcoming(conn: sa.Connection, tenant_id: str, *, project_id: str | None = None, group_id: str | None = None,
             limit: int = 8) -> list[sa.Row]:
    """Runs that wait for their time or for an agent, the first to start first."""
    statement = _of(RUNS, tenant_id, project_id, group_id, None).where(flow_run.c.state.in_(WAITING))
    return conn.execute(statement.order_by(flow_run.c.scheduled_start_time, flow_run.c.id).limit(limit)).all()


def failures(conn: sa.Connection, tenant_id: str, project_id: str | None, limit: int = 5) -> list[dict]:
    """The last failed flow runs, each with the task that failed first."""
    statement = _of(RUNS, tenant_id, project_id, None, None).where(flow_run.c.state.in_(FAILURES))
    failed = conn.execute(statement.order_by(flow_run.c.end_time.desc().nulls_last()).limit(limit)).all()
    rank = sa.func.row_number().over(
        partition_by=task_run.c.flow_run_id, order_by=(task_run.c.state == "TriggerFailed", task_run.c.end_time))
    ranked = (sa.select(task_run.c.id, rank.label("rank"))
              .where(task_run.c.flow_run_id.in_([run.id for run in failed]), task_run.c.state.in_(FAILURES)).subquery())
    first = {row.flow_run_id: row for row in conn.execute(
        sa.select(task_run.c.id, task_run.c.flow_run_id, task_run.c.map_index, task_run.c.state_message,
                  sa.func.coalesce(task_run.c.name, task.c.name).label("name"))
        .join_from(task_run, task).join(ranked, (ranked.c.id == task_run.c.id) & (ranked.c.rank == 1)))}
    return [{"run": run, "task": first.get(run.id)} for run in failed]


def agents(conn: sa.Connection, tenant_id: str) -> list[sa.Row]:
    """The agent that asked last comes first."""
    return conn.execute(sa.select(agent).where(agent.c.tenant_id == tenant_id)
                        .order_by(sa.func.coalesce(agent.c.last_queried, agent.c.created).desc()).limit(500)).all()


def messages(conn: sa.Connection, tenant_id: str, page: int) -> list[sa.Row]:
    """The newest first, and one row more if another page follows."""
    return conn.execute(sa.select(message).where(message.c.tenant_id == tenant_id)
                        .order_by(message.c.created.desc(), message.c.id).limit(ROWS + 1).offset(page * ROWS)).all()


def unread(conn: sa.Connection, tenant_id: str) -> int:
    """The number of messages that nobody has read, up to one more than `MANY`."""
    some = sa.select(message.c.id).where(message.c.tenant_id == tenant_id, message.c.read.is_(False)).limit(MANY + 1)
    return conn.scalar(sa.select(sa.func.count()).select_from(some.subquery()))


def still_there(conn: sa.Connection, tenant_id: str, run_ids: list[str]) -> set[str]:
    """The flow runs that have not been deleted."""
    return set(conn.scalars(sa.select(flow_run.c.id).where(flow_run.c.tenant_id == tenant_id,
                                                           flow_run.c.id.in_(run_ids))))


def hooks(conn: sa.Connection, tenant_id: str) -> list[sa.Row]:
    """A tenant's hooks by name, each with the name of its flow; `group_id` is None if that flow was deleted."""
    name = sa.select(sa.func.max(flow.c.name)).where(flow.c.flow_group_id == flow_group.c.id).scalar_subquery()
    its = (flow_group.c.tenant_id == cloud_hook.c.tenant_id) & (flow_group.c.name == cloud_hook.c.version_group_id)
    return conn.execute(sa.select(cloud_hook, flow_group.c.id.label("group_id"), name.label("flow_name"))
                        .join_from(cloud_hook, flow_group, its, isouter=True)
                        .where(cloud_hook.c.tenant_id == tenant_id).order_by(cloud_hook.c.name, cloud_hook.c.id)).all()


def project_of(conn: sa.Connection, project_id: str, tenant_id: str) -> sa.Row:
    """The project, if it is the tenant's; raises NotFoundError."""
    found = conn.execute(sa.select(project.c.id, project.c.name)
                         .where(project.c.id == project_id, project.c.tenant_id == tenant_id)).first()
    if found is None:
        raise NotFoundError(f"project {project_id} not found")
    return found


def _of(statement: sa.Select, tenant_id: str, project_id: str | None, group_id: str | None,
        flow_id: str | None) -> sa.Select:
    statement = statement.where(flow_run.c.tenant_id == tenant_id)
    for column, wanted in ((flow.c.project_id, project_id), (flow.c.flow_group_id, group_id), (flow.c.id, flow_id)):
        if wanted:
            statement = statement.where(column == wanted)
    return statement
