"""Refuses requests that cannot be trusted, before the API and the pages see them.

- Requests from pages of other sites (CSRF): a page in a browser can send requests to every server that the browser
  reaches, but it cannot choose `Host`, `Origin` or `Sec-Fetch-Site`, nor send JSON to another site without permission.
- DNS rebinding, in which the host name of another site leads to this server: only known host names are accepted.
- Requests to the API without a good key, if the server asks for keys, and bodies that are too large or too slow.
"""

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workshop_server import api_keys
from workshop_server.context import ServerContext
from workshop_server.errors import StartError, UnauthenticatedError
from workshop_server.settings import KEYS, Settings

OWN = ("localhost", "127.0.0.1", "[::1]")
READING = ("GET", "HEAD")
WANTED = {b"host", b"origin", b"sec-fetch-site", b"content-type", b"content-length", b"authorization",
          b"x-prefect-tenant-id"}
BODY_SECONDS = 60.0     # seconds for a body to arrive
DRAINED = 4             # times the limit: the rest of a larger body is not read, and the connection is closed
REMEMBERED = 64         # values of `Host` that are known to be good

ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"same-origin")]
PAGES = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
                                 b"form-action 'self'; frame-ancestors 'none'"),
    # Not `no-referrer`: it would remove the Origin from the forms of these pages too.
    (b"referrer-policy", b"same-origin"),
]
logger = logging.getLogger("workshop_server")


class RefusedError(Exception):
    """A request that is refused; `close` closes its connection."""

    def __init__(self, status: int, message: str, code: str = "FORBIDDEN", *, close: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.close = status, code, close


def check_exposure(settings: Settings) -> None:
    """Raises StartError if other machines could reach a server that asks for no keys."""
    if settings.api_keys is None and not _is_loopback(settings.host):
        raise StartError(f"--host {settings.host}: others could reach the server, so it needs API keys: "
                         f"python -m workshop_server create-key NAME, then add --api-keys {KEYS}")


def protect_api(app: ASGIApp, server: ServerContext) -> ASGIApp:
    """The protected API; `state["tenant"]` of a request is the tenant of its key, or None if the server has no keys."""
    return _Protected(app, server, pages=False)


def protect_pages(app: ASGIApp, server: ServerContext) -> ASGIApp:
    """The protected pages; they check keys themselves, because a browser sends a cookie instead."""
    return _Protected(app, server, pages=True)


class _Protected:
    """One of the two applications, behind the checks."""

    def __init__(self, app: ASGIApp, server: ServerContext, *, pages: bool) -> None:
        self._app = app
        self._keys = server.keys
        self._limit = server.settings.limits.body
        self._pages = pages
        self._headers = ALWAYS + PAGES if pages else ALWAYS
        self._names = {*OWN, _bracketed(server.settings.host).lower(), *map(str.lower, server.settings.name)}
        self._is_open = not _is_loopback(server.settings.host)
        if self._is_open:
            machine = socket.gethostname().lower()
            self._names |= {machine, f"{machine}.local"}
        self._good_hosts: set[bytes] = set()
        self._told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})  # there are no WebSockets here

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        try:
            headers = _wanted(scope["headers"])
            self._check_host(headers)
            if scope["method"] not in READING:
                self._check_origin(headers)
                if not self._pages:
                    _check_type(headers)
                    scope.setdefault("state", {})["tenant"] = self._admitted(scope, headers)
                receive = _again(await self._body(headers, receive), receive)
        except RefusedError as refused:
            await self._refuse(refused, send_with_headers)
        except ConnectionError:
            pass  # the client is gone
        else:
            await self._app(scope, receive, send_with_headers)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"")
        if host in self._good_hosts:
            return
        name = _name(host.decode("latin-1"))
        if name not in self._names and not (self._is_open and _is_address(name)):
            if len(self._told) < REMEMBERED and name not in self._told:
                self._told.add(name)
                logger.warning("refused a request for the host %.80r, which is not a name of this server", name)
            raise RefusedError(421, "the request is for another host: the server answers to "
                                    f"{', '.join(sorted(self._names))}")
        if len(self._good_hosts) < REMEMBERED:
            self._good_hosts.add(host)

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        host = headers[b"host"].lower()
        own = (b"http://" + host, b"https://" + host)
        if site not in (None, b"same-origin", b"none"):
            raise RefusedError(403, "pages of other sites may not send requests here")
        if origin is not None and origin.lower() not in own and (origin, site) != (b"null", b"same-origin"):
            raise RefusedError(403, "pages of other sites may not send requests here")
        if self._pages and origin is site is None:
            raise RefusedError(403, "the request does not say which page it comes from: send its Origin")

    def _admitted(self, scope: Scope, headers: dict[bytes, bytes]) -> str | None:
        if self._keys is None:
            return None
        kind, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        try:
            address = scope["client"][0] if scope.get("client") else ""
            tenant = self._keys.admit(key.strip() if kind.lower() == "bearer" else None, address)
            if headers.get(b"x-prefect-tenant-id", tenant.encode()) != tenant.encode():
                raise UnauthenticatedError(api_keys.WRONG_TENANT)
        except UnauthenticatedError as error:
            # 200, because Prefect's client shows the message only then; after a 429 it would sleep for three minutes
            raise RefusedError(200, str(error), error.code) from None
        return tenant

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body. A body that is too large is read too, because its sender reads the answer only afterwards."""
        large = RefusedError(413, f"the request is larger than {self._limit / 2**20:g} MB", "TOO_LARGE")
        if int(headers.get(b"content-length", b"0")) > DRAINED * self._limit:
            large.close = True
            raise large
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more and not large.close:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    size += len(message.get("body", b""))
                    parts.append(message.get("body", b""))
                    more = message.get("more_body", False)
                    if size > self._limit:
                        parts.clear()
                        large.close = size > DRAINED * self._limit
        except TimeoutError:
            raise RefusedError(408, f"the request did not arrive within {BODY_SECONDS:g} s", "TIMEOUT",
                               close=True) from None
        if size > self._limit:
            raise large
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _refuse(self, refused: RefusedError, send: Send) -> None:
        kind, body = b"text/plain; charset=utf-8", f"{refused}\n".encode()
        if not self._pages:
            kind = b"application/json"
            body = json.dumps({"errors": [{"message": str(refused), "extensions": {"code": refused.code}}]}).encode()
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        if refused.close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _wanted(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in WANTED:
            if name in found:
                raise RefusedError(400, f"the header {name.decode()} is there twice", "BAD_REQUEST")
            found[name] = value
    return found


def _check_type(headers: dict[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        raise RefusedError(415, "the API reads JSON alone: send Content-Type: application/json", "BAD_REQUEST")


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body, which has been read already, and then what follows it."""
    left: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def read() -> Message:
        return next(left, None) or await receive()
    return read


def _name(host: str) -> str:
    """The name in a `Host` header, without the port, in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower().removesuffix(".")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_address(name: str) -> bool:
    """Is this an IP address? DNS rebinding needs a host name."""
    try:
        return bool(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
