"""One process that serves the API and the pages, each on a port of its own, and runs the services beside them."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from workshop_server import background
from workshop_server.context import Server
from workshop_server.errors import StartError
from workshop_server.http import api, guard, uvicorn_protocol
from workshop_server.http.keys import Keys
from workshop_server.settings import Settings
from workshop_server.store.database import Database
from workshop_server.ui import app as ui


def serve(settings: Settings) -> None:
    """Serve until the process is told to stop. Raises StartError, in one line, where it cannot start."""
    guard.check_exposure(settings)
    sockets = [_listen(settings.host, settings.port, "--port"), _listen(settings.host, settings.ui_port, "--ui-port")]
    database = Database(settings.database)
    keys = settings.api_keys and Keys(settings.api_keys, database, wrong_keys=settings.limits.wrong_keys)
    server = Server(settings, database, keys)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        running = background.start(server)
        print(welcome(server), flush=True)
        yield
        running.stop()

    pages, answers = guard.pages(ui.create(server), server), guard.api(api.create(server), server)
    by_port = {settings.port: answers, settings.ui_port: pages}
    try:
        uvicorn.Server(uvicorn.Config(
            _Switch(by_port, Starlette(lifespan=lifespan)), log_level="warning", lifespan="on",
            **uvicorn_protocol.OPTIONS,
        )).run(sockets)
    finally:
        database.close()


class _Switch:
    """Hands a request to the application whose port it came to."""

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
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # on Windows, SO_REUSEADDR would share a port that is taken
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


def welcome(server: Server) -> str:
    """What its user sees once the server is ready: where everything is, and what to type next."""
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
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks by which address one would go out
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
