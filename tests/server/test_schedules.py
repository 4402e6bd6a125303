"""Schedules: the events of each kind that Prefect's client registers, with the client's own answer as the reference."""

import json
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pendulum
import pytest
from dateutil import rrule
from prefect.schedules import CronSchedule, IntervalSchedule, RRuleSchedule, Schedule, adjustments, filters
from prefect.schedules.clocks import CronClock, DatesClock, IntervalClock, RRuleClock
from prefect.serialization.schedule import ScheduleSchema

from workshop_server.errors import RequestError
from workshop_server.schedules import events

HOME = Path(__file__).resolve().parent.parent.parent
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"  # the last shifts by 30 min
NOW = datetime(2026, 11, 22, 12, 34, 56, 789, tzinfo=UTC)


def serialized(schedule: Schedule) -> dict:
    return ScheduleSchema().dump(schedule)


def starts(schedule: dict, after: datetime, count: int) -> list[datetime]:
    after = datetime.fromisoformat(after.isoformat())  # the server knows nothing of pendulum
    return [event.start_time for event in events.upcoming(schedule, after, count)]


def every(*, start: datetime | None = None, end: datetime | None = None, **interval: float) -> Schedule:
    return IntervalSchedule(interval=timedelta(**interval), start_date=start, end_date=end)


def on(*clocks: object, **more: list) -> Schedule:
    return Schedule(list(clocks), **more)


def hourly(**more: list) -> Schedule:
    return on(IntervalClock(timedelta(hours=1), start_date=pendulum.datetime(2026, 3, 1, tz=BERLIN)), **more)


def daily_rule(**more: object) -> rrule.rrule:
    return rrule.rrule(rrule.DAILY, dtstart=datetime(2026, 1, 1, 9), **more)


def rule_set() -> rrule.rruleset:
    found = rrule.rruleset()
    found.rrule(rrule.rrule(rrule.WEEKLY, dtstart=datetime(2026, 1, 1), byweekday=(rrule.MO, rrule.TH)))
    found.exrule(rrule.rrule(rrule.WEEKLY, interval=2, dtstart=datetime(2026, 1, 1)))
    found.rdate(datetime(2026, 12, 1, 5))
    found.exdate(datetime(2026, 11, 30))
    return found


