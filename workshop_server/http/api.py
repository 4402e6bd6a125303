"""The API over HTTP: one POST a request, as Prefect's client sends it.

`untrusted_requests.py` has checked the request before, has read its body, and has noted its tenant.
"""

import json
import logging

import anyio.to_thread
from sqlalchemy.exc import OperationalError, TimeoutError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from workshop_server.context import Caller, ServerContext
from workshop_server.errors import RequestError
from workshop_server.graph import schema

logger = logging.getLogger("workshop_server")
THREADS = 8  # requests that are answered at the same time; more threads would only wait for one another
PATHS = ("/", "/graphql", "/graphql/")


class Answer(JSONResponse):
    """JSON that any text can be in, see `encoded`."""

    def render(self, content: dict) -> bytes:
        return encoded(content)


def encoded(answer: dict) -> bytes:
    """The JSON of an answer. An error may quote half of a surrogate pair, which has no UTF-8: it becomes a `?`."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def create(server: ServerContext) -> ASGIApp:
    """The API of a server, as an ASGI application."""
    threads = None
    others = Starlette(routes=[Route("/", _welcome, methods=["GET"]), Route("/health", _health, methods=["GET"])])

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in PATHS:
            await others(scope, receive, send)
            return
        # Without Starlette's routes, requests and responses, which take as long as many requests do.
        nonlocal threads
        threads = threads or anyio.CapacityLimiter(THREADS)
        body = (await receive())["body"]  # all of it: `untrusted_requests` has read it
        status, answer = await anyio.to_thread.run_sync(_answer, server, scope, body, limiter=threads)
        await send({"type": "http.response.start", "status": status, "headers": [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]})
        await send({"type": "http.response.body", "body": answer})

    return api


def _answer(server: ServerContext, scope: Scope, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer. An error of the client is never a 5xx, because it would repeat the request."""
    status, answer = _answered(server, scope, body)
    return status, encoded(answer)


def _answered(server: ServerContext, scope: Scope, body: bytes) -> tuple[int, dict]:
    try:
        query, variables = _asked(body)
        return 200, schema.execute(_caller(server, scope), query, variables)
    except schema.InvalidQueryError as error:
        return 400, {"errors": error.errors}
    except RequestError as error:
        return 200, schema.failure(error)
    except (OperationalError, TimeoutError) as error:
        logger.error("the database does not answer: %s", str(error.args[0]).splitlines()[0])
        return 503, {"errors": [{"message": "the database does not answer"}]}


def _asked(body: bytes) -> tuple[str, dict]:
    try:
        asked = json.loads(body)
        variables = asked.get("variables") or {}
        if isinstance(variables, str):  # as Prefect's client sends them
            variables = json.loads(variables) or {}
        query = asked["query"]
        if isinstance(query, str) and isinstance(variables, dict):
            return query, variables
    except (ValueError, AttributeError, KeyError, RecursionError):
        pass
    raise RequestError('the body of a request is JSON: {"query": "…", "variables": {…}}')


def _caller(server: ServerContext, scope: Scope) -> Caller:
    headers = dict(scope["headers"])
    agent, version = headers.get(b"x-prefect-agent-id"), headers.get(b"x-prefect-core-version")
    return Caller(server, scope["state"]["tenant"], agent and agent.decode("latin-1"),
                  version and version.decode("latin-1"))


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _welcome(_request: Request) -> Response:
    return PlainTextResponse("A Prefect 1 server: POST GraphQL here; its pages are on the other port.\n")
