"""Prefect's schedules: the next events of one, and the words for it.

A schedule has clocks, filters that let some of the clocks' moments pass, and adjustments that move those. Filters and
adjustments are known here by their names in Prefect; what is stored is never imported or evaluated.
"""

import calendar
import heapq
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from itertools import repeat

from workshop_server.errors import RequestError
from workshop_server.schedules import clocks
from workshop_server.store.timestamps import moment

CANDIDATES = 10_000  # moments of the clocks that are looked at for one answer, as in Prefect's client
PATIENCE = 1.0  # seconds of search for one answer
MOST_CLOCKS = 1_000
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Event:
    """One run that a schedule asks for, at `start_time` in UTC.

    `variant` counts the different pairs of parameter defaults and labels that the clocks of the schedule have: at one
    moment, each of them asks for a run of its own.
    """

    start_time: datetime
    parameter_defaults: dict = field(default_factory=dict)
    labels: list[str] | None = None
    variant: int = 0


@dataclass(frozen=True)
class _Named:
    """A filter or an adjustment of Prefect's: its arguments, what it does to a moment, and its words."""

    takes: dict[str, type]
    does: Callable
    words: str


def _between(value: object, first: object, last: object) -> bool:
    """Is it between the two, or, where the first is the later one, outside: from 22:00 to 6:00."""
    return first <= value <= last if first <= last else value >= first or value <= last


def _between_dates(at: datetime, start_month: int, start_day: int, end_month: int, end_day: int) -> bool:
    date, first, last = (at.month, at.day), (start_month, start_day), (end_month, end_day)
    return first <= date <= last if start_month <= end_month else date >= first or date <= last


def _next_weekday(at: datetime) -> datetime:
    while at.weekday() > 4:
        at = clocks.resolve(at.replace(tzinfo=None) + clocks.DAY, at.tzinfo)
    return at


FILTERS = {f"prefect.schedules.filters.{name}": named for name, named in {
    "is_weekday": _Named({}, lambda at: at.weekday() < 5, "on weekdays"),
    "is_weekend": _Named({}, lambda at: at.weekday() > 4, "at weekends"),
    "is_month_start": _Named({}, lambda at: at.day == 1, "on the first day of the month"),
    "is_month_end": _Named({}, lambda at: at.day == calendar.monthrange(at.year, at.month)[1],
                           "on the last day of the month"),
    "is_day_of_week": _Named({"day_of_week": int}, lambda at, day_of_week: at.weekday() == day_of_week,
                             "on day {day_of_week} of the week (Monday is 0)"),
    "on_datetime": _Named({"dt": datetime}, lambda at, dt: at.astimezone(UTC) == dt, "on {dt}"),
    "on_date": _Named({"month": int, "day": int}, lambda at, month, day: (at.month, at.day) == (month, day),
                      "on day {day} of month {month}"),
    "at_time": _Named({"t": time_of_day}, lambda at, t: at.time() == t, "at {t}"),
    "between_datetimes": _Named({"start": datetime, "end": datetime},
                                lambda at, start, end: start <= at.astimezone(UTC) <= end, "from {start} to {end}"),
    "between_dates": _Named(dict.fromkeys(("start_month", "start_day", "end_month", "end_day"), int), _between_dates,
                            "from day {start_day} of month {start_month} to day {end_day} of month {end_month}"),
    "between_times": _Named({"start": time_of_day, "end": time_of_day},
                            lambda at, start, end: _between(at.time(), start, end), "from {start} to {end}"),
}.items()}

ADJUSTMENTS = {f"prefect.schedules.adjustments.{name}": named for name, named in {
    "add": _Named({"interval": timedelta},
                  lambda at, interval: (at.astimezone(UTC) + interval).astimezone(at.tzinfo), "{interval} later"),
    "next_weekday": _Named({}, _next_weekday, "on the next weekday"),
}.items()}

READERS = {
    datetime: ("//datetime:", moment),
    time_of_day: ("//time:", lambda text: time_of_day.fromisoformat(text).replace(tzinfo=None)),
    timedelta: ("//timedelta:", lambda text: timedelta(seconds=float(text))),
}


@dataclass(frozen=True)
class _Call:
    """A filter or an adjustment with its arguments."""

    named: _Named
    arguments: dict

    def __call__(self, at: datetime) -> bool | datetime:
        return self.named.does(at, **self.arguments)

    def __str__(self) -> str:
        return self.named.words.format(**{key: value.strftime("%Y-%m-%d %H:%M UTC") if isinstance(value, datetime)
                                          else value for key, value in self.arguments.items()})


@dataclass(frozen=True)
class _Schedule:
    clocks: list[clocks.Clock]
    filters: list[_Call]
    or_filters: list[_Call]
    not_filters: list[_Call]
    adjustments: list[_Call]

    def passes(self, at: datetime) -> bool:
        return (all(passes(at) for passes in self.filters)
                and (not self.or_filters or any(passes(at) for passes in self.or_filters))
                and not any(passes(at) for passes in self.not_filters))

    def variants(self) -> list[int]:
        """For each clock, the number of its pair of parameter defaults and labels."""
        pairs = []
        for clock in self.clocks:
            if (clock.parameter_defaults, clock.labels) not in pairs:
                pairs.append((clock.parameter_defaults, clock.labels))
        return [pairs.index((clock.parameter_defaults, clock.labels)) for clock in self.clocks]


def check(schedule: dict) -> None:
    """Raise RequestError, in words, for a schedule that cannot be kept."""
    plan = _read(schedule)
    if len(json.dumps(schedule)) > MOST_BYTES or len(plan.clocks) > MOST_CLOCKS:
        raise RequestError(f"the schedule is larger than this server keeps: over {MOST_CLOCKS} clocks, or over "
                           f"{MOST_BYTES // 1000} kB")


