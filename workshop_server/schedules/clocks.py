"""The clocks of a Prefect schedule: when each of them fires, in the time zone of its start date.

Changes between summer and winter time are handled here. A clock arrives as JSON, which is never imported or evaluated.
A clock without a start date is in UTC, and an interval then starts on 2019-01-01, as in Prefect's client.
"""

import heapq
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import count
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter
from dateutil import rrule

from workshop_server.errors import RequestError
from workshop_server.store.timestamps import moment

DAY = timedelta(days=1)
SHIFT = timedelta(hours=3)  # the largest change of clocks in any zone, apart from moves across the date line
LEAST = timedelta(minutes=1)  # between two events of an interval clock; the client registers no shorter one
FIRST = datetime(2019, 1, 1, tzinfo=UTC)  # start of an interval without a start date
RULE_START = "2018-06-20T00:00:00+00:00"  # start of a recurrence rule without a start date
MOST_LETTERS = 2_000  # characters of a cron expression or a recurrence rule
SHOWN = 3  # dates, rules or clocks named in the words for a schedule
STEPS = {rrule.SECONDLY: timedelta(seconds=1), rrule.MINUTELY: timedelta(minutes=1), rrule.HOURLY: timedelta(hours=1),
         rrule.DAILY: DAY, rrule.WEEKLY: timedelta(weeks=1)}
UNITS = (("day", DAY), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1)), ("second", timedelta(seconds=1)))


@dataclass(frozen=True)
class ScheduleClock:
    """`moments(after, deadline)` gives the moments later than `after`, earliest first, each in the clock's zone.

    It ends after the last moment, at the year 9999, and when the search for the next moment takes longer than
    `deadline`, in the seconds of `time.monotonic`.
    """

    moments: Callable[[datetime, float], Iterator[datetime]]
    words: str
    start: datetime | None = None
    end: datetime | None = None
    parameter_defaults: dict = field(default_factory=dict)
    labels: list[str] | None = None


def read(raw: dict) -> ScheduleClock:
    """The clock that the JSON describes; RequestError if it describes none."""
    kind = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise RequestError(f"the schedule has a clock that Prefect has not: {str(kind)[:40]!r}")
    start, end = stated(raw.get("start_date")), stated(raw.get("end_date"))
    try:
        moments, words = KINDS[kind](raw, start)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise RequestError(f"the schedule's {kind} cannot be read: {str(error)[:200]}") from None
    defaults, labels = raw.get("parameter_defaults") or {}, raw.get("labels")
    if not isinstance(defaults, dict):
        raise RequestError("the schedule's parameter_defaults are not an object")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(each, str) for each in labels)):
        raise RequestError("the schedule's labels are not a list of texts")
    return ScheduleClock(_within(moments, start, end), words, start, end, defaults, labels)


def stated(raw: dict | None) -> datetime | None:
    """The moment that `{"dt": "2026-01-01T09:00:00", "tz": "Europe/Berlin"}` states, in its zone."""
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise RequestError(f"the schedule has a date that is none: {str(raw)[:60]!r}")
    zone = _zone(raw.get("tz") or "UTC")
    try:
        wall = datetime.fromisoformat(raw["dt"])
        return wall.astimezone(zone) if wall.tzinfo else resolve(wall, zone)
    except OverflowError:  # the first or last hours that Python knows, which stand for "always"
        return (datetime.max if wall.year > 1 else datetime.min).replace(tzinfo=UTC)
    except (KeyError, ValueError, TypeError):
        raise RequestError(f"the schedule has a date that is none: {str(raw.get('dt'))[:60]!r}") from None


