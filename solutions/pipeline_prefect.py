"""Step 1: the plain pipeline as a Prefect flow.

    python solutions/pipeline_prefect.py --folder data

What changes from pipeline.py:

- Each step becomes a task.
- The steps are called inside a `Flow`. This runs no task: it only records which task needs which result.
- Each value that the user chooses becomes a `Parameter`.
- The `if` becomes a `case`, since the result that it tests does not exist yet.
- The blur step reads a file of the tissue step, but not its result. So `upstream_tasks` says which one runs first.
- The loop calls `flow.run()`.
"""

import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slideqc.console import progress, script

import prefect
from prefect import Flow, Parameter, case, task
from prefect.engine.signals import FAIL
from prefect.triggers import all_finished

import pipeline
from BaseImage import BaseImage
from slideqc import flags
from slideqc.orchestration import flows
from slideqc.output import results
from slideqc.output.run import Run
from slideqc.tissue_warnings import Tissue

# A shared drive may fail for a moment: tasks that read a slide are retried once.
RETRY = {"max_retries": 1, "retry_delay": timedelta(seconds=1)}

load_image = task(pipeline.load_image, **RETRY)
tissue_segmentation_simple = task(pipeline.tissue_segmentation_simple, **RETRY)
identifyBlurryRegions = task(pipeline.identifyBlurryRegions, **RETRY)
check_blurry = task(pipeline.check_blurry)


@task
def blurry_action(image: BaseImage, percent_blurry: float) -> None:
    """Ask for a rescan. Prefect's logger also sends the line to a server."""
    logger = prefect.context.get("logger")
    logger.warning("%s: %.1f %% of the tissue is blurry, please rescan", image.name, 100 * percent_blurry)


@task(trigger=all_finished, skip_on_upstream_skip=False)
def save_result(file_name: str, output: str, image: BaseImage, image_work_size: str, tissue: Tissue,
                percent_blurry: float | None, too_blurry: bool) -> None:
    """Write the slide's row, also if a step failed: then this task receives an exception instead of a result."""
    try:
        for result in (image, tissue, percent_blurry, too_blurry):
            if isinstance(result, Exception):
                raise result
        pipeline.save_result(image, image_work_size, tissue, percent_blurry, too_blurry)
    except Exception as error:
        raise FAIL(results.save_failure(output, file_name, error)["error"]) from None


def define_flow() -> Flow:
    """The flow for one slide: its tasks and their dependencies."""
    with Flow("Image QC", terminal_state_handler=flows.finish) as flow:
        file_name = Parameter("file_name")
        image_work_size = Parameter("image_work_size", default="1.25x")
        blur_work_size = Parameter("blur_work_size", default="5x")
        blur_radius = Parameter("blur_radius", default=7)
        blur_threshold = Parameter("blur_threshold", default=0.05)
        blur_max = Parameter("blur_max", default=0.10)
        output = Parameter("output", default=str(flags.OUTPUT))

        image = load_image(file_name, image_work_size, output)
        result = tissue_segmentation_simple(image, image_work_size)
        percent_blurry = identifyBlurryRegions(image, image_work_size, blur_work_size, blur_radius,
                                               blur_threshold, upstream_tasks=[result])
        too_blurry = check_blurry(percent_blurry, blur_max)
        with case(too_blurry, True):
            blurry_action(image, percent_blurry)
        saved = save_result(file_name, output, image, image_work_size, result, percent_blurry, too_blurry)
        flow.set_reference_tasks([saved])  # the flow run succeeds if this task does
    return flow


@script
def main(argv: list[str] | None = None) -> int:
    """Check all slides of the folder, with one flow run for each slide; returns the exit status."""
    parser = flags.parser(__doc__)
    flags.add_visualize(parser)
    options = parser.parse_args(argv)
    flow = define_flow()
    if options.visualize:
        return flows.visualize(flow, options.visualize)
    run = Run.begin(options)
    for file_name in progress(run.slides):
        flow.run(file_name=file_name, output=str(options.output), **flags.parameters(options))
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
