"""Login and logout, in a server that asks for keys."""

from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from workshop_server.errors import UnauthenticatedError
from workshop_server.ui import sessions, visits


def form(request: Request) -> Response:
    """The login page, which asks for the key."""
    if request.app.state.server.keys is None or request.state.tenant is not None:
        return RedirectResponse("/")
    return _asking(request, visits.local_path(request.query_params.get("next")))


async def enter(request: Request) -> Response:
    """Open a session for the tenant of the key, and redirect to the page that the visitor wanted."""
    sent = await request.form()
    key, wanted = str(sent.get("key", "")).strip(), visits.local_path(str(sent.get("next", "")))
    server = request.app.state.server
    if server.keys is None:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    address = request.client.host if request.client else ""
    try:
        await run_in_threadpool(server.keys.admit, key, address)
    except UnauthenticatedError as error:
        return _asking(request, wanted, str(error).partition(":")[0], HTTPStatus.UNAUTHORIZED)
    response = RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
    response.set_cookie(sessions.COOKIE, request.app.state.sessions.open(key), httponly=True, samesite="strict",
                        secure=request.url.scheme == "https", path="/", max_age=sessions.LIFETIME)
    return response


def leave(request: Request) -> Response:
    """End the session."""
    request.app.state.sessions.close(visits.token(request))
    response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    response.delete_cookie(sessions.COOKIE, path="/")
    return response


def _asking(request: Request, wanted: str, problem: str = "", status: int = HTTPStatus.OK) -> Response:
    return visits.html(request, "login.html", {"next": wanted, "problem": problem}, status)
