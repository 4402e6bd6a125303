"""Cloud hooks: a tenant is told when flow runs enter certain states.

A hook that fires leaves a message, or a web hook to send, in the transaction that sets the state. So a server that is
killed loses neither. `delivery.py` sends the web hooks.
"""

import json
import re
from collections.abc import Iterable

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.settings import HOST, Limits
from workshop_server.store import timestamps
from workshop_server.store.database import owned, update
from workshop_server.store.tables import KNOWN, cloud_hook, flow, flow_group, flow_run, hook_delivery, message, tenant

MESSAGE, WEB, SLACK = "PREFECT_MESSAGE", "WEBHOOK", "SLACK_WEBHOOK"
NOT_SENT = ("EMAIL", "TWILIO", "PAGERDUTY")
NAME = "Custom"         # of a hook without a name, as in Prefect Cloud
NAME_LENGTH = 200       # characters; names of flows and runs in a message are cut to it too
TEXT_LENGTH = 500       # characters of a state's message that a hook passes on
ADDRESS_LENGTH = 2000
PORTS = {"http": 80, "https": 443}
# So strict that all programs read it in the same way: no user, no backslash, only printable ASCII.
ADDRESS = re.compile(rf"(https?)://{HOST}(?:[/?#][!-\[\]-~]*)?", re.IGNORECASE)
STATES = {name.lower(): name for name in KNOWN}

# Built once, because building it takes longer than executing it, at each state of a flow run.
ACTIVE = sa.select(*(cloud_hook.c[name] for name in (
    "id", "tenant_id", "name", "type", "states", "version_group_id"))).where(
        cloud_hook.c.tenant_id == sa.bindparam("tenant"), cloud_hook.c.active.is_(True))


def create(conn: sa.Connection, tenant_id: str, *, kind: str, states: Iterable[str], name: str | None = None,
           config: object = None, version_group_id: str | None = None, flow_group_id: str | None = None,
           receivers: Iterable[str] = (), most: int = Limits.hooks) -> str:
    """Create a hook for the runs of one flow, or of all flows of the tenant; returns its id.

    `receivers` are the hosts that web hooks may be sent to. Raises RequestError for a hook that could never fire or
    never be sent.
    """
    home = owned(conn, tenant, tenant_id, None, lock=True)  # so that concurrent requests count correctly
    made = sa.select(sa.func.count()).where(cloud_hook.c.tenant_id == home.id)
    if conn.scalar(made) >= most:
        raise RequestError(f"a tenant may have {most} hooks: delete one first")
    name = (name or "").strip() or NAME
    if len(name) > NAME_LENGTH:
        raise RequestError(f"the name of a hook has at most {NAME_LENGTH} characters")
    values = {"name": name, "type": kind, "states": _known(states), "config": _config(kind, config, receivers),
              "version_group_id": _group(conn, home.id, version_group_id, flow_group_id)}
    return conn.execute(sa.insert(cloud_hook).values(tenant_id=home.id, **values)).inserted_primary_key[0]


def set_active(conn: sa.Connection, tenant_id: str | None, hook_id: str, *, active: bool) -> None:
    """Switch a hook on, or off: then web hooks that have not been sent are dropped."""
    update(conn, cloud_hook, hook_id, tenant_id, active=active)
    if not active:
        conn.execute(sa.delete(hook_delivery).where(hook_delivery.c.cloud_hook_id == hook_id))


def fire(conn: sa.Connection, run: sa.Row, state: str, said: str | None) -> None:
    """Fire the hooks for a flow run that enters a state; `run` is its row before that.

    A state with the same name as before fires nothing, as when a Scheduled run is started early.
    """
    if state == run.state:
        return
    concerned = [hook for hook in conn.execute(ACTIVE, {"tenant": run.tenant_id}).all() if state in hook.states]
    if not concerned:
        return
    home = _flow(conn, run)
    for hook in concerned:
        if hook.version_group_id in (None, home.version_group_id):
            _tell(conn, hook, *_words(run, home, state, said))


def fire_test(conn: sa.Connection, tenant_id: str | None, hook_id: str, flow_run_id: str | None = None,
            state: str | None = None) -> None:
    """Fire a hook once as a test, even if it is off; by default without a flow run, in the first of its states."""
    hook = owned(conn, cloud_hook, hook_id, tenant_id)
    state = _known([state])[0] if state else hook.states[0]
    if flow_run_id is None:
        _tell(conn, hook, f"A test of the hook {_quoted(hook.name)}, for the state {state}", {"state": state})
        return
    run = owned(conn, flow_run, flow_run_id, hook.tenant_id)
    said, about = _words(run, _flow(conn, run), state, run.state_message if state == run.state else None)
    _tell(conn, hook, f"A test of the hook {_quoted(hook.name)}: {said}", about)


