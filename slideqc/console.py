"""What a run shows on the terminal: log lines, a progress bar, the table, one line for a mistake.

The scripts import it before any package that has to be installed, so that a Python without them is told in one line
too. For the same reason it imports its own two where they are used.
"""

import functools
import gc
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slideqc import packages
from slideqc.errors import CommandError, OutputError, SlideError

packages.require()

TABLE_ROWS = 40

logger = logging.getLogger("slideqc")


def script(main: Callable[..., int]) -> Callable[..., int]:
    """Let a script's `main` log to the terminal, and end in one line where a user or the disk is at fault."""
    @functools.wraps(main)
    def told_in_one_line(argv: list[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            # A name that the terminal cannot show must not end the run.
            stream.reconfigure(errors="backslashreplace")
        start_logging()
        gc.freeze()  # what the imports made stays: to search it for cycles, at the end too, takes a tenth of a second
        try:
            return main(argv)
        except CommandError as error:
            return _say(error, 2)
        except (OutputError, SlideError) as error:
            return _say(error, 1)
        except KeyboardInterrupt:
            return _say("stopped: the slides checked so far have their rows, the table was not written", 130)
    return told_in_one_line


def start_logging(in_worker: bool = False) -> None:
    """Show log lines on standard output; those of a worker process first wipe the progress bar of its parent."""
    wipe = "\r\x1b[K" if in_worker and sys.stdout.isatty() and sys.stderr.isatty() else ""
    terminal = logging.StreamHandler(sys.stdout)
    terminal.addFilter(lambda record: not record.name.startswith("prefect"))  # it shows its own lines
    logging.basicConfig(handlers=[terminal], level=logging.INFO, datefmt="%H:%M:%S", force=in_worker,
                        format=f"{wipe}%(asctime)s %(levelname)-7s %(message)s")


def _say(problem: object, status: int) -> int:
    print(f"{Path(sys.argv[0]).name}: {' '.join(str(problem).split())}", file=sys.stderr)
    return status


def progress(slides: Iterable, total: int | None = None) -> Iterator:
    """Go through the slides with a progress bar, where standard error is a terminal."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    loggers = [logging.getLogger(), logging.getLogger("prefect")]
    bar = tqdm(slides, total=total, unit="slide", disable=None, dynamic_ncols=True)
    with logging_redirect_tqdm(loggers), bar:
        yield from bar


def show(row: dict) -> None:
    """Log a slide as it is done."""
    if row["status"] == "failed":
        logger.error("failed: %s", row["error"])
    else:
        logger.info("%s: %s, %s tissue, %s of it blurry", row["file_name"], row["status"].replace("_", " "),
                    _percent(row["tissue_fraction"]), _percent(row["percent_blurry"]) or "none")


def table(rows: list[dict]) -> str:
    """The rows for the terminal, at most 40 of them."""
    from tabulate import tabulate

    shown = [(row["file_name"], row["status"], _percent(row["tissue_fraction"]), _percent(row["percent_blurry"]),
              row["error"] or "; ".join(row["warnings"])) for row in rows[:TABLE_ROWS]]
    text = tabulate(shown, ["slide", "status", "tissue", "blurry", "notes"], disable_numparse=True,
                    colalign=("left", "left", "right", "right", "left"), maxcolwidths=[None, None, None, None, 60])
    more = len(rows) - len(shown)
    return text + (f"\n… and {more} more in results.csv" if more else "")


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
