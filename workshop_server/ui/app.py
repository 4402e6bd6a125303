"""The web application of the pages: which URL leads to which page, and who may see it."""

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workshop_server.context import Caller, ServerContext
from workshop_server.errors import NotFoundError, RequestError
from workshop_server.graph import schema
from workshop_server.http import api
from workshop_server.ui import actions, login, pages, queries, run_pages, visits
from workshop_server.ui.sessions import Sessions

# May be seen without a key, like /static. Whole paths, because the slug of a tenant may begin like them.
OPEN = ("/login", "/health")


def create(server: ServerContext) -> ASGIApp:
    """The pages of a server."""
    app = Starlette(
        routes=[
            Route("/", first_page), Route("/health", health), Route("/graphql", graphql, methods=["POST"]),
            Route("/login", login.form), Route("/login", login.enter, methods=["POST"]),
            Route("/logout", login.leave, methods=["POST"]),
            Mount("/static", StaticFiles(directory=visits.HOME / "static")),
            *pages.ROUTES, *run_pages.ROUTES, *actions.ROUTES,
        ],
        middleware=[Middleware(CacheHeaders), Middleware(LoginRequired, server=server)],
        exception_handlers={NotFoundError: not_found, RequestError: refused, HTTPException: not_found, 500: broken})
    app.state.server = server
    app.state.sessions = Sessions()
    return app


class CacheHeaders:
    """Browsers do not store pages, and revalidate static files on each request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_fresh(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = b"no-cache" if scope["path"].startswith("/static/") else b"no-store"
                message["headers"] = [*message["headers"], (b"cache-control", kept)]
            await send(message)
        await self.app(scope, receive, send_fresh if scope["type"] == "http" else send)


class LoginRequired:
    """In a server that asks for keys, only the login page is open to visitors who have not logged in."""

    def __init__(self, app: ASGIApp, server: ServerContext) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request.state.tenant = None
        if self.server.keys is not None:
            key = scope["app"].state.sessions.key(visits.token(request))
            request.state.tenant = key and self.server.keys.tenant(key)  # the key may have been revoked since the login
            if request.state.tenant is None and scope["path"] not in OPEN and not scope["path"].startswith("/static/"):
                await _log_in_first(request)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _log_in_first(request: Request) -> Response:
    if request.method != "GET" or visits.PART in request.headers:
        return PlainTextResponse("log in first", HTTPStatus.UNAUTHORIZED)
    return RedirectResponse(f"/login?next={visits.quote(request.url.path)}", HTTPStatus.SEE_OTHER)


def first_page(request: Request) -> Response:
    """The dashboard of the visitor's tenant, or of the oldest one."""
    with request.app.state.server.database.read() as conn:
        tenants = queries.tenants(conn, request.state.tenant)
    if not tenants:
        raise NotFoundError("a tenant: not found")
    return RedirectResponse("/" + visits.quote(tenants[0].slug, safe=""))


def health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def graphql(request: Request) -> Response:
    """Queries of the interactive API page, answered as the API answers them."""
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        body = None
    query, variables = (body.get("query"), body.get("variables")) if isinstance(body, dict) else (None, None)
    if not isinstance(query, str) or not isinstance(variables, dict | None):
        return JSONResponse({"errors": [{"message": "a JSON object with `query` and `variables` is needed"}]}, 400)
    return api.Answer(await run_in_threadpool(_execute, request, query, variables))


def _execute(request: Request, query: str, variables: dict | None) -> dict:
    caller = Caller(request.app.state.server, tenant=request.state.tenant)
    try:
        return schema.execute(caller, query, variables)
    except schema.InvalidQueryError as error:
        return {"errors": error.errors}
    except RequestError as error:
        return schema.failure(error)


def not_found(request: Request, error: Exception) -> Response:
    """The page for what does not exist, and for other HTTP errors."""
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    if visits.PART in request.headers:
        return PlainTextResponse(HTTPStatus(status).phrase, status)
    said = (f"{str(error).capitalize()}: it was deleted, or it belongs to somebody else." if isinstance(
        error, NotFoundError) else "There is no such page.") if status == HTTPStatus.NOT_FOUND else ""
    return visits.html(request, "problem.html", {"title": HTTPStatus(status).phrase, "said": said}, status)


def refused(request: Request, error: Exception) -> Response:
    """The page for a request that cannot be carried out: it shows the message of the error."""
    return visits.html(request, "problem.html", {"title": "That cannot be done", "said": str(error)},
                     HTTPStatus.BAD_REQUEST)


def broken(request: Request, _: Exception) -> Response:
    """The page for an internal error; details are in the terminal of the server."""
    return visits.html(request, "problem.html", {
        "title": "Something broke", "said": "The server's terminal tells what."}, HTTPStatus.INTERNAL_SERVER_ERROR)