def from_clocks(given: list[dict], zone: str | None = None) -> dict:
    """The schedule of some clocks: each as Prefect serializes it, or short, as in its documentation.

    Short ones are `{"cron": "0 9 * * 1-5"}` and `{"interval": 3600}`, in seconds; `parameter_defaults` may be an object
    or its JSON. Those without a start date count in `zone`. Raises RequestError for what is no schedule.
    """
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise RequestError("the schedule has no list of clocks")
    schedule = {"clocks": [_in_full(each, zone) for each in given]}
    check(schedule)
    return schedule


def _in_full(clock: dict, zone: str | None) -> dict:
    full = dict(clock)
    if "type" not in clock and "cron" in clock:
        full["type"] = "CronClock"
    elif "type" not in clock and isinstance(clock.get("interval"), int | float):
        full |= {"type": "IntervalClock", "interval": clock["interval"] * 1_000_000}
    if isinstance(clock.get("parameter_defaults"), str):
        try:
            full["parameter_defaults"] = json.loads(clock["parameter_defaults"])
        except (ValueError, RecursionError):
            raise RequestError("the schedule's parameter_defaults are not JSON") from None
    if zone and not clock.get("start_date"):
        full["start_date"] = {"dt": f"{clocks.FIRST:%Y-%m-%dT%H:%M:%S}", "tz": zone}
    return full


def upcoming(schedule: dict, after: datetime, count: int) -> list[Event]:
    """The next events after a moment, earliest first: `count` of them, or fewer where the schedule has no more.

    It has no more, too, where filters let none of the next 10,000 moments pass, or where a second of search finds
    none. `after` without a zone is in UTC. Raises RequestError for a malformed schedule.
    """
    found, seen = [], set()
    plan = _read(schedule)
    deadline = time.monotonic() + PATIENCE
    after = after.replace(tzinfo=UTC) if after.tzinfo is None else after.astimezone(UTC)
    by_clock = [zip(clock.moments(after, deadline), repeat(number)) for number, clock in enumerate(plan.clocks)]
    variants = plan.variants()
    for looked_at, (at, number) in enumerate(heapq.merge(*by_clock, key=lambda pair: pair[0].astimezone(UTC))):
        if len(found) == count or looked_at == CANDIDATES or time.monotonic() > deadline:
            break
        if not plan.passes(at):
            continue
        start = _adjusted(plan, at)
        if start is not None and start > after and (start, variants[number]) not in seen:
            seen.add((start, variants[number]))
            clock = plan.clocks[number]
            found.append(Event(start, clock.parameter_defaults, clock.labels, variants[number]))
    return sorted(found, key=lambda event: (event.start_time, event.variant))


def _adjusted(plan: _Schedule, at: datetime) -> datetime | None:
    try:
        for adjust in plan.adjustments:
            at = adjust(at)
        return at.astimezone(UTC)
    except OverflowError:  # past the year 9999
        return None


def in_words(schedule: dict | None) -> str:
    """The schedule for a person to read: `every 10 minutes`, `cron 0 9 * * 1-5, from 2026-01-01 00:00 Europe/Berlin`.

    Never raises: one that cannot be read says so.
    """
    if not schedule:
        return "no schedule"
    try:
        plan = _read(schedule)
    except RequestError as error:
        return str(error)
    parts = [clocks.some_of([_clock_in_words(clock) for clock in plan.clocks], "; ") or "no clock"]
    parts += map(str, plan.filters)
    if plan.or_filters:
        parts.append("either " + " or ".join(map(str, plan.or_filters)))
    parts += [f"not {each}" for each in plan.not_filters]
    parts += map(str, plan.adjustments)
    return ", ".join(parts)


def _clock_in_words(clock: clocks.Clock) -> str:
    words = clock.words
    for ends, at in (("from", clock.start), ("until", clock.end)):
        if at is not None:
            zone = "" if words.endswith(f"({at.tzinfo})") else f" ({at.tzinfo})"
            words += f", {ends} {at:%Y-%m-%d %H:%M}{zone}"
    if clock.parameter_defaults:
        words += " with " + ", ".join(f"{key}={value!r}" for key, value in clock.parameter_defaults.items())
    return words


def _read(schedule: dict) -> _Schedule:
    if not isinstance(schedule, dict) or not isinstance(schedule.get("clocks"), list):
        raise RequestError("the schedule has no list of clocks")
    return _Schedule([clocks.read(each) for each in schedule["clocks"]],
                     *([_call(each, FILTERS) for each in _list(schedule, key)]
                       for key in ("filters", "or_filters", "not_filters")),
                     [_call(each, ADJUSTMENTS) for each in _list(schedule, "adjustments")])


def _list(schedule: dict, key: str) -> list:
    found = schedule.get(key) or []
    if not isinstance(found, list):
        raise RequestError(f"the schedule's {key} are not a list")
    return [each for each in found if each is not None]


def _call(raw: dict, known: dict[str, _Named]) -> _Call:
    name = raw.get("fn") if isinstance(raw, dict) else None
    named = known.get(name) if isinstance(name, str) else None
    if named is None:
        raise RequestError(f"the schedule names a filter or an adjustment that Prefect has not: {str(name)[:80]!r}")
    given = raw.get("kwargs") or {}
    if not isinstance(given, dict) or given.keys() != named.takes.keys():
        raise RequestError(f"the schedule's {name} takes {', '.join(named.takes) or 'no arguments'}")
    return _Call(named, {key: _argument(name, key, given[key], kind) for key, kind in named.takes.items()})


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
