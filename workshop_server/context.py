"""What the parts of one running server share, and who is asking."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workshop_server.settings import Settings
from workshop_server.store.database import Database

if TYPE_CHECKING:
    from workshop_server.http.keys import Keys


@dataclass(frozen=True)
class Server:
    """One running server; `keys` is None where it asks for none, as a server on one's own laptop does."""

    settings: Settings
    database: Database
    keys: "Keys | None" = None


@dataclass(frozen=True)
class Caller:
    """Who asks: `tenant` is None where the server asks for no keys, and every tenant is then in sight."""

    server: Server
    tenant: str | None = None
    agent_id: str | None = None
    core_version: str | None = None
