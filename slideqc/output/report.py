"""The report: one page that needs no other file and no network, worst slides first."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2

WORST_FIRST = ("failed", "rescan", "no_tissue", "ok")
WORDS = {
    "failed": "could not be checked",
    "rescan": "need a rescan",
    "no_tissue": "without tissue",
    "ok": "in order",
}


def render(rows: list[dict], pictures_of: Callable[[dict], dict]) -> Iterator[str]:
    """The page, piece by piece, so that the pictures of one slide at a time are in memory.

    `rows` as in `results.csv`; `pictures_of` gives a row's small pictures, `slide` and `overlay`, as `data:` addresses.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda fraction: f"{100 * fraction:.1f} %"
    counts = {status: sum(row["status"] == status for row in rows) for status in WORST_FIRST}
    worst_first = sorted(rows, key=lambda row: (WORST_FIRST.index(row["status"]), -(row["percent_blurry"] or 0)))
    return environment.get_template("report.html").generate(
        rows=worst_first, counts=counts, words=WORDS, pictures_of=pictures_of)