def leave(conn: sa.Connection, tenant_id: str, kind: str, text: str, content: dict) -> None:
    """Leave a message of one line for a tenant."""
    conn.execute(sa.insert(message).values(tenant_id=tenant_id, type=kind, text=" ".join(text.split()),
                                           content=content))


def receiver(address: object, receivers: Iterable[str]) -> str:
    """The host of an address, with its port if that is not the usual one.

    Raises RequestError if it is not a web address, or if the server was not started with `--hooks-to` for this host.
    """
    found = ADDRESS.fullmatch(address) if isinstance(address, str) and len(address) <= ADDRESS_LENGTH else None
    usual = PORTS[found[1].lower()] if found else 0
    port = int(found[3] or usual) if found else 0
    if not 0 < port < 65536:
        raise RequestError('a web hook needs {"url": …} in its config, an address as in https://hooks.example.org/qc: '
                           f"http or https, without user and password, of at most {ADDRESS_LENGTH} characters")
    host = found[2].lower()
    place = host if port == usual else f"{host}:{port}"
    if not {place, f"{host}:{port}"} & {each.lower() for each in receivers}:
        raise RequestError(f"web hooks may not be sent to {place}: start the server with --hooks-to {place} to "
                           f"allow it; a hook of the type {MESSAGE} leaves a message here instead")
    return place


def body(kind: str, event_id: str, content: dict) -> dict:
    """The JSON that a web hook sends."""
    return {"text": _for_slack(content["text"])} if kind == SLACK else {"event_id": event_id, **content}


def _config(kind: str, config: object, receivers: Iterable[str]) -> dict:
    if kind in NOT_SENT:
        raise RequestError(f"this server does not send hooks of the type {kind}: use {MESSAGE}, which leaves a "
                           f"message here, or a {WEB} to a service that does")
    if kind == MESSAGE:
        return {}
    if isinstance(config, str):  # how JSON stands in a query without variables
        try:
            config = json.loads(config)
        except (ValueError, RecursionError):
            config = None
    config = config if isinstance(config, dict) else {}
    receiver(config.get("url"), receivers)
    if more := sorted(config.keys() - {"url"}):
        raise RequestError(f"of a web hook's config this server knows the url alone, not {str(more[0])[:40]!r}")
    return {"url": config["url"]}


def _known(states: Iterable[str]) -> list[str]:
    """The names of states as Prefect writes them, without repetitions."""
    found = {}
    for each in states:
        if each.lower() not in STATES:
            raise RequestError(f"{each[:40]!r} is not a state of Prefect's: {', '.join(sorted(KNOWN))}")
        found[STATES[each.lower()]] = None
    if not found:
        raise RequestError('a hook needs states to look for, as in ["Failed", "Cancelled"]')
    return list(found)


def _group(conn: sa.Connection, tenant_id: str, version_group_id: str | None, flow_group_id: str | None) -> str | None:
    """The version group of the given flow; None if no flow is given."""
    if flow_group_id is not None:
        return owned(conn, flow_group, flow_group_id, tenant_id).name
    there = sa.select(flow_group.c.id).where(flow_group.c.tenant_id == tenant_id, flow_group.c.name == version_group_id)
    if version_group_id is not None and conn.scalar(there) is None:
        raise RequestError(f"flow with version group {version_group_id[:NAME_LENGTH]} not found")
    return version_group_id


def _flow(conn: sa.Connection, run: sa.Row) -> sa.Row:
    return conn.execute(sa.select(flow.c.id, flow.c.name, flow.c.version_group_id).where(
        flow.c.id == run.flow_id)).one()


def _words(run: sa.Row, home: sa.Row, state: str, said: str | None) -> tuple[str, dict]:
    """What the hook says: as a sentence, and as data."""
    said = _cut(said or "", TEXT_LENGTH)
    about = {"flow_run_id": run.id, "flow_run_name": _cut(run.name or "", NAME_LENGTH), "flow_id": home.id,
             "flow_name": _cut(home.name, NAME_LENGTH), "version_group_id": home.version_group_id, "state": state,
             "state_message": said, "timestamp": timestamps.now()}
    sentence = f"Run {_quoted(run.name or run.id)} of flow {_quoted(home.name)} is {state}"
    return sentence + (f": {said}" if said else ""), about


def _tell(conn: sa.Connection, hook: sa.Row, said: str, about: dict) -> None:
    about = {"cloud_hook_id": hook.id, "cloud_hook_name": hook.name, "tenant_id": hook.tenant_id, **about}
    if hook.type == MESSAGE:
        leave(conn, hook.tenant_id, "CLOUD_HOOK", said, about)
        return
    conn.execute(sa.insert(hook_delivery).values(cloud_hook_id=hook.id, content={"text": said, **about}))


def _quoted(name: str) -> str:
    return f'"{_cut(name, NAME_LENGTH)}"'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most - 1] + "…"


def _for_slack(text: str) -> str:
    """Escaped for Slack: a run with the name `<!channel>` must not notify everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
