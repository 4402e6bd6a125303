"""The last runs as bars: the longer a run took, the higher its bar.

Heights follow the square root of the time, so that one long run does not hide the others.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from workshop_server.ui import reader_times

LEAST = 12  # percent of the height, so that a short run can be seen and pointed at


@dataclass(frozen=True)
class Bar:
    """One run; `height` is in percent, `seconds` is None if the run has not started."""

    run: sa.Row
    height: float
    seconds: float | None


def of_runs(runs: list[sa.Row], clock: reader_times.ReaderClock) -> list[Bar]:
    """Bars for runs, which come newest first; the newest bar is on the right."""
    seconds = [clock.lasted(run.start_time, run.end_time) for run in runs]
    longest = max((each for each in seconds if each), default=0)
    return [Bar(run, round(LEAST + (100 - LEAST) * (each / longest) ** 0.5 if each and longest else LEAST, 1), each)
            for run, each in zip(reversed(runs), reversed(seconds), strict=True)]
