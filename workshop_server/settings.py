"""The settings of one server: addresses, database, keys, intervals, limits."""

from dataclasses import dataclass, field
from pathlib import Path

HOME = Path.home() / ".prefect"  # the folder that Prefect's client uses too
DATABASE = HOME / "workshop_server.sqlite"
KEYS = HOME / "workshop_server_keys.json"
HOST = r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"  # HOST or HOST:PORT of a receiver of web hooks


@dataclass(frozen=True)
class Limits:
    """The limits of one request, one address or one tenant."""

    body: int = 32 * 2**20          # bytes of a request, and of a flow when unpacked
    depth: int = 12                 # levels of nested selections in a query
    fields: int = 600               # fields in one query
    rows: int = 20_000              # rows in one list of an answer
    queued: int = 25                # flow runs in the answer to one poll of an agent
    wrong_keys: int = 20            # wrong API keys from one address in a minute
    hooks: int = 100                # cloud hooks of one tenant


@dataclass(frozen=True)
class Settings:
    """The settings of one server. All times are in seconds; the default intervals are those of Prefect Server."""

    host: str = "127.0.0.1"
    port: int = 4200
    ui_port: int = 8080
    database: str = f"sqlite:///{DATABASE}"
    api_keys: Path | None = None
    name: tuple[str, ...] = ()          # further host names that requests may be addressed to
    scheduler_interval: float = 150
    zombie_interval: float = 120
    lazarus_interval: float = 600
    heartbeat_timeout: float = 600      # a run without a heartbeat for this long counts as dead
    hooks_to: tuple[str, ...] = ()      # HOST or HOST:PORT that web hooks may be sent to
    hook_interval: float = 2            # between two searches for web hooks to send
    hook_backoff: float = 10            # before a second attempt to send one; four times that before the third, …
    scheduled_ahead: int = 10           # runs that are created ahead for each schedule
    resurrections: int = 3              # times that Lazarus brings a run back
    limits: Limits = field(default_factory=Limits)
