"""The next events of a Prefect schedule, and the schedule in words.

Clocks fire, filters let some of these moments pass, adjustments move them: see `clocks.py` and `filters.py`.
"""

import heapq
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat

from workshop_server.errors import RequestError
from workshop_server.schedules import clocks, filters

CANDIDATES = 10_000  # moments of the clocks that are tried for one answer, as in Prefect's client
PATIENCE = 1.0  # seconds of search for one answer
MOST_CLOCKS = 1_000
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Event:
    """One run that a schedule asks for, at `start_time` in UTC.

    Clocks of one schedule may differ in parameter defaults and labels. `variant` numbers these pairs: at the same
    moment, each variant asks for a run of its own.
    """

    start_time: datetime
    parameter_defaults: dict = field(default_factory=dict)
    labels: list[str] | None = None
    variant: int = 0


@dataclass(frozen=True)
class ReadSchedule:
    """A schedule, read from its JSON."""

    clocks: list[clocks.ScheduleClock]
    filters: list[filters.Call]
    or_filters: list[filters.Call]
    not_filters: list[filters.Call]
    adjustments: list[filters.Call]

    def passes(self, at: datetime) -> bool:
        return (all(passes(at) for passes in self.filters)
                and (not self.or_filters or any(passes(at) for passes in self.or_filters))
                and not any(passes(at) for passes in self.not_filters))

    def variants(self) -> list[int]:
        """The variant of each clock, see `Event`."""
        pairs = []
        for clock in self.clocks:
            if (clock.parameter_defaults, clock.labels) not in pairs:
                pairs.append((clock.parameter_defaults, clock.labels))
        return [pairs.index((clock.parameter_defaults, clock.labels)) for clock in self.clocks]


def check(schedule: dict) -> None:
    """Raise RequestError for a schedule that cannot be read, or is too large to be stored."""
    plan = _read(schedule)
    if len(json.dumps(schedule)) > MOST_BYTES or len(plan.clocks) > MOST_CLOCKS:
        raise RequestError(f"the schedule is larger than this server keeps: over {MOST_CLOCKS} clocks, or over "
                           f"{MOST_BYTES // 1000} kB")


def from_clocks(given: list[dict], zone: str | None = None) -> dict:
    """A schedule with these clocks: each as Prefect serializes it, or in the short form of Prefect's documentation.

    The short forms are `{"cron": "0 9 * * 1-5"}` and `{"interval": 3600}`, in seconds; `parameter_defaults` may be an
    object or its JSON. A clock without a start date is in the time zone `zone`. Raises RequestError as `check` does.
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
    """The next events after a moment, earliest first: `count` of them, or fewer if the schedule has no more.

    The search ends after 10,000 moments of the clocks, and after one second. `after` without a time zone is in UTC.
    Raises RequestError for a malformed schedule.
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


def _adjusted(plan: ReadSchedule, at: datetime) -> datetime | None:
    try:
        for adjust in plan.adjustments:
            at = adjust(at)
        return at.astimezone(UTC)
    except OverflowError:  # past the year 9999
        return None


def in_words(schedule: dict | None) -> str:
    """The schedule for a person to read: `every 10 minutes`, `cron 0 9 * * 1-5, from 2026-01-01 00:00 Europe/Berlin`.

    Never raises: for a schedule that cannot be read, the words say so.
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


def _clock_in_words(clock: clocks.ScheduleClock) -> str:
    words = clock.words
    for ends, at in (("from", clock.start), ("until", clock.end)):
        if at is not None:
            zone = "" if words.endswith(f"({at.tzinfo})") else f" ({at.tzinfo})"
            words += f", {ends} {at:%Y-%m-%d %H:%M}{zone}"
    if clock.parameter_defaults:
        words += " with " + ", ".join(f"{key}={value!r}" for key, value in clock.parameter_defaults.items())
    return words


def _read(schedule: dict) -> ReadSchedule:
    if not isinstance(schedule, dict) or not isinstance(schedule.get("clocks"), list):
        raise RequestError("the schedule has no list of clocks")
    return ReadSchedule([clocks.read(each) for each in schedule["clocks"]],
                     *([filters.read(each, filters.FILTERS) for each in _list(schedule, key)]
                       for key in ("filters", "or_filters", "not_filters")),
                     [filters.read(each, filters.ADJUSTMENTS) for each in _list(schedule, "adjustments")])


def _list(schedule: dict, key: str) -> list:
    found = schedule.get(key) or []
    if not isinstance(found, list):
        raise RequestError(f"the schedule's {key} are not a list")
    return [each for each in found if each is not None]
