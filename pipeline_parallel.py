"""The plain pipeline in parallel: the same steps, several slides at a time.

    python pipeline_parallel.py --folder data --workers 4

Only the loop differs from pipeline.py: worker processes check the slides, and each row arrives when its slide is done.
If a worker dies, the row of its slide says `failed`, and a new worker replaces it.
"""

import sys
from functools import partial

from slideqc.console import progress, script, show, start_logging

from pipeline import check_slide
from slideqc import flags
from slideqc.output import results
from slideqc.output.run import Run
from slideqc.workers import Workers


@script
def main(argv: list[str] | None = None) -> int:
    """Check all slides of the folder, `--workers` at a time; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_workers(parser)
    options = parser.parse_args(argv)
    run = Run.begin(options)
    check = partial(check_slide, output=options.output, **flags.parameters(options))
    with Workers(options.workers, check, initializer=partial(start_logging, in_worker=True),
                 if_killed=partial(results.save_killed, options.output)) as workers:
        for row in progress(workers.each(run.slides), total=len(run.slides)):
            show(row)
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
