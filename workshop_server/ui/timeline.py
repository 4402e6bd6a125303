"""The timeline of a flow run: one row for each task, with its bar in percent of the width."""

from dataclasses import dataclass

import sqlalchemy as sa

from workshop_server.store import timestamps
from workshop_server.store.tables import FINISHED
from workshop_server.ui import reader_times
from workshop_server.ui.run_queries import Children

LEAST = 0.4  # percent: the least width of a bar, so that it can be seen and clicked


@dataclass(frozen=True)
class Segment:
    """A part of a bar: the task runs in one state."""

    state: str
    count: int
    x: float
    width: float


@dataclass(frozen=True)
class TaskBar:
    """A task, with its bar, which is empty if the task has not started."""

    run: sa.Row
    segments: list[Segment]
    seconds: float | None
    is_live: bool
    children: Children | None


@dataclass(frozen=True)
class Timeline:
    """All rows, with a common axis; ticks are (percent, text)."""

    rows: list[TaskBar]
    ticks: list[tuple[float, str]]
    seconds: float
    is_live: bool


ORDER = ("Success", "Cached", "Finished", "Looped", "Mapped", "Skipped", "Running", "Cancelling", "Retrying", "Failed",
         "TimedOut", "TriggerFailed", "Cancelled", "Submitted", "Queued", "Resume", "Paused", "Scheduled", "Pending")


def in_order(states: dict[str, int]) -> list[tuple[str, int]]:
    """States and their counts, from finished to not yet started."""
    return sorted(states.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else len(ORDER), item[0]))


def share(states: dict[str, int], x: float = 0.0, width: float = 100.0) -> list[Segment]:
    """A bar split by the counts of its states."""
    total, segments = sum(states.values()), []
    for state, count in in_order(states):
        part = width * count / total
        segments.append(Segment(state, count, round(x, 3), round(part, 3)))
        x += part
    return segments


def of_run(flow_run: sa.Row, parents: list[sa.Row], children: dict[str, Children],
           clock: reader_times.ReaderClock) -> Timeline:
    """The timeline of a flow run, whose right edge is now if the run has not ended."""
    spans = {run.id: span(run, children.get(run.task_id)) for run in parents}
    is_live = flow_run.state not in FINISHED and any(start for start, _ in spans.values())
    starts = [start for start, _ in spans.values() if start] + ([flow_run.start_time] if flow_run.start_time else [])
    ends = [end for _, end in spans.values() if end] + ([flow_run.end_time] if flow_run.end_time else [])
    first = timestamps.moment(min(starts)) if starts else clock.now
    last = clock.now if is_live or not ends else timestamps.moment(max(ends))
    seconds = max((last - first).total_seconds(), 0.1)

    rows = []
    for run in parents:
        start, end = spans[run.id]
        them = children.get(run.task_id)
        if start is None:
            rows.append(TaskBar(run, [], None, False, them))
            continue
        live = end is None
        x = 100 * (timestamps.moment(start) - first).total_seconds() / seconds
        until = (timestamps.moment(end) if end else last)
        width = max(100 * (until - timestamps.moment(start)).total_seconds() / seconds, LEAST)
        x = min(x, 100 - width) if width < 100 else 0.0
        states = them.states if them else {run.state or "Pending": 1}
        seconds_of_row = (until - timestamps.moment(start)).total_seconds()
        rows.append(TaskBar(run, share(states, x, min(width, 100.0)), seconds_of_row, live, them))
    rows.sort(key=lambda row: (not row.segments, spans[row.run.id][0] or "", row.run.slug))
    marks = reader_times.ticks(first, seconds, clock.zone) if starts else []
    ticks = [(round(100 * at, 3), words) for at, words in marks]
    return Timeline(rows, ticks, seconds, is_live)


def span(run: sa.Row, children: Children | None) -> tuple[str | None, str | None]:
    """From the first start to the last end; the end is None if a part still runs."""
    if children is None:
        return run.start_time, (run.end_time or run.start_time) if run.state in FINISHED else None
    start = min(filter(None, (run.start_time, children.start_time)), default=None)
    end = max(filter(None, (run.end_time, children.end_time)), default=start)
    return start, end if all(state in FINISHED for state in children.states) else None
