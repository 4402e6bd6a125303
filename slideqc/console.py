"""Everything that a run prints to the terminal: log lines, a progress bar, the table, one line for an error.

The scripts import this module before any installed package. If a package is missing, they end with one line instead of
a traceback. For this reason, the module imports tqdm and tabulate only in the functions that use them.
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
    """Decorate the `main` of a script: start logging, and print one line instead of a traceback for expected errors.

    The exit status is 2 after a CommandError, 1 after an OutputError or a SlideError, 130 after Ctrl-C.
    """
    @functools.wraps(main)
    def with_one_line_errors(argv: list[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            # A file name that the terminal cannot show must not end the run.
            stream.reconfigure(errors="backslashreplace")
        start_logging()
        gc.freeze()  # saves 0.1 s: imported objects need no search for cycles
        try:
            return main(argv)
        except CommandError as error:
            return _print_error(error, 2)
        except (OutputError, SlideError) as error:
            return _print_error(error, 1)
        except KeyboardInterrupt:
            return _print_error("stopped: the slides checked so far have their rows, the table was not written", 130)
    return with_one_line_errors


def start_logging(in_worker: bool = False) -> None:
    """Write log lines to standard output. In a worker process, each line first erases the parent's progress bar."""
    wipe = "\r\x1b[K" if in_worker and sys.stdout.isatty() and sys.stderr.isatty() else ""
    terminal = logging.StreamHandler(sys.stdout)
    terminal.addFilter(lambda record: not record.name.startswith("prefect"))  # Prefect prints its own lines
    logging.basicConfig(handlers=[terminal], level=logging.INFO, datefmt="%H:%M:%S", force=in_worker,
                        format=f"{wipe}%(asctime)s %(levelname)-7s %(message)s")


def _print_error(problem: object, status: int) -> int:
    print(f"{Path(sys.argv[0]).name}: {' '.join(str(problem).split())}", file=sys.stderr)
    return status


def progress(slides: Iterable, total: int | None = None) -> Iterator:
    """Yield each of `slides`, and show a progress bar if standard error is a terminal."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    loggers = [logging.getLogger(), logging.getLogger("prefect")]
    bar = tqdm(slides, total=total, unit="slide", disable=None, dynamic_ncols=True)
    with logging_redirect_tqdm(loggers), bar:
        yield from bar


def show(row: dict) -> None:
    """Log the result of one slide; `row` is its row."""
    if row["status"] == "failed":
        logger.error("failed: %s", row["error"])
    else:
        logger.info("%s: %s, %s tissue, %s of it blurry", row["file_name"], row["status"].replace("_", " "),
                    _percent(row["tissue_fraction"]), _percent(row["percent_blurry"]) or "none")


def table(rows: list[dict]) -> str:
    """A table of the rows, as text for the terminal; it has at most TABLE_ROWS rows."""
    from tabulate import tabulate

    cells = [(row["file_name"], row["status"], _percent(row["tissue_fraction"]), _percent(row["percent_blurry"]),
              row["error"] or "; ".join(row["warnings"])) for row in rows[:TABLE_ROWS]]
    text = tabulate(cells, ["slide", "status", "tissue", "blurry", "notes"], disable_numparse=True,
                    colalign=("left", "left", "right", "right", "left"), maxcolwidths=[None, None, None, None, 60])
    more = len(rows) - len(cells)
    return text + (f"\n… and {more} more in results.csv" if more else "")


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
