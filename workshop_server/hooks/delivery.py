"""The delivery of web hooks: each is sent by POST, several times if the receiver does not answer, then given up.

They are stored in the database, so they survive a restart. Before a server sends one, it sets its due time to 30 s
later: so only one of two servers sends it, and if the server is killed meanwhile, it is sent again. A receiver may
thus get a web hook twice, with the same `event_id`.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from workshop_server.context import ServerContext
from workshop_server.errors import RequestError
from workshop_server.hooks import cloud_hooks
from workshop_server.store import timestamps
from workshop_server.store.tables import cloud_hook, hook_delivery

if TYPE_CHECKING:
    import ssl

ATTEMPTS = 4        # to send a web hook, before it is given up
SECONDS = 5.0       # for one attempt, from the connection to the answer
AT_ONCE = 50        # web hooks sent at the same time
OF_ONE = 5          # of them from the same hook: more could be too much for a small receiver
LEASE = 30.0        # seconds until a web hook that a server has claimed is due again; longer than any pass
HEADERS = {"User-Agent": "workshop_server"}


class Outcome(NamedTuple):
    """The result of an attempt: `problem` is None if it arrived; `again` says if another attempt may help."""

    problem: str | None = None
    again: bool = True


def send_hooks(server: ServerContext) -> int:
    """Send the web hooks that are due, in batches, until none of a batch arrives; returns how many arrived."""
    sent = 0
    while arrived := _send_some(server):
        sent += arrived
    return sent


def _send_some(server: ServerContext) -> int:
    with server.database.read() as conn:
        due = conn.scalars(_due()).all()
    if not due:
        return 0
    with server.database.write() as conn:
        mine = _claim(conn, due)
    outcomes = asyncio.run(_send(mine, server.settings.hooks_to)) if mine else []
    with server.database.write() as conn:
        for each, outcome in zip(mine, outcomes, strict=True):
            _note(conn, each, outcome, server.settings.hook_backoff)
    return sum(outcome.problem is None for outcome in outcomes)


def _due() -> sa.Select:
    """The first of each hook before the second of any: a dead receiver does not delay the others."""
    rank = sa.func.row_number().over(partition_by=hook_delivery.c.cloud_hook_id, order_by=hook_delivery.c.due)
    ranked = sa.select(hook_delivery.c.id, rank.label("rank")).where(hook_delivery.c.due <= timestamps.now()).subquery()
    return sa.select(ranked.c.id).where(ranked.c.rank <= OF_ONE).order_by(ranked.c.rank).limit(AT_ONCE)


def _claim(conn: sa.Connection, ids: list[str]) -> list[sa.Row]:
    """The deliveries that no other server is sending, claimed for this server until the lease ends."""
    mine = conn.scalars(sa.select(hook_delivery.c.id).where(
        hook_delivery.c.id.in_(ids), hook_delivery.c.due <= timestamps.now()).with_for_update(skip_locked=True)).all()
    which = hook_delivery.c.id.in_(mine)
    conn.execute(sa.update(hook_delivery).where(which).values(
        due=timestamps.now(shift=LEASE), attempts=hook_delivery.c.attempts + 1))
    columns = (*(hook_delivery.c[name] for name in ("id", "content", "attempts")),
               *(cloud_hook.c[name] for name in ("name", "type", "tenant_id", "config")))
    return conn.execute(sa.select(*columns).join_from(hook_delivery, cloud_hook).where(which)).all()


async def _send(deliveries: list[sa.Row], receivers: tuple[str, ...]) -> list[Outcome]:
    import httpx  # the import takes 0.1 s, which a server without web hooks saves
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at lower levels they log addresses, which are secrets
    trusted = httpx.create_ssl_context(trust_env=False)
    return await asyncio.gather(*(_attempt(each, receivers, trusted) for each in deliveries))


async def _attempt(delivery: sa.Row, receivers: tuple[str, ...], trusted: "ssl.SSLContext") -> Outcome:
    url = delivery.config.get("url")
    try:
        place = cloud_hooks.receiver(url, receivers)  # --hooks-to may have changed since the hook was created
    except RequestError as error:
        return Outcome(str(error), again=False)
    try:
        async with asyncio.timeout(SECONDS):
            status = await _post(url, cloud_hooks.body(delivery.type, delivery.id, delivery.content), trusted)
    except TimeoutError:
        return Outcome(f"{place} did not answer within {SECONDS:g} s")
    except Exception as error:  # the other deliveries go on
        return Outcome(f"{place} cannot be reached ({type(error).__name__})")
    return Outcome() if 200 <= status < 300 else Outcome(f"{place} answered {status} {_phrase(status)}".strip())


async def _post(url: str, body: dict, trusted: "ssl.SSLContext") -> int:
    """Send it; returns the status of the answer, and does not read the rest.

    Each delivery has its own client, so no cookies of other tenants. It follows no redirects and uses no proxies.
    """
    import httpx
    async with (httpx.AsyncClient(trust_env=False, verify=trusted, timeout=None, headers=HEADERS) as client,
                client.stream("POST", url, json=body) as answer):
        return answer.status_code


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _note(conn: sa.Connection, delivery: sa.Row, outcome: Outcome, backoff: float) -> None:
    """Delete the delivery if it arrived or is given up, which leaves a message; else set its next attempt."""
    its = hook_delivery.c.id == delivery.id
    if outcome.problem and outcome.again and delivery.attempts < ATTEMPTS:
        later = timestamps.now(shift=backoff * 4 ** (delivery.attempts - 1))
        conn.execute(sa.update(hook_delivery).where(its).values(due=later))
        return
    still_wanted = conn.execute(sa.delete(hook_delivery).where(its)).rowcount
    if outcome.problem and still_wanted:
        content = {key: value for key, value in delivery.content.items() if key != "text"}
        times = f"{delivery.attempts} attempt{'s' if delivery.attempts > 1 else ''}"
        cloud_hooks.leave(conn, delivery.tenant_id, "CLOUD_HOOK_FAILED", f'The hook "{delivery.name}" gave up after '
                          f"{times}, because {outcome.problem}. It had to tell: {delivery.content['text']}", content)
