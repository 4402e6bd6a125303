"""The start of the server: one process for the API, the pages, each on its own port, and the background services."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from workshop_server import background
from workshop_server.api_keys import ApiKeys
from workshop_server.context import ServerContext
from workshop_server.errors import StartError
from workshop_server.http import api, untrusted_requests, uvicorn_protocol
from workshop_server.settings import Settings
from workshop_server.store.database import Database
from workshop_server.ui import app as ui


def serve(settings: Settings) -> None:
    """Serve until the process is told to stop. Raises StartError, in one line, where it cannot start."""
    untrusted_requests.check_exposure(settings)
    sockets = [_listen(settings.host, settings.port, "--port"), _listen(settings.host, settings.ui_port, "--ui-port")]
    database = Database(settings.database)
    keys = settings.api_keys and ApiKeys(settings.api_keys, database, wrong_keys=settings.limits.wrong_keys)
    server = ServerContext(settings, database, keys)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = background.start(server)
        print(welcome(server), flush=True)
        yield
        running.stop()

    by_port = {settings.port: untrusted_requests.protect_api(api.create(server), server),
               settings.ui_port: untrusted_requests.protect_pages(ui.create(server), server)}
    try:
        uvicorn.Server(uvicorn.Config(
            _ByPort(by_port, Starlette(lifespan=lifespan)), log_level="warning", lifespan="on",
            **uvicorn_protocol.OPTIONS,
        )).run(sockets)
    finally:
        database.close()


class _ByPort:
    """Passes each request to the application of the port on which it arrived."""

    def __init__(self, by_port: dict[int, ASGIApp], lifespan: ASGIApp) -> None:
        self._by_port = by_port
        self._lifespan = lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._lifespan if scope["type"] == "lifespan" else self._by_port[scope["server"][1]]
        await app(scope, receive, send)


def _listen(host: str, port: int, flag: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # on Windows, SO_REUSEADDR would share a port in use
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(uvicorn_protocol.OPTIONS["backlog"])
        return listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"port {port} is taken by another program, perhaps another server: end that, or choose "
                             f"another port with {flag}") from None
        raise StartError(f"cannot listen on {host}, port {port}: {error.strerror or error}: choose another address "
                         f"with --host, or another port with {flag}") from None


def welcome(server: ServerContext) -> str:
    """What the user sees when the server is ready: where everything is, and what to type next."""
    settings, default = server.settings, Settings()
    host = _seen_from_outside(settings.host)
    url, pages = f"http://{host}:{settings.port}", f"http://{host}:{settings.ui_port}"
    if server.keys is not None:
        commands = [f"export PREFECT__CLOUD__API={url} PREFECT__CLOUD__GRAPHQL={url}",
                    f"export PREFECT__SERVER__UI__ENDPOINT={pages}", "prefect backend cloud",
                    "prefect auth login --key KEY", "prefect create project 'Hello, World!'"]
    else:
        commands = ["prefect backend server", 'prefect create project "Image QC"', "prefect agent local start"]
        if (settings.ui_port, host) != (default.ui_port, "localhost"):
            commands.insert(0, f"export PREFECT__SERVER__UI__ENDPOINT={pages}")
        if (settings.port, host) != (default.port, "localhost"):
            commands.insert(0, f"export PREFECT__SERVER__ENDPOINT={url}")
    lines = [f"Prefect server, ready: {url}", f"its pages:             {pages}",
             f"its data:              {server.database.place}", "", "next, in another terminal:",
             *(f"  {command}" for command in commands), "", "Ctrl-C stops it; the data stay."]
    return "\n".join(lines)


def _seen_from_outside(host: str) -> str:
    """The name by which clients reach a server that listens on `host`."""
    if host in ("127.0.0.1", "::1", "localhost"):
        return "localhost"
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the address of this machine
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
