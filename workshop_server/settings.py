"""What an instance of the server is set to: addresses, database, keys, intervals, limits."""

from dataclasses import dataclass, field
from pathlib import Path

HOME = Path.home() / ".prefect"  # where Prefect's client keeps what it needs too
DATABASE = HOME / "workshop_server.sqlite"
KEYS = HOME / "workshop_server_keys.json"
HOST = r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"  # and the port, of a receiver of web hooks


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    body: int = 32 * 2**20          # bytes, of a request and of an unpacked flow
    depth: int = 12                 # of selections inside selections
    fields: int = 600               # in one query
    rows: int = 20_000              # in one list of an answer
    queued: int = 25                # flow runs that one poll of an agent may be given
    wrong_keys: int = 20            # from one address in a minute, before it has to wait
    hooks: int = 100                # of one tenant


@dataclass(frozen=True)
class Settings:
    """One server. Seconds everywhere; the intervals default to those of the original server."""

    host: str = "127.0.0.1"
    port: int = 4200
    ui_port: int = 8080
    database: str = f"sqlite:///{DATABASE}"
    api_keys: Path | None = None
    name: tuple[str, ...] = ()          # further host names that requests may be addressed to
    scheduler_interval: float = 150
    zombie_interval: float = 120
    lazarus_interval: float = 600
    heartbeat_timeout: float = 600      # without a beat for so long, a run counts as dead
    hooks_to: tuple[str, ...] = ()      # HOST or HOST:PORT that web hooks may be sent to
    hook_interval: float = 2            # between two looks for web hooks to send
    hook_backoff: float = 10            # before the second attempt to send one, four times that before the third, …
    scheduled_ahead: int = 10           # runs of a schedule that stand in the queue
    resurrections: int = 3              # times that Lazarus brings a run back
    limits: Limits = field(default_factory=Limits)
