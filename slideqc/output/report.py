"""The report: one HTML page that needs no other file and no network; worst slides first."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2

WORST_FIRST = ("failed", "rescan", "no_tissue", "ok")
LABELS = {
    "failed": "could not be checked",
    "rescan": "need a rescan",
    "no_tissue": "without tissue",
    "ok": "in order",
}


def render(rows: list[dict], pictures_of: Callable[[dict], dict]) -> Iterator[str]:
    """Yield the page in parts, so that the pictures of only one slide at a time are in memory.

    `rows` are those of `results.csv`. `pictures_of(row)` returns the thumbnails `slide` and `overlay` as data URLs.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.1f} %"
    counts = {status: sum(row["status"] == status for row in rows) for status in WORST_FIRST}
    worst_first = sorted(rows, key=lambda row: (WORST_FIRST.index(row["status"]), -(row["percent_blurry"] or 0)))
    return environment.get_template("report.html").generate(
        rows=worst_first, counts=counts, labels=LABELS, pictures_of=pictures_of)
