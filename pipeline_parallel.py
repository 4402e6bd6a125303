"""The plain pipeline in parallel: the same steps, several slides at a time.

    python pipeline_parallel.py --folder data --workers 4

What changes against pipeline.py is the loop: the slides go to a pool of worker processes, and come back in the
order in which they are done. A worker that dies fails the slide it was busy with, and another takes its place.
"""

import sys
from functools import partial
from pathlib import Path

from slideqc.console import progress, script, show, start_logging

from pipeline import check_slide
from slideqc import flags
from slideqc.errors import SlideError
from slideqc.output import results
from slideqc.output.run import Run
from slideqc.workers import WorkerError, Workers


@script
def main(argv: list[str] | None = None) -> int:
    """Check every slide of the folder, `--workers` at a time; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_workers(parser)
    options = parser.parse_args(argv)
    run = Run(options)
    check = partial(check_slide, output=options.output, **flags.parameters(options))
    with Workers(options.workers, check, initializer=partial(start_logging, in_worker=True)) as workers:
        for file_name, checked in progress(workers.each(run.slides), total=len(run.slides)):
            try:
                show(checked.result())
            except WorkerError as death:
                problem = SlideError(f"{Path(file_name).name} was given up: {death}, perhaps for want of memory: "
                                     "try fewer --workers")
                show(results.save_failure(options.output, file_name, problem))
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
