"""The database: SQLite in a file of its own, or PostgreSQL by URL."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from workshop_server.errors import NotFoundError, RequestError, StartError
from workshop_server.store import tables, timestamps

# Version of the tables; 2 added hooks and messages. A database with a higher version was made by a newer server.
VERSION = 2
IDLE = 1     # seconds without use after which a connection to PostgreSQL is tested before it is used again
DEFAULT_TENANT = {"name": "default", "slug": "default"}


class Database:
    """Connections to one database; use them through `read` and `write` only.

    Raises StartError, in one line, where the database cannot be opened or was made by a newer server.
    """

    def __init__(self, url: str, *, connections: int = 12) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writing = threading.Lock()
        try:
            if self.is_sqlite:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
                Path(self.url.database).touch(0o600)  # it may hold secrets; an existing file keeps its mode
            self.engine = sa.create_engine(self.url, pool_size=connections, max_overflow=0, pool_timeout=60,
                                           query_cache_size=2000, json_serializer=_json,
                                           hide_parameters=True,  # keeps secrets and addresses of hooks out of logs
                                           connect_args=_connect_args(self.is_sqlite))
            if self.is_sqlite:
                sa.event.listen(self.engine, "connect", _prepare_sqlite)
            else:
                sa.event.listen(self.engine, "checkin", _note_use)
                sa.event.listen(self.engine, "checkout", self._check_life)
            # PostgreSQL: each read on its own, without the two statements more that a transaction needs.
            self._reading = self.engine if self.is_sqlite else self.engine.execution_options(
                isolation_level="AUTOCOMMIT")
            self._create()
        except OSError as error:
            raise StartError(f"{self.place}: {error.strerror}: choose another place with --database") from None
        except DBAPIError as error:
            raise StartError(_cannot_open(self.place, error)) from None

    @property
    def place(self) -> str:
        """The file or the URL of the database, without the password."""
        return str(self.url.database) if self.is_sqlite else self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self, *, in_parts: bool = False) -> Iterator[sa.Connection]:
        """A connection that changes nothing; on SQLite it sees one state of the data until it ends.

        With `in_parts`, a result may be fetched in parts (`yield_per`).
        """
        with (self.engine if in_parts else self._reading).connect() as conn:
            if self.is_sqlite:
                _begin(conn, "BEGIN")
            yield conn

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction: everything is committed, or nothing after an exception."""
        if not self.is_sqlite:
            with self.engine.begin() as conn:
                yield conn
            return
        with self._writing, self.engine.connect() as conn:  # SQLite allows one writer: the others wait here
            _begin(conn, "BEGIN IMMEDIATE")
            try:
                yield conn
            except BaseException:
                conn.rollback()
                raise
            conn.commit()

    def close(self) -> None:
        self.engine.dispose()

    def _check_life(self, connection: object, record: sa.pool.ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("used", time.monotonic()) > IDLE:
            try:
                self.engine.dialect.do_ping(connection)
            except self.engine.dialect.dbapi.Error:
                raise sa.exc.InvalidatePoolError from None  # SQLAlchemy then connects again

    def _create(self) -> None:
        with self.write() as conn:
            if not self.is_sqlite:
                conn.exec_driver_sql("SELECT pg_advisory_xact_lock(1420)")  # if two servers start together, one waits
            tables.metadata.create_all(conn)
            version = conn.scalar(sa.select(tables.schema_version.c.version))
            if version is None:
                conn.execute(sa.insert(tables.schema_version).values(version=VERSION))
                conn.execute(sa.insert(tables.tenant).values(**DEFAULT_TENANT))
            elif version > VERSION:
                raise StartError(f"{self.place}: made by a newer workshop_server (tables of version {version}, this "
                                 f"one knows {VERSION}): start the newer one, or name another --database")
            elif version < VERSION:  # older versions lacked only whole tables, and `create_all` has added these
                conn.execute(sa.update(tables.schema_version).values(version=VERSION))


def owned(conn: sa.Connection, table: sa.Table, row_id: str, tenant: str | None, *, lock: bool = False) -> sa.Row:
    """The row with this id; with `lock`, it stays locked until the transaction ends.

    Raises NotFoundError if there is none, or if it is another tenant's; `tenant` None may see every tenant.
    """
    row = conn.execute(_owned(table, tenant is None, lock), {"row_id": row_id, "tenant": tenant}).first()
    if row is None:
        raise NotFoundError(f"{table.name.replace('_', ' ')} {row_id} not found")
    return row


@cache  # building the statement takes longer than executing it
def _owned(table: sa.Table, of_any: bool, lock: bool) -> sa.Select:
    statement = sa.select(table).where(table.c.id == sa.bindparam("row_id"))
    statement = of_tenant(statement, table, None if of_any else sa.bindparam("tenant"))
    return statement.with_for_update(of=table, key_share=True) if lock else statement


def of_tenant(statement: sa.Select, table: sa.Table, tenant: str | sa.BindParameter | None) -> sa.Select:
    """The statement, which selects from `table`, restricted to the rows of one tenant; None means all tenants."""
    if tenant is None:
        return statement
    while table.name in tables.OWNER:
        relation = tables.RELATIONS[table.name][tables.OWNER[table.name]]
        statement = statement.join(relation.table, table.c[relation.here] == relation.table.c[relation.there])
        table = relation.table
    return statement.where((table.c.id if table is tables.tenant else table.c.tenant_id) == tenant)


def update(conn: sa.Connection, table: sa.Table, row_id: str, tenant: str | None, **values: object) -> None:
    """Change one row of the tenant's; raises NotFoundError as `owned` does."""
    owned(conn, table, row_id, tenant)
    conn.execute(sa.update(table).where(table.c.id == row_id).values(**values))


def delete(conn: sa.Connection, table: sa.Table, row_id: str, tenant: str | None) -> None:
    """Delete one row of the tenant's, and the rows that depend on it; raises NotFoundError as `owned` does."""
    owned(conn, table, row_id, tenant)
    conn.execute(sa.delete(table).where(table.c.id == row_id))


def insert_new(conn: sa.Connection, table: sa.Table, **values: object) -> bool:
    """Insert a row, unless a unique value of it exists already; returns True if it was inserted."""
    dialect = sa.dialects.sqlite if conn.dialect.name == "sqlite" else sa.dialects.postgresql
    # RETURNING, because psycopg does not count the rows of such an insertion.
    insertion = dialect.insert(table).values(**values).on_conflict_do_nothing()
    return conn.scalar(insertion.returning(table.c.id)) is not None


def insert_unique(conn: sa.Connection, table: sa.Table, **values: object) -> str:
    """Insert a row and return its id; raises RequestError with the words that the client looks for."""
    new_id = values.setdefault("id", tables.new_id())
    if not insert_new(conn, table, **values):
        raise RequestError("Uniqueness violation.")
    return new_id


def update_unique(conn: sa.Connection, table: sa.Table, row_id: str, tenant: str | None, **values: str) -> None:
    """Change one row as `update` does; raises RequestError as `insert_unique` does."""
    try:
        update(conn, table, row_id, tenant, **values)
    except sa.exc.IntegrityError:
        raise RequestError("Uniqueness violation.") from None


def insert_or_update(conn: sa.Connection, table: sa.Table, key: dict[str, str], **values: object) -> str:
    """Insert a row, or change the row that has this key; returns its id."""
    dialect = sa.dialects.sqlite if conn.dialect.name == "sqlite" else sa.dialects.postgresql
    new = dialect.insert(table).values(**key, **values)
    changed = {**values, "updated": timestamps.now()}
    return conn.scalar(new.on_conflict_do_update(index_elements=list(key), set_=changed).returning(table.c.id))


def _parsed(url: str) -> sa.URL:
    if "://" not in url:
        url = f"sqlite:///{url}"  # a bare path
    url = url.replace("postgres://", "postgresql://", 1)
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        backend = None
    if backend not in ("sqlite", "postgresql") or (backend == "sqlite" and not parsed.database):
        raise StartError(f"--database {url}: neither a file nor postgresql://USER:PASSWORD@HOST:5432/NAME")
    return parsed.set(drivername="postgresql+psycopg") if backend == "postgresql" else parsed


def _json(value: object) -> str:
    """JSON without halves of surrogate pairs, which no answer could hold either."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")


def _connect_args(is_sqlite: bool) -> dict:
    if is_sqlite:
        return {"timeout": 30, "check_same_thread": False, "isolation_level": None}
    return {"connect_timeout": 5, "prepare_threshold": 2}


def _prepare_sqlite(connection: object, _record: object) -> None:
    for pragma in ("journal_mode=wal", "synchronous=normal", "foreign_keys=on", "busy_timeout=30000",
                   "cache_size=-4000", "temp_store=memory"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(conn: sa.Connection, how: str) -> None:
    """Begin a transaction of SQLite's; past SQLAlchemy, which would take ten times as long."""
    try:
        conn.connection.driver_connection.execute(how)
    except sqlite3.OperationalError as error:
        raise OperationalError(how, None, error) from None


def _note_use(_connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
    record.info["used"] = time.monotonic()


def _cannot_open(place: str, error: DBAPIError) -> str:
    why = str(error.orig).strip().splitlines()[0]
    if isinstance(error, OperationalError) and "locked" in why:
        return f"{place}: locked by another program: end it, or name another --database"
    return f"{place}: cannot be used as a database: {why}: name another --database"
