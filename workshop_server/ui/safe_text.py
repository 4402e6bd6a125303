"""Text from clients, made safe to show: names, messages, log lines, artifacts. Any of it may be hostile."""

import json
import re
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff]")  # invisible characters
CRON = re.compile(r"\bcron ((?:[\d*/,-]+ ){4}[\d*/,-]+)(?= |,|;|$)")
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # of a terminal


def visible(value: object) -> object:
    """For every value in a template: nothing for None, and a visible sign for each invisible character."""
    if value is None:
        return ""
    if isinstance(value, str) and CONTROLS.search(value):
        shown = CONTROLS.sub(_sign, value)
        return Markup(shown) if isinstance(value, Markup) else shown  # the signs need no escaping
    return value


def plain(message: str | None) -> str:
    """A log message without the colours of a terminal."""
    return COLOURS.sub("", message or "")


def pretty(value: object) -> str:
    """JSON to read."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def brief(value: object, most: int = 120) -> str:
    """JSON on one line, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else text[:most - 1] + "…"


def web_link(address: object) -> str | None:
    """The address, if it is a web address; None for `javascript:` and all others."""
    try:
        parts = urlsplit(str(address).strip())
    except ValueError:
        return None
    return str(address).strip() if parts.scheme.lower() in ("http", "https") and parts.netloc else None


def markdown(text: object) -> Markup:
    """Markdown as HTML. HTML in it is shown as text, and pictures from other sites become links."""
    return Markup(_markdown.render(str(text)))


def crons_in_words(sentence: str) -> str:
    """A sentence about a schedule with the most common cron expressions in words."""
    return CRON.sub(lambda found: _cron(*found[1].split()) or found[0], sentence)


def _cron(minute: str, hour: str, day: str, month: str, weekday: str) -> str | None:
    if (day, month) != ("*", "*"):
        return None
    if (hour, weekday) == ("*", "*"):
        if minute == "*":
            return "every minute"
        if minute.startswith("*/") and minute[2:].isdecimal():
            return f"every {minute[2:]} minutes"
        return f"every hour at :{int(minute):02}" if minute.isdecimal() else None
    days = "every day" if weekday == "*" else "Monday to Friday" if weekday == "1-5" else (
        f"every {DAYS[int(weekday)]}" if weekday in "01234567" else None)
    is_one_time = minute.isdecimal() and hour.isdecimal()
    return f"{days} at {int(hour):02}:{int(minute):02}" if days and is_one_time else None


def _sign(found: re.Match) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"


def _is_safe(address: str) -> bool:
    return bool(web_link(address)) or address.lower().startswith(("data:image/png;", "data:image/jpeg;",
                                                                  "data:image/gif;", "data:image/webp;"))


def _open_link(tokens: list[Token], index: int, *_: object) -> str:
    target = web_link(tokens[index].attrGet("href"))
    return f'<a href="{escape(target)}" rel="noopener noreferrer nofollow">' if target else "<a>"


def _image(tokens: list[Token], index: int, *_: object) -> str:
    source, words = str(tokens[index].attrGet("src")), escape(tokens[index].content or "picture")
    if target := web_link(source):
        return f'<a href="{escape(target)}" rel="noopener noreferrer nofollow">{words}</a>'
    return f'<img src="{escape(source)}" alt="{words}">'


_markdown = MarkdownIt("js-default", {"html": False, "linkify": False})
_markdown.validateLink = _is_safe
_markdown.renderer.rules |= {"link_open": _open_link, "image": _image}
