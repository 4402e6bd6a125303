"""What the pages ask of the database about one flow run or task run; it adds up the children of mapped tasks."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from workshop_server.errors import NotFoundError
from workshop_server.store import tables
from workshop_server.store.tables import (
    agent,
    edge,
    flow,
    flow_run,
    log,
    project,
    task,
    task_run,
    task_run_artifact,
    tenant,
)
from workshop_server.ui.queries import ROWS

LINES = 300  # lines of a log that a page shows at first
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

NAME = sa.func.coalesce(task_run.c.name, task.c.name).label("name")
TASK_RUN = (task_run.c.id, task_run.c.task_id, task_run.c.map_index, task_run.c.state, task_run.c.state_message,
            task_run.c.start_time, task_run.c.end_time, task_run.c.run_count, NAME, task.c.name.label("task_name"),
            task.c.type, task.c.mapped, task.c.max_retries, task.c.slug)
LINE = (log.c.id, log.c.timestamp, log.c.level, log.c.name, log.c.message, log.c.task_run_id, task_run.c.map_index,
        NAME.label("task_name"))


@dataclass
class Children:
    """The mapped children of one task in one flow run."""

    states: dict[str, int] = field(default_factory=dict)
    start_time: str | None = None
    end_time: str | None = None

    @property
    def count(self) -> int:
        return sum(self.states.values())


@dataclass(frozen=True)
class LogFilter:
    """Which lines of a log are asked for; `level` is the lowest level."""

    level: str = ""
    text: str = ""
    task_id: str = ""
    task_run_id: str = ""


def run(conn: sa.Connection, run_id: str, allowed: str | None) -> sa.Row:
    """The flow run, with the names around it; raises NotFoundError."""
    statement = (sa.select(flow_run, flow.c.name.label("flow_name"), flow.c.version.label("flow_version"),
                           flow.c.flow_group_id, flow.c.archived, project.c.name.label("project_name"), project.c.id
                           .label("project_id"), tenant.c.slug, agent.c.name.label("agent_name"))
                 .join_from(flow_run, flow).join(project).join(tenant, tenant.c.id == flow_run.c.tenant_id)
                 .join(agent, agent.c.id == flow_run.c.agent_id, isouter=True).where(flow_run.c.id == run_id))
    return _first(conn, _allowed(statement, allowed), f"flow run {run_id} not found")


def one_task_run(conn: sa.Connection, task_run_id: str, allowed: str | None) -> sa.Row:
    """The task run, with the names around it; raises NotFoundError."""
    statement = (sa.select(*TASK_RUN, task_run.c.flow_run_id, task_run.c.cache_key, task.c.trigger, task.c.flow_id,
                           task_run.c.serialized_state, task.c.description, task.c.retry_delay,
                           flow_run.c.name.label("run_name"), flow_run.c.state.label("run_state"),
                           flow.c.name.label("flow_name"), flow.c.flow_group_id, project.c.name.label("project_name"),
                           project.c.id.label("project_id"), tenant.c.slug.label("tenant_slug"))
                 .join_from(task_run, task).join(flow_run, flow_run.c.id == task_run.c.flow_run_id)
                 .join(flow, flow.c.id == flow_run.c.flow_id).join(project)
                 .join(tenant, tenant.c.id == flow_run.c.tenant_id).where(task_run.c.id == task_run_id))
    return _first(conn, _allowed(statement, allowed), f"task run {task_run_id} not found")


def parents(conn: sa.Connection, run_id: str, task_ids: list[str] | None = None) -> list[sa.Row]:
    """One task run for each task: of a mapped one, the parent."""
    statement = (sa.select(*TASK_RUN).join_from(task_run, task)
                 .where(task_run.c.flow_run_id == run_id, task_run.c.map_index == -1))
    if task_ids is not None:
        statement = statement.where(task_run.c.task_id.in_(task_ids))
    return conn.execute(statement.order_by(task_run.c.start_time.nulls_last(), task.c.slug)).all()


def children(conn: sa.Connection, run_id: str, task_id: str | None = None) -> dict[str, Children]:
    """The mapped children by task."""
    statement = (sa.select(task_run.c.task_id, task_run.c.state, sa.func.count(), sa.func.min(task_run.c.start_time),
                           sa.func.max(task_run.c.end_time))
                 .where(task_run.c.flow_run_id == run_id, task_run.c.map_index >= 0)
                 .group_by(task_run.c.task_id, task_run.c.state))
    if task_id:
        statement = statement.where(task_run.c.task_id == task_id)
    found: dict[str, Children] = {}
    for parent, state, count, start, end in conn.execute(statement):
        them = found.setdefault(parent, Children())
        them.states[state or "Pending"] = count
        them.start_time = min(filter(None, (them.start_time, start)), default=None)
        them.end_time = max(filter(None, (them.end_time, end)), default=None)
    return found


def task_runs(conn: sa.Connection, run_id: str, *, state: str = "", task_id: str = "", text: str = "",
              children_only: bool = False, page: int = 0) -> list[sa.Row]:
    """A page of task runs, and one row more if another page follows."""
    statement = sa.select(*TASK_RUN).join_from(task_run, task).where(task_run.c.flow_run_id == run_id)
    if state:
        statement = statement.where(task_run.c.state == state)
    if task_id:
        statement = statement.where(task_run.c.task_id == task_id)
    if text:
        statement = statement.where(NAME.element.icontains(text, autoescape=True))
    if children_only:
        statement = statement.where(task_run.c.map_index >= 0)
    first = sa.func.min(task_run.c.start_time).over(partition_by=task_run.c.task_id)
    return conn.execute(statement.order_by(first.nulls_last(), task.c.slug, task_run.c.map_index)
                        .limit(ROWS + 1).offset(page * ROWS)).all()


def task_run_states(conn: sa.Connection, run_id: str) -> dict[str, int]:
    """The run's task runs by state, the most frequent first."""
    rows = conn.execute(sa.select(task_run.c.state, sa.func.count()).where(task_run.c.flow_run_id == run_id)
                        .group_by(task_run.c.state).order_by(sa.func.count().desc(), task_run.c.state))
    return {state or "Pending": count for state, count in rows}


