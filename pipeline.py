"""Quality control of whole-slide images in plain Python, one slide after the other.

A scanner has written slides to a shared drive. Before anyone trusts them, each is checked: load it, find the tissue,
measure how much of the tissue is out of focus, and ask for a rescan where that is too much.

    python pipeline.py --folder data

Each step writes its picture to the output folder, and the next step reads it from there. So two steps of a slide can
run in different processes, or on different machines. Keep an eye on that when you turn this into a flow.
"""

import logging
import sys

from slideqc.console import progress, script, show

import cv2
import numpy as np

from BaseImage import BaseImage
from slideqc import flags
from slideqc.output import drawing, results
from slideqc.output.run import Run
from slideqc.pixels import blurry_mask, dark_surround, filter_reach, tissue_mask
from slideqc.tissue_warnings import Tissue, tissue_warnings

logger = logging.getLogger("pipeline")


def load_image(file_name: str, image_work_size: str, output: str = flags.OUTPUT) -> BaseImage:
    """Open the slide, and make sure that it has the working size."""
    image = BaseImage(file_name, output)
    image.plan(image_work_size)
    return image


def tissue_segmentation_simple(image: BaseImage, image_work_size: str) -> Tissue:
    """Find the tissue on the overview, and write its mask to the output folder."""
    rgb, scanned = image.picture(image_work_size), image.scanned(image_work_size)
    surround = dark_surround(rgb)
    tissue = tissue_mask(rgb, cv2.bitwise_and(scanned, 255 - surround))
    image.save("tissue_seg.png", tissue)
    return Tissue(cv2.countNonZero(tissue) / max(1, cv2.countNonZero(scanned)),
                  tissue_warnings(rgb, scanned, surround, tissue))


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


def check_blurry(percent_blurry: float | None, blur_max: float) -> bool:
    """Is more of the tissue blurry than `blur_max`, a fraction 0–1?"""
    return percent_blurry is not None and percent_blurry > blur_max


def blurry_action(image: BaseImage, percent_blurry: float) -> None:
    """Ask for a rescan."""
    logger.warning("%s: %.1f %% of the tissue is blurry, please rescan", image.name, 100 * percent_blurry)


def save_result(image: BaseImage, image_work_size: str, tissue: Tissue, percent_blurry: float | None,
                too_blurry: bool) -> dict:
    """Write the slide's row of the results; returns it."""
    status = "no_tissue" if percent_blurry is None else "rescan" if too_blurry else "ok"
    return results.save_row(image.output, image.name, status, **image.describe(image_work_size, tissue.warnings),
                            tissue_fraction=tissue.fraction, percent_blurry=percent_blurry)


def check_slide(file_name: str, image_work_size: str, blur_work_size: str, blur_radius: float, blur_threshold: float,
                blur_max: float, output: str) -> dict:
    """Take one slide through every step; returns its row, also when a step failed."""
    try:
        image = load_image(file_name, image_work_size, output)
        tissue = tissue_segmentation_simple(image, image_work_size)
        percent_blurry = identifyBlurryRegions(image, image_work_size, blur_work_size, blur_radius, blur_threshold)
        too_blurry = check_blurry(percent_blurry, blur_max)
        if too_blurry:
            blurry_action(image, percent_blurry)
        return save_result(image, image_work_size, tissue, percent_blurry, too_blurry)
    except Exception as error:  # one bad slide must not stop the others
        return results.save_failure(output, file_name, error)


@script
def main(argv: list[str] | None = None) -> int:
    """Check every slide of the folder; returns the exit status."""
    options = flags.parser(__doc__).parse_args(argv)
    run = Run.begin(options)
    for file_name in progress(run.slides):
        show(check_slide(file_name, output=options.output, **flags.parameters(options)))
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
