"""The comparison: the same job in plain Python and in Prefect, timed on this machine.

    python compare.py                   16 slides of full size, 5 rounds
    python compare.py --quick           small slides, 2 rounds: under two minutes, live in the room
    python compare.py --details         also where the time goes: start-up, pixels, orchestration
    python compare.py --server          also through a server with an agent
    python compare.py --folder scans    on your own slides

Each row runs as you would run it, as a whole process; each round runs all rows in turn. First every row runs once
without being timed, and has to leave the same files as plain Python, byte for byte. A row that does not is shown as
wrong and is not timed.

The slides that it makes stay in data/compare (1 GB, some minutes, once; --quick: data/compare-quick). The tables, the
picture and every raw sample go to output/comparison. Ctrl-C keeps the finished rounds. Close other programs first.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from slideqc.console import script

import psutil

from slideqc import flags
from slideqc.comparing import chart, measuring, rows, slides, tables
from slideqc.comparing.comparison_json import comparison
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
    add("--slides", type=flags.count, metavar="N",
        help=f"how many slides (makes {slides.FULL}, with --quick {slides.QUICK}; of --folder all)")
    add("--repeats", type=flags.count, metavar="N", help=f"rounds ({ROUNDS}, with --quick {QUICK_ROUNDS})")
    add("--rows", nargs="+", metavar="ROW", help=f"these alone, of: {', '.join(row.key for row in ROWS)}")
    add("--server", action="store_true", help="also the rows that go through a server")
    add("--quick", action="store_true", help="fewer and smaller slides, fewer rounds: under two minutes")
    add("--details", action="store_true", help="show also where the time goes, with memory and CPU")
    flags.add_workers(parser)
    options = parser.parse_args(argv)
    options.rows = rows.choose(ROWS, options.rows, options.server)
    options.repeats = options.repeats or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def make_plan(options: argparse.Namespace) -> ComparisonPlan:
    """The plan that the options ask for."""
    return ComparisonPlan(
        rows=options.rows, slides=slides.find(options.folder, options.filetype, options.slides, options.quick),
        repeats=options.repeats, workers=options.workers, parameters=flags.parameters(options),
        passes=1 if options.quick else 3)


def write(results: dict, output: Path) -> None:
    """Write comparison.json, .md and .png."""
    try:
        write_whole(output / "comparison.json", (json.dumps(results, indent=1) + "\n").encode())
        write_whole(output / "comparison.md", tables.markdown(results).encode())
        write_whole(output / "comparison.png", chart.draw(results))
    except OSError as error:
        raise OutputError(f"cannot write to {output} ({error.strerror}): make room") from error


@script
def main(argv: list[str] | None = None) -> int:
    """Compare the rows; 0, or 1 if one of them was wrong, 130 after Ctrl-C."""
    date, load = time.strftime("%Y-%m-%dT%H:%M:%S%z"), psutil.getloadavg()[0]
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
        results = comparison(session, date=date, load=load, stopped=stopped)
        write(results, options.output)
        print(f"\n{tables.terminal(results, options.details)}\n\ncomparison.png, .md and .json are in {options.output}")
        if stopped:
            print(f"compare.py: stopped: {session.rounds} of {options.repeats} rounds are finished, and written",
                  file=sys.stderr)
            return 130
    return 1 if session.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