def history(conn: sa.Connection, table: sa.Table, column: sa.Column, row_id: str) -> list[sa.Row]:
    """The states that a run went through, the newest first."""
    return conn.execute(sa.select(table.c.state, table.c.timestamp, table.c.start_time, table.c.message)
                        .where(column == row_id).order_by(table.c.id.desc()).limit(ROWS)).all()


def neighbours(conn: sa.Connection, task_id: str, run_id: str, *, upstream: bool) -> list[sa.Row]:
    """The task runs just before a task, or just after it."""
    here, there = edge.c.downstream_task_id, edge.c.upstream_task_id
    if not upstream:
        here, there = there, here
    return parents(conn, run_id, list(conn.scalars(sa.select(there).where(here == task_id).distinct())))


def lines(conn: sa.Connection, run_id: str, wanted: LogFilter, *, after: int | None = None, before: int | None = None,
          limit: int = LINES) -> list[sa.Row]:
    """Lines of a log in order of time: the last ones, those before the line `before`, or those after `after`."""
    statement = _filtered(run_id, wanted)
    if after is not None:
        return conn.execute(statement.where(log.c.id > after).order_by(log.c.id).limit(limit)).all()
    if before is not None:
        edge_of = sa.select(log.c.timestamp).where(log.c.id == before).scalar_subquery()
        statement = statement.where(sa.tuple_(log.c.timestamp, log.c.id) < sa.tuple_(edge_of, before))
    return conn.execute(statement.order_by(log.c.timestamp.desc(), log.c.id.desc()).limit(limit)).all()[::-1]


def all_lines(conn: sa.Connection, run_id: str, wanted: LogFilter) -> sa.CursorResult:
    """Every line of a log, to be read one after the other."""
    statement = _filtered(run_id, wanted).order_by(log.c.timestamp, log.c.id)
    return conn.execution_options(yield_per=1000).execute(statement)


def last_line(conn: sa.Connection, run_id: str) -> int:
    """The id of the line that came last; 0 where there is none."""
    return conn.scalar(sa.select(sa.func.max(log.c.id)).where(log.c.flow_run_id == run_id)) or 0


def artifacts(conn: sa.Connection, *, run_id: str = "", task_run_id: str = "", page: int = 0) -> list[sa.Row]:
    """A page of artifacts, the oldest first, and one row more if another page follows."""
    statement = (sa.select(task_run_artifact, NAME, task_run.c.map_index).join_from(task_run_artifact, task_run)
                 .join(task, task.c.id == task_run.c.task_id))
    statement = statement.where(task_run.c.id == task_run_id if task_run_id else task_run.c.flow_run_id == run_id)
    return conn.execute(statement.order_by(task_run_artifact.c.created, task_run_artifact.c.id)
                        .limit(ROWS + 1).offset(page * ROWS)).all()


def artifact_count(conn: sa.Connection, run_id: str) -> int:
    return conn.scalar(sa.select(sa.func.count()).select_from(task_run_artifact).join(task_run)
                       .where(task_run.c.flow_run_id == run_id))


def _filtered(run_id: str, wanted: LogFilter) -> sa.Select:
    statement = (sa.select(*LINE).join_from(log, task_run, log.c.task_run_id == task_run.c.id, isouter=True)
                 .join(task, task.c.id == task_run.c.task_id, isouter=True).where(log.c.flow_run_id == run_id))
    if wanted.level in LEVELS[1:]:  # levels with other names count as higher than DEBUG
        statement = (statement.where(sa.func.coalesce(log.c.level, "INFO") != "DEBUG") if wanted.level == "INFO"
                     else statement.where(log.c.level.in_(LEVELS[LEVELS.index(wanted.level):])))
    if wanted.text:
        statement = statement.where(log.c.message.icontains(wanted.text, autoescape=True))
    if wanted.task_id:
        statement = statement.where(task_run.c.task_id == wanted.task_id)
    if wanted.task_run_id:
        statement = statement.where(log.c.task_run_id == wanted.task_run_id)
    return statement


def _allowed(statement: sa.Select, allowed: str | None) -> sa.Select:
    return statement if allowed is None else statement.where(tables.flow_run.c.tenant_id == allowed)


def _first(conn: sa.Connection, statement: sa.Select, problem: str) -> sa.Row:
    if (found := conn.execute(statement).first()) is None:
        raise NotFoundError(problem)
    return found
