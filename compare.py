"""The comparison: the same job in plain Python and in Prefect, timed on this machine.

    python compare.py                   16 slides of full size, 5 rounds
    python compare.py --quick           small slides, 2 rounds: under two minutes, live in the room
    python compare.py --server          also through a server with an agent
    python compare.py --folder scans    on your own slides

Each row runs as you would run it, as a whole process; each round runs all rows in turn. First every row runs once
without being timed, and has to leave the same files as plain Python, byte for byte. A row that does not is shown as
wrong and is not timed. Times, memory and CPU follow, and how the time divides into start-up, pixels and orchestration.

The slides that it makes stay in data/compare (1 GB, some minutes, once; --quick: data/compare-quick). The table, the
picture and every raw sample go to output/comparison. Ctrl-C keeps the finished rounds. Close other programs first.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from slideqc.console import script

from slideqc import flags
from slideqc.comparing import chart, measuring, rows, slides, tables
from slideqc.comparing.comparison_json import comparison, load_average
from slideqc.comparing.rows import ComparisonRow
from slideqc.comparing.session import ComparisonPlan, Session
from slideqc.errors import CommandError, OutputError
from slideqc.files import write_whole

SERIAL, MAPPED = "solutions/pipeline_prefect.py", "solutions/pipeline_prefect_parallel.py"
SERIAL_FLOW, MAPPED_FLOW = "solutions.pipeline_prefect", "solutions.pipeline_prefect_parallel"
WORKERS = ("--workers", "{workers}")
ROWS = [
    ComparisonRow("python-serial", "Python, serial", "pipeline.py", kind="python"),
    ComparisonRow("python-parallel", "Python, parallel", "pipeline_parallel.py", WORKERS, kind="python"),
    ComparisonRow("prefect-serial", "Prefect, serial", SERIAL, flow=SERIAL_FLOW),
    ComparisonRow("mapped-local", "Prefect mapped: local", MAPPED, ("--executor", "local"),
                  flow=MAPPED_FLOW, executor="local"),
    ComparisonRow("mapped-threads", "Prefect mapped: threads", MAPPED, ("--executor", "threads", *WORKERS),
                  flow=MAPPED_FLOW, executor="threads"),
    ComparisonRow("mapped-processes", "Prefect mapped: processes", MAPPED, ("--executor", "processes", *WORKERS),
                  flow=MAPPED_FLOW, executor="processes"),
    ComparisonRow("mapped-cluster", "Prefect mapped: cluster", MAPPED,
                  ("--executor", "distributed", "--scheduler-address", "{scheduler}"),
                  flow=MAPPED_FLOW, executor="distributed", backend="cluster"),
    ComparisonRow("server-serial", "Prefect server: serial", "solutions/pipeline_prefect_server.py", ("--wait",),
                  kind="server", backend="server"),
    ComparisonRow("server-mapped", "Prefect server: mapped", "solutions/pipeline_prefect_parallel_server.py",
                  ("--wait", *WORKERS), kind="server", backend="server"),
]
ROUNDS, QUICK_ROUNDS = 5, 2


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; `options.rows` are ComparisonRows."""
    pipeline = flags.parser(__doc__)
    parser = type(pipeline)(description=__doc__, formatter_class=pipeline.formatter_class, parents=[pipeline],
                            conflict_handler="resolve")
    add = parser.add_argument
    add("--folder", type=Path, help="where the slides are (makes its own, in data/compare)")
    add("--output", type=Path, default=flags.OUTPUT / "comparison",
        help="where comparison.md, .png and .json go (output/comparison)")
    add("--slides", type=whole_number(slides.LEAST), metavar="N",
        help=f"how many slides (makes {slides.FULL}, with --quick {slides.QUICK}; of --folder all)")
    add("--repeats", type=whole_number(1), metavar="N", help=f"rounds ({ROUNDS}, with --quick {QUICK_ROUNDS})")
    add("--rows", nargs="+", metavar="ROW", help=f"these alone, of: {', '.join(row.key for row in ROWS)}")
    add("--server", action="store_true", help="also the rows that go through a server")
    add("--quick", action="store_true", help="fewer and smaller slides, fewer rounds: under two minutes")
    flags.add_workers(parser)
    options = parser.parse_args(argv)
    options.rows = rows.choose(ROWS, options.rows, options.server)
    options.repeats = options.repeats or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def whole_number(least: int) -> Callable[[str], int]:
    """A type of flag: a whole number that is not less than `least`."""
    def number(text: str) -> int:
        with contextlib.suppress(ValueError):
            if (value := int(text)) >= least:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} up")
    return number


def make_plan(options: argparse.Namespace) -> ComparisonPlan:
    """The plan that the options ask for."""
    found = slides.find(options.folder, options.filetype, options.slides, options.quick)
    parameters = flags.parameters(options)
    return ComparisonPlan(
        rows=options.rows, slides=found, sizes=[len(found) // 4, len(found) // 2, len(found)],
        repeats=options.repeats, rounds_of_all_sizes=1 if options.quick else options.repeats, workers=options.workers,
        flags=[text for name, value in parameters.items() for text in (f"--{name.replace('_', '-')}", str(value))],
        parameters=parameters, pipeline="pipeline", empty_sizes=[8, 16, 32] if options.quick else [16, 32, 64],
        passes=1 if options.quick else 3)


def write(results: dict, output: Path) -> None:
    """Write comparison.json, .md and .png, and show the table."""
    text = tables.markdown(results)
    try:
        write_whole(output / "comparison.json", (json.dumps(results, indent=1) + "\n").encode())
        write_whole(output / "comparison.md", text.encode())
        write_whole(output / "comparison.png", chart.draw(results))
    except OSError as error:
        raise OutputError(f"cannot write to {output} ({error.strerror}): make room") from error
    print(f"\n{text}\n{output / 'comparison.png'}, comparison.md, comparison.json")


@script
def main(argv: list[str] | None = None) -> int:
    """Compare the rows; 0, or 1 if one of them was wrong, 130 after Ctrl-C."""
    date, load = time.strftime("%Y-%m-%dT%H:%M:%S%z"), load_average()
    options = parse(argv)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".running-", dir=options.output, ignore_cleanup_errors=True)
    except OSError as error:
        raise CommandError(f"cannot write to the output folder {options.output} ({error.strerror}): "
                           "give another one with --output") from error
    with measuring.interrupted_once():
        session, stopped = None, False
        with temporary as folder:
            try:
                session = Session(make_plan(options), Path(folder).resolve())
                session.run()
            except KeyboardInterrupt:
                stopped = True
        if stopped and (session is None or not session.rounds):
            print("compare.py: stopped before the first round was finished: nothing was measured", file=sys.stderr)
            return 130
        write(comparison(session, date=date, load=load, stopped=stopped), options.output)
        if stopped:
            print(f"compare.py: stopped: {session.rounds} of {options.repeats} rounds are finished, and written",
                  file=sys.stderr)
            return 130
    return 1 if session.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
