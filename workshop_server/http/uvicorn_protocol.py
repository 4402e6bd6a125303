"""Time limits and size limits for connections, which uvicorn does not have: for slow, idle and endless requests."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0     # seconds for the headers of a request to arrive
HEAD_BYTES = 64 * 1024  # bytes of the headers of one request


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever for a request, and reads headers of any length."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_of_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()  # the next request; or the rest of a refused body
        self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > HEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head = True, 0

    def on_headers_complete(self) -> None:
        self._end_of_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _end_of_head(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


# For uvicorn.Config. Above `limit_concurrency` uvicorn answers 503, and Prefect's client asks again a second later.
OPTIONS = {"http": Protocol, "ws": "none", "timeout_keep_alive": 15, "limit_concurrency": 800, "backlog": 1024,
           "proxy_headers": False,  # or a request could claim to come from another address
           "server_header": False, "access_log": False, "timeout_graceful_shutdown": 3}
