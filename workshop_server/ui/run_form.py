"""The form that starts a flow run: a field for each parameter, read as JSON if it is JSON, else as text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

import sqlalchemy as sa

from workshop_server.runs.flow_runs import default_labels
from workshop_server.store import timestamps

PREFIX = "parameter:"


@dataclass(frozen=True)
class ParameterField:
    """The field of a parameter; `text` is its default."""

    name: str
    is_required: bool
    text: str


@dataclass
class SentForm:
    """The values of a form, as arguments of `flow_runs.create`; `errors` by the name of the field."""

    wanted: dict = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def fields(flow: sa.Row, defaults: dict | None) -> list[ParameterField]:
    """A field for each parameter; defaults of the flow group replace those of the flow."""
    found = []
    for each in flow.parameters or []:
        name = str(each.get("name"))
        default = (defaults or {}).get(name, each.get("default"))
        has_default = not each.get("required") or name in (defaults or {})
        found.append(ParameterField(name, not has_default, as_text(default) if has_default else ""))
    return sorted(found, key=lambda one: not one.is_required)


def as_text(value: object) -> str:
    """The value as JSON; a text has no quotes if it is clear without them."""
    if isinstance(value, str) and value == value.strip() and value and not _is_json(value) and value[0] not in "[{\"":
        return value
    return json.dumps(value, ensure_ascii=False)


def as_value(text: str) -> object:
    """The value of a field; raises ValueError, with a message for the form, for JSON with an error in it."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("too deep") from None
    except json.JSONDecodeError as error:
        if text.strip()[:1] in ("[", "{", '"'):
            raise ValueError(f"not JSON: {error.msg}, at character {error.pos + 1}") from None
        return text.strip()
    except ValueError:
        return text.strip()  # NaN, Infinity


def read(form: Mapping[str, str], flow: sa.Row, group: sa.Row, zone: tzinfo | None) -> SentForm:
    """The values of the form."""
    sent = SentForm({"parameters": {}})
    for each in fields(flow, group.default_parameters):
        text = form.get(PREFIX + each.name, "")
        if not text.strip():
            if each.is_required:
                sent.errors[PREFIX + each.name] = "needs a value"
            continue
        if text == each.text:
            continue  # the default
        try:
            sent.wanted["parameters"][each.name] = as_value(text)
        except ValueError as error:
            sent.errors[PREFIX + each.name] = str(error)
    sent.wanted["name"] = form.get("name", "").strip() or None
    labels = [label.strip() for label in form.get("labels", "").split(",") if label.strip()]
    sent.wanted["labels"] = None if labels == default_labels(group, flow) else labels
    sent.wanted["idempotency_key"] = form.get("key") or None
    if context := form.get("context", "").strip():
        _read_context(context, sent)
    if start := form.get("start", "").strip():
        _read_start(start, zone, sent)
    return sent


def _read_context(text: str, sent: SentForm) -> None:
    try:
        sent.wanted["context"] = as_value(text)
        if not isinstance(sent.wanted["context"], dict):
            raise ValueError('a JSON object is needed, as in {"room": 7}')
    except ValueError as error:
        sent.errors["context"] = str(error)


def _read_start(text: str, zone: tzinfo | None, sent: SentForm) -> None:
    try:
        local = datetime.fromisoformat(text)
        at = local.replace(tzinfo=zone) if zone else local.astimezone()
        sent.wanted["scheduled_start_time"] = timestamps.text(at)
    except (ValueError, OverflowError):
        sent.errors["start"] = "not a date and time"


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)
