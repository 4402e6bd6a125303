"""Times as the pages show them, in the time zone of the reader."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from workshop_server.store import timestamps

UNITS = ((86400, "d"), (3600, "h"), (60, "min"))  # seconds, and the name of the unit
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
         172800, 604800, 1209600, 2592000, 7776000, 31536000)  # seconds between two ticks of an axis


@dataclass(frozen=True)
class ReaderClock:
    """The moment at which a page was requested, and the reader's time zone; None is the zone of the server."""

    zone: tzinfo | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def local(self, stamp: str) -> datetime:
        return timestamps.moment(stamp).astimezone(self.zone)

    def exact(self, stamp: str | None) -> str:
        """`22 Nov 2026, 14:17:35 UTC+01:00`."""
        if not stamp:
            return ""
        moment = self.local(stamp)
        return f"{moment.day} {moment:%b %Y, %H:%M:%S} {_offset(moment)}"

    def short(self, stamp: str | None) -> str:
        """`14:17:35` if that was today, else `21 Nov, 14:17`, with the year if it was another one."""
        if not stamp:
            return ""
        moment, today = self.local(stamp), self.now.astimezone(self.zone)
        if moment.date() == today.date():
            return f"{moment:%H:%M:%S}"
        year = "" if moment.year == today.year else f" {moment.year}"
        return f"{moment.day} {moment:%b}{year}, {moment:%H:%M}"

    def precise(self, stamp: str) -> str:
        """`14:17:35.881`, for lines of a log."""
        moment = self.local(stamp)
        return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"

    def since(self, stamp: str) -> float:
        """Seconds from the stamp to now; negative for a moment in the future."""
        return (self.now - timestamps.moment(stamp)).total_seconds()

    def away(self, stamp: str | None) -> str:
        """`12 s ago`, `in 3 min`."""
        if not stamp:
            return ""
        seconds = self.since(stamp)
        if abs(seconds) < 1:
            return "now"
        return f"{rough(seconds)} ago" if seconds > 0 else f"in {rough(-seconds)}"

    def lasted(self, start: str | None, end: str | None) -> float | None:
        """Seconds from start to end, or to now if there is no end; None if there is no start."""
        if not start:
            return None
        until = timestamps.moment(end) if end else self.now
        return max(0.0, (until - timestamps.moment(start)).total_seconds())


def clock(zone: str | None) -> ReaderClock:
    """For the zone that the browser names, such as `Europe/Madrid`; the server's zone if it is not known."""
    try:
        return ReaderClock(ZoneInfo(zone)) if zone else ReaderClock()
    except (ValueError, OSError, KeyError):
        return ReaderClock()


def duration(seconds: float | None) -> str:
    """`0.42 s`, `8.3 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `1 d 04 h`."""
    if seconds is None:
        return ""
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"


def rough(seconds: float) -> str:
    """A length of time by its largest unit: `12 s`, `3 min`, `2 h`, `5 d`."""
    for size, name in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"


def ticks(start: datetime, seconds: float, zone: tzinfo | None, *, most: int = 7) -> list[tuple[float, str]]:
    """The ticks of a time axis that begins at `start`: each as the share of its length, and its text."""
    step = next((step for step in STEPS if seconds / step <= most), STEPS[-1])
    local = start.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    passed = (local - midnight).total_seconds()
    at = -(-passed // step) * step - passed
    found = []
    while at <= seconds:
        found.append((at / seconds if seconds else 0.0, _tick(local + timedelta(seconds=at), step)))
        at += step
    return found


def _tick(moment: datetime, step: float) -> str:
    if step < 1:
        return f"{moment:%H:%M:%S}.{round(moment.microsecond / 1e5) % 10}"
    if step < 60:
        return f"{moment:%H:%M:%S}"
    return f"{moment:%H:%M}" if step < 86400 and (moment.hour or moment.minute) else f"{moment.day} {moment:%b}"


def _offset(moment: datetime) -> str:
    offset = f"{moment:%z}"
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"
