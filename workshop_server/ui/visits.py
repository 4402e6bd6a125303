"""A visit to a page: the tenant, the time zone of the reader, and the response."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

import sqlalchemy as sa
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from workshop_server.context import ServerContext
from workshop_server.errors import NotFoundError
from workshop_server.store.tables import FINISHED, WAITING
from workshop_server.ui import queries, reader_times, safe_text, sessions, timeline

HOME = Path(__file__).resolve().parent
PART = "x-part"        # header of requests for only the part of a page that changes
NOTE = "note"          # cookie with the result of an action, for the next page

templates = Environment(loader=FileSystemLoader(HOME / "templates"), autoescape=True, undefined=StrictUndefined,
                        finalize=safe_text.visible, trim_blocks=True, lstrip_blocks=True)
templates.filters |= {"duration": reader_times.duration, "pretty": safe_text.pretty, "brief": safe_text.brief,
                      "plain": safe_text.plain, "markdown": safe_text.markdown, "web_link": safe_text.web_link,
                      "share": timeline.share, "in_order": timeline.in_order}
templates.globals |= {"FINISHED": FINISHED, "WAITING": WAITING, "FAILURES": queries.FAILURES, "MANY": queries.MANY,
                      "quote": quote}


@dataclass
class Visit:
    """One request for a page of a tenant. `allowed` is None in a server without keys: every tenant may be seen."""

    request: Request
    server: ServerContext
    conn: sa.Connection
    tenant: sa.Row
    allowed: str | None
    clock: reader_times.ReaderClock

    @property
    def is_part(self) -> bool:
        return PART in self.request.headers

    def asked(self, name: str, among: tuple[str, ...] = ()) -> str:
        """A value of the URL. If it is missing, or is not in `among`: the first of `among`, or ""."""
        value = self.request.query_params.get(name, "")
        return value if not among or value in among else among[0]

    def number(self, name: str) -> int:
        """A whole number of the URL; 0 if it is missing."""
        value = self.asked(name)
        return int(value) if value.isascii() and value.isdigit() and len(value) < 18 else 0

    def here(self, **changes: object) -> str:
        """The URL of this page with some values changed; None removes a value."""
        values = dict(self.request.query_params) | changes
        rest = urlencode({name: value for name, value in values.items() if value not in (None, "", 0)})
        return self.request.url.path + (f"?{rest}" if rest else "")

    def url(self, *parts: str) -> str:
        """The URL of another page of this tenant."""
        return "/" + "/".join(quote(str(part), safe="") for part in (self.tenant.slug, *parts))


Gather = Callable[[Visit], dict | Response]


def visit(request: Request, conn: sa.Connection) -> Visit:
    """The visit that a request makes; raises NotFoundError for a tenant that the visitor may not see."""
    server = request.app.state.server
    allowed = request.state.tenant
    if allowed is None and server.keys is not None:
        raise NotFoundError("not found without a key")  # LoginRequired has checked it already; checked twice on purpose
    tenant = queries.tenant_of(conn, request.path_params["slug"], allowed)
    return Visit(request, server, conn, tenant, allowed, reader_times.clock(unquote(request.cookies.get("zone", ""))))


def shown(template: str, gather: Gather) -> Callable[[Request], Response]:
    """The endpoint of a page: `gather` returns the values for the template, or a redirect."""
    def endpoint(request: Request) -> Response:
        with request.app.state.server.database.read() as conn:
            return answer(visit(request, conn), template, gather)
    return endpoint


def answer(visitor: Visit, template: str, gather: Gather, *, status: int = 200, **more: object) -> Response:
    """The page, or only the part that changes if the script asks for that."""
    found = gather(visitor)
    if isinstance(found, Response):
        return found
    tenants = queries.tenants(visitor.conn, visitor.allowed) if not visitor.is_part else []
    context = {"visit": visitor, "tenant": visitor.tenant, "clock": visitor.clock, "url": visitor.url, "here":
               visitor.here, "tenants": tenants, "is_part": visitor.is_part, "every": 5, "with_keys":
               visitor.server.keys is not None, "errors": {}, "project": None, "unread":
               queries.unread(visitor.conn, visitor.tenant.id) if not visitor.is_part else 0, **found, **more}
    return html(visitor.request, template, context, status)


def html(request: Request, template: str, context: dict, status: int = 200) -> Response:
    """A template with its values, and with the note of the last action."""
    note = _note(request) if PART not in request.headers else None
    context = {"is_part": False, "visit": None, "every": 0, "note": note, "title": ""} | context
    response = HTMLResponse(templates.get_template(template).render(context), status)
    if note:
        response.delete_cookie(NOTE, path="/")
    return response


def go(url: str, said: str = "", *, is_problem: bool = False) -> Response:
    """Redirect to a page of this server, which shows what was done."""
    response = RedirectResponse(url, 303)
    if said:
        note = quote(json.dumps([said[:600], is_problem]))
        response.set_cookie(NOTE, note, max_age=30, path="/", httponly=True, samesite="strict")
    return response


def local_path(path: str | None) -> str:
    """The path, if it leads to a page of this server; else the path of the first page."""
    is_safe = path and path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable()
    return path if is_safe and "\\" not in path else "/"


def token(request: Request) -> str | None:
    return request.cookies.get(sessions.COOKIE)


def _note(request: Request) -> list | None:
    """[what was done, whether it is a problem], from the cookie."""
    try:
        said, is_problem = json.loads(unquote(request.cookies[NOTE]))
        return [str(said), bool(is_problem)]
    except (KeyError, ValueError, TypeError):
        return None
