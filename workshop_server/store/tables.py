"""The tables, with the names that Prefect's clients know, and the relations between them."""

from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.ext.compiler import compiles

from workshop_server.store import timestamps

metadata = MetaData()


@compiles(JSON, "sqlite")
def _json_is_text(*_: object, **__: object) -> str:
    return "TEXT"  # with another column type, SQLite turns the JSON text 1.0 into a number, and shortens long numbers


WAITING = ("Scheduled", "Paused", "Resume", "Retrying", "Queued")  # states from which an agent may take a run
FINISHED = ("Success", "Failed", "Cached", "TimedOut", "Looped", "Cancelled", "Mapped", "Skipped", "TriggerFailed",
            "Finished")  # states in which a run has ended
KNOWN = {"Pending", "Submitted", "Running", "Cancelling", "ClientFailed", *WAITING, *FINISHED}


class Words(TypeDecorator):
    """Text without the characters that databases refuse: NUL, and halves of surrogate pairs."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        return value if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class Uuid(String):
    """An id, as text of 36 characters."""


class Stamp(String):
    """A point in time, as `timestamps.text` writes it."""


def new_id() -> str:
    return str(uuid4())


def _id() -> Column:
    return Column("id", Uuid(36), primary_key=True, default=new_id)


def _times() -> tuple[Column, Column]:
    return (Column("created", Stamp(32), nullable=False, default=timestamps.now),
            Column("updated", Stamp(32), nullable=False, default=timestamps.now, onupdate=timestamps.now))


def _to(table: str, *, null: bool = False, index: bool = True, name: str | None = None,
        gone: str = "CASCADE") -> Column:
    return Column(name or f"{table}_id", Uuid(36), ForeignKey(f"{table}.id", ondelete=gone), nullable=null, index=index)


def _object(name: str) -> Column:
    return Column(name, JSON(none_as_null=True), nullable=False, default=dict)


def _json(name: str) -> Column:
    return Column(name, JSON(none_as_null=True))


tenant = Table(
    "tenant", metadata, _id(), *_times(),
    Column("name", Words, nullable=False), Column("slug", Words, nullable=False, unique=True),
    _object("settings"))

project = Table(
    "project", metadata, _id(), *_times(), _to("tenant", index=False),
    Column("name", Words, nullable=False), Column("description", Words),
    UniqueConstraint("tenant_id", "name"))

flow_group = Table(
    "flow_group", metadata, _id(), *_times(), _to("tenant", index=False),
    Column("name", Words, nullable=False, comment="the version group that its flows share"),
    Column("description", Words), _json("labels"), _object("settings"), _object("default_parameters"),
    _json("schedule"), _json("run_config"),
    UniqueConstraint("tenant_id", "name"))

flow = Table(
    "flow", metadata, _id(), *_times(), _to("tenant"), _to("project"), _to("flow_group"),
    Column("version_group_id", Words, nullable=False), Column("name", Words, nullable=False),
    Column("version", Integer, nullable=False), Column("description", Words),
    Column("archived", Boolean, nullable=False, default=False),
    Column("is_schedule_active", Boolean, nullable=False, default=False),
    _object("serialized_flow"), _json("environment"), _json("storage"), _json("run_config"), _json("schedule"),
    Column("parameters", JSON, nullable=False, default=list), _object("settings"),
    Column("core_version", Words), Column("idempotency_key", Words))

task = Table(
    "task", metadata, _id(), *_times(), _to("flow", index=False),
    Column("name", Words), Column("slug", Words, nullable=False), Column("description", Words), Column("type", Words),
    Column("max_retries", Integer, nullable=False, default=0),
    Column("retry_delay", Words, comment="hours:minutes:seconds"),
    Column("trigger", Words), Column("mapped", Boolean, nullable=False, default=False),
    Column("auto_generated", Boolean, nullable=False, default=False), Column("cache_key", Words),
    Column("is_reference_task", Boolean, nullable=False, default=False),
    Column("is_root_task", Boolean, nullable=False, default=False),
    Column("is_terminal_task", Boolean, nullable=False, default=False),
    Column("tags", JSON, nullable=False, default=list),
    UniqueConstraint("flow_id", "slug"))

edge = Table(
    "edge", metadata, _id(), _to("flow"),
    _to("task", name="upstream_task_id"), _to("task", name="downstream_task_id"),
    Column("key", Words), Column("mapped", Boolean, nullable=False, default=False))


def _state() -> tuple[Column, ...]:
    """The newest state of a run, copied into the row of the run."""
    return (Column("name", Words), Column("version", Integer, nullable=False, default=0),
            Column("state", Words), Column("state_timestamp", Stamp(32)), Column("state_start_time", Stamp(32)),
            Column("state_message", Words), _json("serialized_state"),
            Column("start_time", Stamp(32)), Column("end_time", Stamp(32)))


flow_run = Table(
    "flow_run", metadata, _id(), *_times(), _to("tenant", index=False), _to("flow", index=False), *_state(),
    _object("parameters"), _object("context"), _json("run_config"),
    Column("labels", JSON, nullable=False, default=list),
    Column("scheduled_start_time", Stamp(32), nullable=False, default=timestamps.now),
    Column("auto_scheduled", Boolean, nullable=False, default=False), Column("idempotency_key", Words),
    Column("heartbeat", Stamp(32)), Column("agent_id", Uuid(36)),
    Column("times_resurrected", Integer, nullable=False, default=0),
    UniqueConstraint("flow_id", "idempotency_key"),
    Index("flow_run_by_state", "state", "state_start_time"), Index("flow_run_by_age", "tenant_id", "created"))

task_run = Table(
    "task_run", metadata, _id(), *_times(), _to("flow_run", index=False), _to("task"),
    Column("map_index", Integer, nullable=False, default=-1), *_state(),
    Column("run_count", Integer, nullable=False, default=0), Column("cache_key", Words),
    UniqueConstraint("flow_run_id", "task_id", "map_index"))
Index("task_run_waiting", task_run.c.state_start_time,
      sqlite_where=text("state_start_time is not null"), postgresql_where=text("state_start_time is not null"))
Index("task_run_running", task_run.c.flow_run_id,
      sqlite_where=text("state = 'Running'"), postgresql_where=text("state = 'Running'"))
Index("task_run_by_cache_key", task_run.c.cache_key,
      sqlite_where=text("cache_key is not null"), postgresql_where=text("cache_key is not null"))


def _history(run: str) -> Table:
    """All states of the runs, oldest first by `id`."""
    return Table(
        f"{run}_state", metadata, Column("id", Integer, primary_key=True), _to(run),
        Column("version", Integer, nullable=False), Column("state", Words, nullable=False),
        Column("timestamp", Stamp(32), nullable=False), Column("created", Stamp(32), nullable=False),
        Column("start_time", Stamp(32)), Column("message", Words), _object("serialized_state"),
        sqlite_autoincrement=True)


flow_run_state = _history("flow_run")
task_run_state = _history("task_run")

log = Table(
    "log", metadata, Column("id", Integer, primary_key=True), _to("flow_run", index=False),
    _to("task_run", null=True), Column("timestamp", Stamp(32), nullable=False), Column("name", Words),
    Column("level", Words), Column("message", Words), _json("info"),
    Index("log_by_time", "flow_run_id", "timestamp"), sqlite_autoincrement=True)

task_run_artifact = Table(
    "task_run_artifact", metadata, _id(), *_times(), _to("tenant"), _to("task_run"),
    Column("kind", Words, nullable=False), _object("data"))

agent_config = Table("agent_config", metadata, _id(), *_times(), _to("tenant"), Column("name", Words),
                     _object("settings"))

agent = Table(
    "agent", metadata, _id(), *_times(), _to("tenant"), Column("name", Words), Column("type", Words, nullable=False),
    Column("core_version", Words), Column("labels", JSON, nullable=False, default=list),
    Column("last_queried", Stamp(32)), _to("agent_config", null=True, gone="SET NULL"))

key_value = Table("key_value", metadata, _id(), *_times(), _to("tenant", index=False),
                  Column("key", Words, nullable=False), _json("value"), UniqueConstraint("tenant_id", "key"))

secret = Table("secret", metadata, _id(), *_times(), _to("tenant", index=False),
               Column("name", Words, nullable=False), _json("value"), UniqueConstraint("tenant_id", "name"))

task_tag_limit = Table("task_tag_limit", metadata, _id(), *_times(), _to("tenant", index=False),
                       Column("tag", Words, nullable=False), Column("limit", Integer, nullable=False),
                       UniqueConstraint("tenant_id", "tag"))

cloud_hook = Table(
    "cloud_hook", metadata, _id(), *_times(), _to("tenant"), Column("name", Words, nullable=False),
    Column("type", Words, nullable=False), Column("states", JSON, nullable=False, default=list),
    Column("version_group_id", Words, comment="of the flow whose runs it is for; null for those of all flows"),
    _object("config"), Column("active", Boolean, nullable=False, default=True))

hook_delivery = Table(
    "hook_delivery", metadata, _id(), *_times(), _to("cloud_hook"), _object("content"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due", Stamp(32), nullable=False, default=timestamps.now, index=True))

message = Table(
    "message", metadata, _id(), *_times(), _to("tenant", index=False), Column("type", Words, nullable=False),
    Column("text", Words, nullable=False), _object("content"), Column("read", Boolean, nullable=False, default=False),
    Index("message_by_age", "tenant_id", "created"), Index("message_unread", "tenant_id", "read"))

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))


@dataclass(frozen=True)
class Relation:
    """From a row of one table to a row (`many` false) or the rows (`many` true) of another."""

    table: Table
    here: str
    there: str
    many: bool


def _one(table: Table, here: str | None = None) -> Relation:
    return Relation(table, here or f"{table.name}_id", "id", many=False)


def _many(table: Table, there: str) -> Relation:
    return Relation(table, "id", there, many=True)


RELATIONS: dict[str, dict[str, Relation]] = {
    "tenant": {},
    "project": {"tenant": _one(tenant), "flows": _many(flow, "project_id")},
    "flow_group": {"tenant": _one(tenant), "flows": _many(flow, "flow_group_id")},
    "flow": {"tenant": _one(tenant), "project": _one(project), "flow_group": _one(flow_group),
             "tasks": _many(task, "flow_id"), "edges": _many(edge, "flow_id"), "flow_runs": _many(flow_run, "flow_id")},
    "task": {"flow": _one(flow), "task_runs": _many(task_run, "task_id"),
             "upstream_edges": _many(edge, "downstream_task_id"), "downstream_edges": _many(edge, "upstream_task_id")},
    "edge": {"flow": _one(flow), "upstream_task": _one(task, "upstream_task_id"),
             "downstream_task": _one(task, "downstream_task_id")},
    "flow_run": {"tenant": _one(tenant), "flow": _one(flow), "agent": _one(agent),
                 "task_runs": _many(task_run, "flow_run_id"), "states": _many(flow_run_state, "flow_run_id"),
                 "logs": _many(log, "flow_run_id")},
    "task_run": {"flow_run": _one(flow_run), "task": _one(task), "states": _many(task_run_state, "task_run_id"),
                 "logs": _many(log, "task_run_id"), "artifacts": _many(task_run_artifact, "task_run_id")},
    "flow_run_state": {"flow_run": _one(flow_run)},
    "task_run_state": {"task_run": _one(task_run)},
    "log": {"flow_run": _one(flow_run), "task_run": _one(task_run)},
    "task_run_artifact": {"task_run": _one(task_run)},
    "agent": {"tenant": _one(tenant), "flow_runs": _many(flow_run, "agent_id"), "agent_config": _one(agent_config)},
    "agent_config": {"tenant": _one(tenant)},
    "key_value": {},
    "task_tag_limit": {},
    "cloud_hook": {"tenant": _one(tenant)},
    "message": {"tenant": _one(tenant)},
}

# Rows of these tables have no tenant_id: they belong to the tenant of the row that this relation leads to.
OWNER = {"task": "flow", "edge": "flow", "task_run": "flow_run", "flow_run_state": "flow_run",
         "task_run_state": "task_run", "log": "flow_run"}