SAME = {
    "every 10 minutes": every(minutes=10),
    "every 90 s": every(seconds=90),
    "every 7 h": every(hours=7),
    "starts later": every(hours=1, start=pendulum.datetime(2027, 5, 1, tz=NEW_YORK)),
    "ended": every(hours=1, end=pendulum.datetime(2026, 1, 1)),
    "ends soon": every(hours=1, end=pendulum.datetime(2026, 11, 22, 15)),
    "daily in Berlin": every(days=1, start=pendulum.datetime(2026, 11, 1, 9, tz=BERLIN)),
    "fixed offset": every(hours=3, start=pendulum.datetime(2026, 1, 1, 9, tz=pendulum.FixedTimezone(-12600))),
    "weekly, naive start": every(weeks=1, start=datetime(2026, 1, 1, 9)),
    "microseconds": every(minutes=1, start=pendulum.datetime(2026, 1, 1, 0, 0, 0, 123456)),
    "dates": on(DatesClock([pendulum.datetime(2027, 1, 1, tz=BERLIN), pendulum.datetime(2026, 12, 1),
                            pendulum.datetime(2020, 1, 1)])),
    "two clocks": on(IntervalClock(timedelta(hours=5)), IntervalClock(timedelta(hours=3))),
    "rule": RRuleSchedule(daily_rule()),
    "rule with count": RRuleSchedule(daily_rule(count=328)),
    "rule with until": RRuleSchedule(daily_rule(until=datetime(2026, 11, 25))),
    "rule by easter": RRuleSchedule(daily_rule(byeaster=-2)),
    "rule in minutes": RRuleSchedule(rrule.rrule(rrule.MINUTELY, interval=7, dtstart=datetime(2026, 11, 1),
                                                 byhour=(9, 10), byweekday=rrule.weekdays[:5])),
    "rule of the last Friday": RRuleSchedule(rrule.rrule(rrule.MONTHLY, dtstart=datetime(2026, 1, 1, 8),
                                                         byweekday=rrule.FR(-1))),
    "rule with positions": RRuleSchedule(rrule.rrule(rrule.WEEKLY, interval=3, dtstart=datetime(2026, 1, 7), bysetpos=1,
                                                     byweekday=(rrule.MO, rrule.WE, rrule.FR))),
    "rule with a zone": RRuleSchedule(rrule.rrule(rrule.DAILY, dtstart=pendulum.datetime(2026, 1, 1, 9, tz=BERLIN))),
    "rule from a start": on(RRuleClock(rrule.rrule(rrule.DAILY, dtstart=datetime(2026, 1, 1, 9)),
                                       start_date=pendulum.datetime(2026, 12, 24, 9))),
    "set of rules": RRuleSchedule(rule_set()),
    "weekdays": hourly(filters=[filters.is_weekday]),
    "weekends": hourly(filters=[filters.is_weekend]),
    "month start": hourly(filters=[filters.is_month_start]),
    "month end": hourly(filters=[filters.is_month_end]),
    "day of the week": hourly(filters=[filters.is_day_of_week(6)]),
    "at a time": hourly(filters=[filters.at_time(time(9))]),
    "between times": hourly(filters=[filters.between_times(time(9), time(11))]),
    "over midnight": hourly(filters=[filters.between_times(time(22), time(3))]),
    "on a date": hourly(filters=[filters.on_date(2, 28)]),
    "between dates": hourly(filters=[filters.between_dates(2, 27, 3, 1)]),
    "over the year's end": hourly(filters=[filters.between_dates(12, 31, 1, 1)]),
    "at a moment": hourly(filters=[filters.on_datetime(pendulum.datetime(2026, 12, 1, 5, tz=BERLIN))]),
    "between moments": hourly(filters=[filters.between_datetimes(pendulum.datetime(2026, 12, 1, 5, tz=NEW_YORK),
                                                                 pendulum.datetime(2026, 12, 1, 14))]),
    "either, or, not": hourly(filters=[filters.is_weekday], or_filters=[filters.at_time(time(9)), filters.is_month_end],
                              not_filters=[filters.is_day_of_week(1), filters.at_time(time(0))]),
    "later": hourly(adjustments=[adjustments.add(timedelta(days=1, minutes=5))]),
    "next weekday": on(IntervalClock(timedelta(days=1)), adjustments=[adjustments.next_weekday]),
    "both adjustments": on(IntervalClock(timedelta(days=1)), adjustments=[adjustments.add(timedelta(hours=30)),
                                                                          adjustments.next_weekday]),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_moments_as_prefect(name: str) -> None:
    schedule = serialized(SAME[name])
    reference = SAME[name] if name == "fixed offset" else ScheduleSchema().load(schedule)  # which prefect cannot load
    prefect_says = [pendulum.instance(each).in_tz("UTC") for each in reference.next(40, after=pendulum.instance(NOW))]
    events.check(schedule)
    assert starts(schedule, NOW, 12) == list(dict.fromkeys(prefect_says))[:12]
    assert bool(prefect_says) == (name != "ended")


@pytest.mark.parametrize("hours", [1 / 6, 0.75, 1, 7, 24, 36, 48])
@pytest.mark.parametrize(("zone", "day"), [
    (BERLIN, "2026-03-28"), (BERLIN, "2026-10-24"), (NEW_YORK, "2026-03-07"), (NEW_YORK, "2026-10-31"),
    (LORD_HOWE, "2026-04-04"), (LORD_HOWE, "2026-10-03"), ("UTC", "2026-03-28")])
def test_intervals_keep_prefects_hours_through_a_change_of_clocks(zone: str, day: str, hours: float) -> None:
    """Prefect's own list is its clock's, from the start: what it computes from a later moment loses or doubles events,
    and a schedule takes two moments that show the same on the wall for one."""
    change = pendulum.parse(day, tz=zone)
    for before in (-19 / 24, 3, 200):  # days: the clock's first day counts otherwise than the later ones
        start = change.subtract(hours=round(24 * before)).add(hours=2, minutes=30)
        schedule = every(hours=hours, start=start)
        events = islice(schedule.clocks[0].events(after=start.subtract(seconds=1)), round((before + 4) * 24 / hours))
        reference = sorted({event.start_time.in_tz("UTC") for event in events})
        for after in (change, change.add(hours=25), change.add(hours=26, minutes=15)):
            expected = [each for each in reference if each > after][:20]
            assert expected and starts(serialized(schedule), after, len(expected)) == expected


def test_an_event_at_the_moment_itself_is_not_after_it() -> None:
    schedule = serialized(every(hours=1))
    assert starts(schedule, datetime(2026, 11, 22, 12, tzinfo=UTC), 1) == [datetime(2026, 11, 22, 13, tzinfo=UTC)]
    assert starts(serialized(CronSchedule("0 * * * *")), datetime(2026, 11, 22, 12), 1) == [
        datetime(2026, 11, 22, 13, tzinfo=UTC)]


@pytest.mark.parametrize(("cron", "more", "after", "expected"), [
    ("0 9 * * 1-5", {"start_date": pendulum.datetime(2026, 1, 1, tz=BERLIN)}, "2026-11-20T08:00:00",
     ["2026-11-23T08:00", "2026-11-24T08:00"]),
    ("*/20 * * * *", {}, "2026-11-22T12:39:59.5", ["2026-11-22T12:40", "2026-11-22T13:00"]),
    ("*/20 * * * *", {}, "2026-11-22T12:40:00.5", ["2026-11-22T13:00", "2026-11-22T13:20"]),
    ("0 0 13 * 5", {}, "2026-11-01", ["2026-11-06T00:00", "2026-11-13T00:00", "2026-11-20T00:00"]),
    ("0 0 13 * 5", {"day_or": False}, "2026-11-01", ["2026-11-13T00:00", "2027-08-13T00:00"]),
    ("0 0 29 2 *", {}, "2026-11-01", ["2028-02-29T00:00", "2032-02-29T00:00"]),
    ("0 0 30 2 *", {}, "2026-11-01", []),
    ("@daily", {"start_date": pendulum.datetime(2027, 1, 1)}, "2026-11-01", ["2027-01-01T00:00", "2027-01-02T00:00"]),
    ("@daily", {"end_date": pendulum.datetime(2026, 11, 3)}, "2026-11-01", ["2026-11-02T00:00", "2026-11-03T00:00"]),
    # the clocks of Berlin skip the hour from 02:00 on 2026-03-29, and have it twice on 2026-10-25
    ("30 2 * * *", {"start_date": pendulum.datetime(2026, 1, 1, tz=BERLIN)}, "2026-03-28T12:00",
     ["2026-03-29T01:30", "2026-03-30T00:30"]),
    ("30 2 * * *", {"start_date": pendulum.datetime(2026, 1, 1, tz=BERLIN)}, "2026-03-29T01:15", ["2026-03-29T01:30"]),
    ("30 2 * * *", {"start_date": pendulum.datetime(2026, 1, 1, tz=BERLIN)}, "2026-10-24T12:00",
     ["2026-10-25T00:30", "2026-10-26T01:30"]),
    ("0 * * * *", {"start_date": pendulum.datetime(2026, 1, 1, tz=BERLIN)}, "2026-03-29T00:00",
     ["2026-03-29T01:00", "2026-03-29T02:00", "2026-03-29T03:00"]),
    ("0 * * * *", {"start_date": pendulum.datetime(2026, 1, 1, tz=BERLIN)}, "2026-10-24T23:30",
     ["2026-10-25T00:00", "2026-10-25T02:00", "2026-10-25T03:00"]),
])
def test_cron_by_dates_worked_out_by_hand(cron: str, more: dict, after: str, expected: list[str]) -> None:
    found = starts(serialized(CronSchedule(cron, **more)), datetime.fromisoformat(after), 3)
    assert [f"{each:%Y-%m-%dT%H:%M}" for each in found][:len(expected) or None] == expected


def test_cron_with_times_by_chance_stays_the_same() -> None:
    schedule = serialized(CronSchedule("R R * * *"))
    assert starts(schedule, NOW, 3) == starts(schedule, NOW, 3) != []


def test_parameters_labels_and_variants() -> None:
    clocks = [IntervalClock(timedelta(hours=1), parameter_defaults={"x": 1}, labels=["gpu"]),
              IntervalClock(timedelta(hours=1), parameter_defaults={"x": 2}),
              CronClock("0 * * * *", parameter_defaults={"x": 1}, labels=["gpu"])]
    found = events.upcoming(serialized(on(*clocks)), NOW, 3)
    one, two = datetime(2026, 11, 22, 13, tzinfo=UTC), datetime(2026, 11, 22, 14, tzinfo=UTC)
    assert [(each.start_time, each.parameter_defaults, each.labels, each.variant) for each in found] == [
        (one, {"x": 1}, ["gpu"], 0), (one, {"x": 2}, None, 1), (two, {"x": 1}, ["gpu"], 0)]


def test_an_adjustment_never_leads_back_before_the_moment() -> None:
    schedule = serialized(hourly(adjustments=[adjustments.add(timedelta(hours=-3))]))
    assert starts(schedule, NOW, 2) == [datetime(2026, 11, 22, 13, tzinfo=UTC), datetime(2026, 11, 22, 14, tzinfo=UTC)]


ENDLESS = {
    "the 30th of February": {"type": "rrule", "rr": "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"},
    "its every second": {"type": "rrule", "rr": "RRULE:FREQ=SECONDLY;BYHOUR=5;BYMONTH=2;BYMONTHDAY=30"},
    "a million minutes": {"type": "rrule", "rr": "RRULE:FREQ=MINUTELY;COUNT=100000000", "_dtstart": "0001-01-01"},
    "all left out": {"type": "rruleset", "_rrule": [{"rr": "RRULE:FREQ=SECONDLY"}],
                     "_exrule": [{"rr": "RRULE:FREQ=SECONDLY"}]},
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_search_without_end_is_given_up(name: str) -> None:
    program = ("import sys, json; from datetime import *; from workshop_server.schedules.events import upcoming;"
               "print(upcoming(json.loads(sys.argv[1]), datetime.now(UTC), 1))")
    schedule = {"clocks": [{"type": "RRuleClock", "rrule_obj": ENDLESS[name]}]}
    ran = subprocess.run([sys.executable, "-c", program, json.dumps(schedule)], cwd=HOME, capture_output=True,
                         text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_filters_that_nothing_passes_end_the_search() -> None:
    assert starts(serialized(hourly(filters=[filters.on_date(2, 30)])), NOW, 1) == []
    assert starts(serialized(hourly(filters=[filters.is_weekday], not_filters=[filters.is_weekday])), NOW, 1) == []


def test_a_rule_that_began_long_ago_is_not_counted_through() -> None:
    rule = {"type": "rrule", "rr": "RRULE:FREQ=SECONDLY;INTERVAL=7", "_dtstart": "1970-01-01T00:00:00"}
    found = starts({"clocks": [{"type": "RRuleClock", "rrule_obj": rule}]}, NOW, 2)
    assert [each.timestamp() % 7 for each in found] == [0, 0]
    assert timedelta(0) < found[0] - NOW < timedelta(seconds=7) == found[1] - found[0]


def test_the_last_day_of_all() -> None:
    for end in (pendulum.datetime(9999, 12, 31, 23, tz=NEW_YORK), pendulum.datetime(9999, 12, 31)):
        assert len(starts(serialized(every(hours=1, end=end)), NOW, 5)) == 5
    late = datetime(9999, 12, 31, 20, tzinfo=UTC)
    assert len(starts(serialized(every(hours=1)), late, 10)) == 3
    assert starts(serialized(CronSchedule("0 0 * * *")), late, 10) == []


INTERVAL = {"type": "IntervalClock", "interval": 60_000_000}


@pytest.mark.parametrize(("schedule", "words"), [
    ([], "no list of clocks"),
    ({"clocks": None}, "no list of clocks"),
    ({"clocks": ["x"]}, "clock that Prefect has not: 'None'"),
    ({"clocks": [{"type": ["x"]}]}, "clock that Prefect has not"),
    ({"clocks": [{"type": "SunClock"}]}, "clock that Prefect has not: 'SunClock'"),
    ({"clocks": [{"type": "IntervalClock"}]}, "IntervalClock cannot be read"),
    ({"clocks": [{"type": "IntervalClock", "interval": "soon"}]}, "IntervalClock cannot be read"),
    ({"clocks": [{"type": "IntervalClock", "interval": 59_999_999}]}, "its interval is under a minute"),
    ({"clocks": [{"type": "IntervalClock", "interval": 10**40}]}, "IntervalClock cannot be read"),
    ({"clocks": [INTERVAL | {"start_date": "today"}]}, "a date that is none: 'today'"),
    ({"clocks": [INTERVAL | {"start_date": {"dt": "2026-13-01", "tz": "UTC"}}]}, "a date that is none: '2026-13-01'"),
    ({"clocks": [INTERVAL | {"start_date": {"dt": "2026-01-01", "tz": "Mars/Olympus"}}]}, "zone that is not known"),
    ({"clocks": [INTERVAL | {"start_date": {"dt": "2026-01-01", "tz": "../../etc/passwd"}}]}, "zone that is not known"),
    ({"clocks": [INTERVAL | {"start_date": {"dt": "2026-01-01", "tz": {"a": 1}}}]}, "zone that is not known"),
    ({"clocks": [INTERVAL | {"labels": "gpu"}]}, "labels are not a list of texts"),
    ({"clocks": [INTERVAL | {"parameter_defaults": ["x"]}]}, "parameter_defaults are not an object"),
    ({"clocks": [{"type": "CronClock", "cron": "0 9 * *"}]}, "CronClock cannot be read"),
    ({"clocks": [{"type": "CronClock", "cron": "61 * * * *"}]}, "CronClock cannot be read"),
    ({"clocks": [{"type": "CronClock", "cron": "0," * 9999 + "0 * * * *"}]}, "its expression is too long"),
    ({"clocks": [{"type": "DatesClock", "dates": [7]}]}, "a date that is none"),
    ({"clocks": [{"type": "RRuleClock", "rrule_obj": None}]}, "RRuleClock cannot be read"),
    ({"clocks": [{"type": "RRuleClock", "rrule_obj": {"rr": "FREQ=NEVER"}}]}, "RRuleClock cannot be read"),
    ({"clocks": [{"type": "RRuleClock", "rrule_obj": {"rr": "FREQ=DAILY;INTERVAL=0"}}]}, "its INTERVAL is under 1"),
    ({"clocks": [INTERVAL], "filters": "weekdays"}, "filters are not a list"),
    ({"clocks": [INTERVAL], "filters": [{"fn": "os.system", "kwargs": {"command": "ls"}}]}, "not: 'os.system'"),
    ({"clocks": [INTERVAL], "filters": [{"fn": "prefect.schedules.adjustments.next_weekday"}]}, "Prefect has not"),
    ({"clocks": [INTERVAL], "adjustments": [{"fn": ["x"]}]}, "Prefect has not"),
    ({"clocks": [INTERVAL], "filters": [{"fn": "prefect.schedules.filters.on_date", "kwargs": {"month": 1}}]},
     "on_date takes month, day"),
    ({"clocks": [INTERVAL], "filters": [{"fn": "prefect.schedules.filters.at_time", "kwargs": {"t": "//time:25:00"}}]},
     "at_time has a t that cannot be read"),
    ({"clocks": [INTERVAL], "adjustments": [
        {"fn": "prefect.schedules.adjustments.add", "kwargs": {"interval": "//timedelta:inf"}}]}, "cannot be read"),
    ({"clocks": [INTERVAL] * 1001}, "over 1000 clocks"),
])
def test_what_is_no_schedule_is_refused_in_words(schedule: object, words: str) -> None:
    with pytest.raises(RequestError, match=words.replace("[", r"\[")):
        events.check(schedule)


def test_a_schedule_of_short_clocks() -> None:
    found = events.from_clocks([{"cron": "0 9 * * 1-5", "parameter_defaults": '{"x": 1}'},
                                   {"interval": 86400, "labels": ["gpu"]}, INTERVAL], BERLIN)
    assert events.in_words(found) == (
        "cron 0 9 * * 1-5 (Europe/Berlin), from 2019-01-01 00:00 with x=1; every day, from 2019-01-01 00:00 "
        "(Europe/Berlin); every minute, from 2019-01-01 00:00 (Europe/Berlin)")
    assert {(each.labels or [""])[0] for each in events.upcoming(found, NOW, 900)} == {"", "gpu"}
    assert ScheduleSchema().load(found).clocks[0].cron == "0 9 * * 1-5"
    assert events.in_words(events.from_clocks([{"interval": 3600}])) == "every hour"


@pytest.mark.parametrize("given", [None, ["x"], [{"cron": "x"}], [{"interval": 59}], [{"interval": "3600"}], [{}],
                                   [{"cron": "@daily", "parameter_defaults": "{"}]])
def test_short_clocks_that_are_none(given: object) -> None:
    with pytest.raises(RequestError, match="schedule"):
        events.from_clocks(given)


@pytest.mark.parametrize(("schedule", "words"), [
    (None, "no schedule"),
    ({"clocks": []}, "no clock"),
    ({"clocks": [{"type": "SunClock"}]}, "the schedule has a clock that Prefect has not: 'SunClock'"),
    (every(minutes=10), "every 10 minutes"),
    (every(hours=1), "every hour"),
    (every(days=1, hours=12), "every 1 day 12 hours"),
    (every(days=1, start=pendulum.datetime(2026, 1, 1, 9, tz=BERLIN)),
     "every day, from 2026-01-01 09:00 (Europe/Berlin)"),
    (CronSchedule("0 9 * * 1-5"), "cron 0 9 * * 1-5 (UTC)"),
    (CronSchedule("0 9 * * 1-5", start_date=pendulum.datetime(2026, 1, 1, tz=BERLIN)),
     "cron 0 9 * * 1-5 (Europe/Berlin), from 2026-01-01 00:00"),
    (on(DatesClock([pendulum.datetime(2026, 12, each) for each in range(1, 6)])),
     "on 2026-12-01 00:00 UTC, 2026-12-02 00:00 UTC, 2026-12-03 00:00 UTC, and 2 more"),
    (RRuleSchedule(rrule.rrule(rrule.DAILY, dtstart=datetime(2026, 1, 1), count=5)), "rule FREQ=DAILY;COUNT=5"),
    (on(IntervalClock(timedelta(hours=1), parameter_defaults={"slide": "a.svs"}), CronClock("0 9 * * *"),
        filters=[filters.is_weekday, filters.between_times(time(9), time(17))], not_filters=[filters.is_month_end]),
     "every hour with slide='a.svs'; cron 0 9 * * * (UTC), on weekdays, from 09:00:00 to 17:00:00, "
     "not on the last day of the month"),
])
def test_in_words(schedule: Schedule | dict | None, words: str) -> None:
    assert events.in_words(serialized(schedule) if isinstance(schedule, Schedule) else schedule) == words


@pytest.mark.parametrize("name", SAME)
def test_every_schedule_has_words(name: str) -> None:
    words = events.in_words(serialized(SAME[name]))
    assert words and "{" not in words and "cannot" not in words


def test_the_server_computes_without_prefect() -> None:
    program = "import sys, workshop_server.background; print([m for m in sys.modules if m.split('.')[0] in " \
              "('prefect', 'pendulum', 'pytz', 'marshmallow')])"
    ran = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_zone_of_the_registering_machine_survives() -> None:
    start = datetime(2026, 1, 1, 9, tzinfo=ZoneInfo(BERLIN))
    found = starts(serialized(every(days=1, start=start)), NOW, 1)
    assert found == [datetime(2026, 11, 23, 8, tzinfo=UTC)]
