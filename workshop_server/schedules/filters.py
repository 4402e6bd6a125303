"""Filters, which let some moments of a schedule's clocks pass, and adjustments, which move those that pass.

The server knows them by their names in Prefect. It never imports or evaluates what is stored.
"""

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day

from workshop_server.errors import RequestError
from workshop_server.schedules import clocks
from workshop_server.store.timestamps import moment


@dataclass(frozen=True)
class KnownFunction:
    """A filter or an adjustment of Prefect's."""

    takes: dict[str, type]  # its arguments
    does: Callable          # given a moment and the arguments
    words: str              # for a person to read


def _between(value: object, first: object, last: object) -> bool:
    """Is it between the two? `first` may be later than `last`, as in from 22:00 to 6:00."""
    return first <= value <= last if first <= last else value >= first or value <= last


def _between_dates(at: datetime, start_month: int, start_day: int, end_month: int, end_day: int) -> bool:
    date, first, last = (at.month, at.day), (start_month, start_day), (end_month, end_day)
    return first <= date <= last if start_month <= end_month else date >= first or date <= last


def _next_weekday(at: datetime) -> datetime:
    while at.weekday() > 4:
        at = clocks.resolve(at.replace(tzinfo=None) + clocks.DAY, at.tzinfo)
    return at


FILTERS = {f"prefect.schedules.filters.{name}": KnownFunction(*known) for name, known in {
    "is_weekday": ({}, lambda at: at.weekday() < 5, "on weekdays"),
    "is_weekend": ({}, lambda at: at.weekday() > 4, "at weekends"),
    "is_month_start": ({}, lambda at: at.day == 1, "on the first day of the month"),
    "is_month_end": ({}, lambda at: at.day == calendar.monthrange(at.year, at.month)[1],
                     "on the last day of the month"),
    "is_day_of_week": ({"day_of_week": int}, lambda at, day_of_week: at.weekday() == day_of_week,
                       "on day {day_of_week} of the week (Monday is 0)"),
    "on_datetime": ({"dt": datetime}, lambda at, dt: at.astimezone(UTC) == dt, "on {dt}"),
    "on_date": ({"month": int, "day": int}, lambda at, month, day: (at.month, at.day) == (month, day),
                "on day {day} of month {month}"),
    "at_time": ({"t": time_of_day}, lambda at, t: at.time() == t, "at {t}"),
    "between_datetimes": ({"start": datetime, "end": datetime},
                          lambda at, start, end: start <= at.astimezone(UTC) <= end, "from {start} to {end}"),
    "between_dates": (dict.fromkeys(("start_month", "start_day", "end_month", "end_day"), int), _between_dates,
                      "from day {start_day} of month {start_month} to day {end_day} of month {end_month}"),
    "between_times": ({"start": time_of_day, "end": time_of_day},
                      lambda at, start, end: _between(at.time(), start, end), "from {start} to {end}"),
}.items()}

ADJUSTMENTS = {f"prefect.schedules.adjustments.{name}": KnownFunction(*known) for name, known in {
    "add": ({"interval": timedelta},
            lambda at, interval: (at.astimezone(UTC) + interval).astimezone(at.tzinfo), "{interval} later"),
    "next_weekday": ({}, _next_weekday, "on the next weekday"),
}.items()}

READERS = {
    datetime: ("//datetime:", moment),
    time_of_day: ("//time:", lambda text: time_of_day.fromisoformat(text).replace(tzinfo=None)),
    timedelta: ("//timedelta:", lambda text: timedelta(seconds=float(text))),
}


@dataclass(frozen=True)
class Call:
    """A filter or an adjustment with its arguments."""

    named: KnownFunction
    arguments: dict

    def __call__(self, at: datetime) -> bool | datetime:
        return self.named.does(at, **self.arguments)

    def __str__(self) -> str:
        return self.named.words.format(**{key: value.strftime("%Y-%m-%d %H:%M UTC") if isinstance(value, datetime)
                                          else value for key, value in self.arguments.items()})


def read(raw: dict, known: dict[str, KnownFunction]) -> Call:
    """The filter or adjustment that the JSON describes; RequestError for one that is not `known`, or is malformed."""
    name = raw.get("fn") if isinstance(raw, dict) else None
    named = known.get(name) if isinstance(name, str) else None
    if named is None:
        raise RequestError(f"the schedule names a filter or an adjustment that Prefect has not: {str(name)[:80]!r}")
    given = raw.get("kwargs") or {}
    if not isinstance(given, dict) or given.keys() != named.takes.keys():
        raise RequestError(f"the schedule's {name} takes {', '.join(named.takes) or 'no arguments'}")
    return Call(named, {key: _argument(name, key, given[key], kind) for key, kind in named.takes.items()})


def _argument(name: str, key: str, raw: object, kind: type) -> object:
    if kind is int:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
    elif isinstance(raw, str) and raw.startswith(READERS[kind][0]):
        prefix, reader = READERS[kind]
        try:
            return reader(raw.removeprefix(prefix))
        except (ValueError, OverflowError, RequestError):
            pass
    raise RequestError(f"the schedule's {name} has a {key} that cannot be read: {str(raw)[:60]!r}")
