"""What every part of a running server needs: its settings, its database, its keys; and who sends a request."""

from dataclasses import dataclass

from workshop_server.api_keys import ApiKeys
from workshop_server.settings import Settings
from workshop_server.store.database import Database


@dataclass(frozen=True)
class ServerContext:
    """One running server; `keys` is None where it asks for no API keys, as on a laptop of one's own."""

    settings: Settings
    database: Database
    keys: ApiKeys | None = None


@dataclass(frozen=True)
class Caller:
    """The sender of a request; `tenant` is None where the server asks for no keys: then it may see every tenant."""

    server: ServerContext
    tenant: str | None = None
    agent_id: str | None = None
    core_version: str | None = None