def resolve(wall: datetime, zone: tzinfo) -> datetime:
    """The moment of a local time: the later one if it occurs twice; if clocks skip it, as long after the change."""
    offset = min(wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return (wall - offset).replace(tzinfo=UTC).astimezone(zone)


def some_of(words: list[str], sign: str = ", ") -> str:
    """The first few, and the number of the others."""
    return sign.join(words[:SHOWN]) + (f"{sign}and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    if isinstance(name, str) and (fixed := re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", name)):
        offset = timedelta(hours=int(fixed[2]), minutes=int(fixed[3]))
        if offset < DAY:
            return timezone(-offset if fixed[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        raise RequestError(f"the schedule has a time zone that is not known here: {str(name)[:60]!r}") from None


def _within(moments: Callable, start: datetime | None, end: datetime | None) -> Callable:
    """The moments from `start` to `end`, both included."""
    def inside(after: datetime, deadline: float) -> Iterator[datetime]:
        if start is not None:
            after = max(after, start.astimezone(UTC) - timedelta(microseconds=1))
        if time.monotonic() > deadline:
            return
        try:
            for each in moments(after, deadline):
                if end is not None and each.astimezone(UTC) > end.astimezone(UTC):
                    return
                yield each
        except (OverflowError, TimeoutError, ValueError):
            return  # dateutil raises ValueError for a rule that has no moment
    return inside


def _interval(raw: dict, start: datetime | None) -> tuple[Callable, str]:
    step = timedelta(microseconds=raw["interval"])
    if step < LEAST:
        raise ValueError("its interval is under a minute")
    start = start or FIRST
    zone, wall = start.tzinfo, start.replace(tzinfo=None)
    around = SHIFT // step + 1 if isinstance(zone, ZoneInfo) else 0  # steps that a clock change may put out of order

    def at(number: int) -> datetime:
        """Elapsed time within the first day, local time after that, as in the client."""
        passed = step * number
        if passed < DAY:
            return start.astimezone(UTC) + passed
        return resolve(wall + passed, zone).astimezone(UTC)

    def moments(after: datetime, _deadline: float) -> Iterator[datetime]:
        passed = after.astimezone(zone).replace(tzinfo=None) - wall
        for each in _in_order(map(at, count(max(0, passed // step - around))), around):
            if each > after:
                after = each
                yield each.astimezone(zone)

    return moments, f"every {_length(step)}"


def _in_order(moments: Iterator[datetime], apart: int) -> Iterator[datetime]:
    """The moments, sorted; no moment is more than `apart` places from where it belongs."""
    waiting = []
    try:
        for each in moments:
            heapq.heappush(waiting, each)
            if len(waiting) > apart:
                yield heapq.heappop(waiting)
    except OverflowError:  # past the year 9999
        yield from sorted(waiting)


def _length(step: timedelta) -> str:
    parts = []
    for name, unit in UNITS:
        number, step = divmod(step, unit)
        if number:
            parts.append(f"{number} {name}{'s' if number > 1 else ''}")
    return parts[0].removeprefix("1 ") if len(parts) == 1 else " ".join(parts)


def _cron(raw: dict, start: datetime | None) -> tuple[Callable, str]:
    zone = start.tzinfo if start else UTC
    day_or = raw.get("day_or") is not False
    if len(raw["cron"]) > MOST_LETTERS:
        raise ValueError("its expression is too long")
    # croniter chooses another random time for `R` each time; for `H` it depends on the expression alone.
    text, by_chance = re.subn(r"\bR(?=$|[\s,/(])", "H", raw["cron"], flags=re.IGNORECASE)

    def of(wall: datetime) -> croniter:
        return croniter(text, wall, ret_type=datetime, day_or=day_or, hash_id=raw["cron"] if by_chance else None)

    def moments(after: datetime, deadline: float) -> Iterator[datetime]:
        # In local time; after a change of the clocks within the last day, with the smaller of the two offsets.
        offset = min(each.astimezone(zone).utcoffset() for each in (after, after - DAY))
        cron, last = of((after + offset).replace(tzinfo=UTC, microsecond=0)), after
        while time.monotonic() < deadline:
            try:
                wall = cron.get_next()
            except CroniterBadDateError:
                return
            # The first moment of a time that occurs twice; after the change if clocks skip it.
            at = wall.replace(tzinfo=zone).astimezone(UTC)
            if at > last:
                last = at
                yield at.astimezone(zone)

    of(FIRST)  # raises if it is not a cron expression
    return moments, f"cron {raw['cron']} ({zone})"


def _dates(raw: dict, _start: datetime | None) -> tuple[Callable, str]:
    dates = sorted((stated(each) for each in raw["dates"]), key=lambda each: each.astimezone(UTC))

    def moments(after: datetime, _deadline: float) -> Iterator[datetime]:
        yield from (each for each in dates if each.astimezone(UTC) > after)

    return moments, "on " + some_of([f"{each:%Y-%m-%d %H:%M} {each.tzinfo}" for each in dates])


class _RuleWithDeadline(rrule.rrule):
    """A recurrence rule with a deadline: the search for the 30th of February would never end."""

    deadline = float("inf")

    def _go_on(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError

    def _iter(self) -> Iterator[datetime]:
        for each in super()._iter():
            self._go_on()
            yield each

    @property
    def _byeaster(self) -> tuple | None:  # dateutil reads it once for each month
        self._go_on()
        return self.__dict__["_byeaster"]


def _recurrence(raw: dict, _start: datetime | None) -> tuple[Callable, str]:
    given = raw["rrule_obj"]
    if given.get("type") == "rruleset":
        rules, rules_out = ([_rule(each) for each in given.get(key) or []] for key in ("_rrule", "_exrule"))
        dates, dates_out = ([moment(each) for each in given.get(key) or []] for key in ("_rdate", "_exdate"))
    else:
        rules, rules_out, dates, dates_out = [_rule(given)], [], [], []

    def moments(after: datetime, deadline: float) -> Iterator[datetime]:
        found = rrule.rruleset()
        for add, some in ((found.rrule, rules), (found.exrule, rules_out)):
            for rule in some:
                add(_near(rule, after, deadline))
        for add, some in ((found.rdate, dates), (found.exdate, dates_out)):
            for date in some:
                add(date)
        yield from (each for each in found if each > after)

    words = [str(rule).rpartition("RRULE:")[2] for rule in rules] + [f"{date:%Y-%m-%d %H:%M}" for date in dates]
    return moments, "rule " + some_of(words)


def _rule(raw: dict) -> rrule.rrule:
    if len(raw["rr"]) > MOST_LETTERS:
        raise ValueError("its rule is too long")
    rule = rrule.rrulestr(raw["rr"])
    if not isinstance(rule, rrule.rrule):
        raise ValueError("it is not one recurrence rule")
    if rule._interval < 1:
        raise ValueError("its INTERVAL is under 1")
    # The text of a rule has no time zone: start and end come separately, as exact dates.
    start = _exact(raw.get("_dtstart") or RULE_START)
    until = _exact(raw["_until"]) if raw.get("_until") else None
    return rule.replace(dtstart=start, until=until)


def _exact(text: str) -> datetime:
    """The date with its offset, or in UTC if it has none."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _near(rule: rrule.rrule, after: datetime, deadline: float) -> _RuleWithDeadline:
    """The same rule, with its start moved by whole steps to shortly before `after`: the search is then short."""
    start = rule._dtstart
    if rule._freq in STEPS and rule._count is None:
        step = STEPS[rule._freq] * rule._interval
        start += step * max(0, (after - start) // step - 1)
    rule = rule.replace(dtstart=start)
    rule.__class__ = _RuleWithDeadline
    rule.deadline = deadline
    return rule


KINDS = {"IntervalClock": _interval, "CronClock": _cron, "DatesClock": _dates, "RRuleClock": _recurrence}
