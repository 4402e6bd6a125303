"""Step 1: the plain pipeline as a Prefect flow.

    python solutions/pipeline_prefect.py --folder data

What changes from pipeline.py (`diff pipeline.py solutions/pipeline_prefect.py` shows it):

- Each step becomes a task. Those that read the slide are tried again if that fails.
- The steps are called inside a `Flow`. This runs no task: it only records which task needs which result.
- Each value that the user chooses becomes a `Parameter`.
- The blur step reads a file of the tissue step, but not its result. So `upstream_tasks` says which one runs first.
- The `if` becomes a `case`, since the result that it tests does not exist yet.
- `blurry_action` takes Prefect's logger, whose lines also go to a server.
- The loop calls `flow.run()`.
"""

import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from slideqc.console import progress, script

import cv2
import numpy as np
import prefect
from prefect import Flow, Parameter, case, task

from BaseImage import BaseImage
from slideqc import flags
from slideqc.orchestration import flows
from slideqc.output import drawing, results
from slideqc.output.run import Run
from slideqc.pixels import blurry_mask, dark_surround, filter_reach, tissue_mask
from slideqc.tissue_warnings import Tissue, tissue_warnings

# A shared drive may fail for a moment: a step that reads the slide is tried once more, a second later.
RETRY = {"max_retries": 1, "retry_delay": timedelta(seconds=1)}


@task(**RETRY)
def load_image(file_name: str, image_work_size: str, output: str = flags.OUTPUT) -> BaseImage:
    """Open the slide, and make sure that it has the working size."""
    image = BaseImage(file_name, output)
    image.plan(image_work_size)
    return image


@task(**RETRY)
def tissue_segmentation_simple(image: BaseImage, image_work_size: str) -> Tissue:
    """Find the tissue on the overview, and write its mask to the output folder."""
    rgb, scanned = image.picture(image_work_size), image.scanned(image_work_size)
    surround = dark_surround(rgb)
    tissue = tissue_mask(rgb, cv2.bitwise_and(scanned, 255 - surround))
    image.save("tissue_seg.png", tissue)
    return Tissue(cv2.countNonZero(tissue) / max(1, cv2.countNonZero(scanned)),
                  tissue_warnings(rgb, scanned, surround, tissue))


@task(**RETRY)
def identifyBlurryRegions(image: BaseImage, image_work_size: str, blur_work_size: str, blur_radius: float,
                          blur_threshold: float) -> float | None:
    """Judge the focus tile by tile, where there is tissue; write the blur mask and the overlay.

    Returns `percent_blurry`: despite its name a fraction of the tissue area, 0–1; None on a slide without tissue.
    """
    tissue = image.load_mask("tissue_seg.png")
    blurry = np.zeros_like(tissue)
    tissue_area = blurry_area = 0  # pixels at blur_work_size
    for tile in image.tiles(blur_work_size, tissue, margin=filter_reach(blur_radius)):
        found = blurry_mask(tile.rgb, tile.tissue, blur_radius, blur_threshold)
        tile.copy_to(blurry, found)
        tissue_area += cv2.countNonZero(tile.tissue)
        blurry_area += cv2.countNonZero(found)
    image.save("blurry.png", blurry)
    rgb = image.picture(image_work_size)
    overlay = drawing.overlay(rgb, tissue, blurry)
    image.save("overlay.jpg", overlay, small=(rgb, overlay))
    return blurry_area / tissue_area if tissue_area else None


@task
def check_blurry(percent_blurry: float | None, blur_max: float) -> bool:
    """Is more of the tissue blurry than `blur_max`, a fraction 0–1?"""
    return percent_blurry is not None and percent_blurry > blur_max


@task
def blurry_action(image: BaseImage, percent_blurry: float) -> None:
    """Ask for a rescan."""
    logger = prefect.context.get("logger")
    logger.warning("%s: %.1f %% of the tissue is blurry, please rescan", image.name, 100 * percent_blurry)


@task
def save_result(image: BaseImage, image_work_size: str, tissue: Tissue, percent_blurry: float | None,
                too_blurry: bool) -> dict:
    """Write the slide's row of the results; returns it."""
    status = "no_tissue" if percent_blurry is None else "rescan" if too_blurry else "ok"
    row = results.save_row(image.output, image.name, status, **image.describe(image_work_size, tissue.warnings),
                           tissue_fraction=tissue.fraction, percent_blurry=percent_blurry)
    flows.leave_artifact(row)  # on a server, for its page Artifacts
    return row


def define_flow() -> Flow:
    """The flow for one slide: its tasks and their dependencies."""
    with Flow("Check one slide", terminal_state_handler=flows.finish) as flow:
        file_name = Parameter("file_name")
        image_work_size = Parameter("image_work_size", default="1.25x")
        blur_work_size = Parameter("blur_work_size", default="5x")
        blur_radius = Parameter("blur_radius", default=7)
        blur_threshold = Parameter("blur_threshold", default=0.05)
        blur_max = Parameter("blur_max", default=0.10)
        output = Parameter("output", default=str(flags.OUTPUT))

        image = load_image(file_name, image_work_size, output)
        tissue = tissue_segmentation_simple(image, image_work_size)
        percent_blurry = identifyBlurryRegions(image, image_work_size, blur_work_size, blur_radius, blur_threshold,
                                               upstream_tasks=[tissue])
        too_blurry = check_blurry(percent_blurry, blur_max)
        with case(too_blurry, True):
            blurry_action(image, percent_blurry)
        save_result(image, image_work_size, tissue, percent_blurry, too_blurry)
    flows.save_failures(flow)  # a slide whose step failed gets its row too
    return flow


@script
def main(argv: list[str] | None = None) -> int:
    """Check every slide of the folder, with one flow run for each; returns the exit status."""
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
