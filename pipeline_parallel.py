"""The plain pipeline in parallel: the same steps, several slides at a time.

    python pipeline_parallel.py --folder data --workers 4

What changes against pipeline.py is the loop: the slides go to a pool of worker processes, and come back in the
order in which they are done. A worker that dies fails the slide it was busy with, and another takes its place.
"""

import sys
from concurrent.futures import as_completed
from pathlib import Path

from slideqc.console import progress, script, show, start_logging

from pebble import ProcessExpired, ProcessPool

from pipeline import check_slide
from slideqc import flags, results
from slideqc.errors import SlideError
from slideqc.run import Run


@script
def main(argv: list[str] | None = None) -> int:
    """Check every slide of the folder, `--workers` at a time; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_workers(parser)
    options = parser.parse_args(argv)
    run = Run(options)
    parameters = {"output": options.output, **flags.parameters(options)}
    with ProcessPool(options.workers, initializer=start_logging, initargs=[True]) as pool:
        try:
            slides = {pool.schedule(check_slide, [file_name], parameters): file_name for file_name in run.slides}
            for checked in progress(as_completed(slides), total=len(slides)):
                try:
                    show(checked.result())
                except ProcessExpired as death:
                    problem = SlideError(f"{Path(slides[checked]).name} was given up: its worker died (exit status "
                                         f"{death.exitcode}), perhaps for want of memory: try fewer --workers")
                    show(results.save_failure(options.output, slides[checked], problem))
        except BaseException:
            pool.stop()  # the workers at once, instead of after the slides that wait
            raise
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
