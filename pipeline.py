"""Quality control of whole-slide images in plain Python, one slide after the other.

A scanner has written slides to a shared drive. Before anyone trusts them, each is checked: load it, find the tissue,
measure how much of the tissue is out of focus, and ask for a rescan where that is too much.

    python pipeline.py --folder data

Each step leaves its picture in the output folder, and the next step reads it from there. So no step needs to run in
the same process, or on the same machine, as the one before it: keep an eye on that when you turn this into a flow.
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

LUMA = np.array([[0.2125, 0.7154, 0.0721]], np.float32)  # gray as scikit-image's rgb2gray weighs it (ITU-R BT.709)
SQUARE = np.ones((5, 5), np.uint8)
LEAST_CONTRAST = 15    # gray levels between tissue and glass: shading and noise of bare glass stay below
LEAST_PIECE = 0.0002   # part of the picture in one piece: dust stays below

logger = logging.getLogger("pipeline")


def tissue_mask(rgb: np.ndarray) -> np.ndarray:
    """Where the tissue is: gray, invert, Otsu's threshold, dilate with a 5×5 square three times.

    `rgb` is uint8 (height, width, 3); returns uint8 (height, width), 255 on tissue, 0 elsewhere, and 0 everywhere
    on a slide without tissue: Otsu's threshold always finds something, be it dust or shading.
    """
    inverted = 255 - cv2.transform(rgb, LUMA)
    _, dark = cv2.threshold(inverted, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contrast = cv2.mean(inverted, dark)[0] - cv2.mean(inverted, 255 - dark)[0]
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, SQUARE)  # fibres are thinner than the square
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(map(cv2.contourArea, outlines), default=0)
    if dark.all() or contrast < LEAST_CONTRAST or largest < LEAST_PIECE * dark.size:
        return np.zeros_like(dark)
    return cv2.dilate(dark, SQUARE, iterations=3)


def blurry_mask(rgb: np.ndarray, tissue: np.ndarray, blur_radius: float, blur_threshold: float) -> np.ndarray:
    """Where the tissue is out of focus: few edges, so a small Laplacian all around.

    `rgb` is uint8 (height, width, 3), `tissue` uint8 (height, width); `blur_radius` is σ in pixels; the threshold
    has no unit, since gray values run from 0 to 1. Returns uint8 (height, width), 255 on blurry tissue.
    """
    gray = np.empty(rgb.shape[:2], np.float32)
    for top in range(0, len(rgb), 256):  # as floats, the colours of the whole picture would take four times its memory
        gray[top:top + 256] = cv2.transform(np.float32(rgb[top:top + 256]), LUMA / 255)
    edges = np.abs(cv2.Laplacian(gray, cv2.CV_32F, borderType=cv2.BORDER_REFLECT))
    reach = 2 * round(4 * blur_radius) + 1  # four σ to each side, as in scikit-image
    smooth = cv2.GaussianBlur(edges, (reach, reach), blur_radius, borderType=cv2.BORDER_REPLICATE)
    return cv2.bitwise_and(cv2.inRange(smooth, 0, blur_threshold), tissue)


def load_image(file_name: str, image_work_size: str, output: str = flags.OUTPUT) -> BaseImage:
    """Open the slide, and make sure that it has the working size."""
    image = BaseImage(file_name, output)
    image.plan(image_work_size)
    return image


def tissue_segmentation_simple(image: BaseImage, image_work_size: str) -> float:
    """Leave the tissue mask in the output folder; returns the fraction of the slide that is tissue, 0–1."""
    tissue = tissue_mask(image.picture(image_work_size))
    image.save("tissue_seg.png", tissue)
    return cv2.countNonZero(tissue) / tissue.size


def identifyBlurryRegions(image: BaseImage, image_work_size: str, blur_radius: float,
                          blur_threshold: float) -> float | None:
    """Leave the blur mask and the overlay; returns `percent_blurry`.

    Despite its name that is a fraction of the tissue area, 0–1; None on a slide without tissue.
    """
    rgb = image.picture(image_work_size)
    tissue = image.load_mask("tissue_seg.png")
    blurry = blurry_mask(rgb, tissue, blur_radius, blur_threshold)
    image.save("blurry.png", blurry)
    overlay = drawing.overlay(rgb, tissue, blurry)
    image.save("overlay.jpg", overlay, small=(rgb, overlay))
    area = cv2.countNonZero(tissue)
    return cv2.countNonZero(blurry) / area if area else None


def check_blurry(percent_blurry: float | None, blur_max: float) -> bool:
    """Is more of the tissue blurry than `blur_max`, a fraction 0–1?"""
    return percent_blurry is not None and percent_blurry > blur_max


def blurry_action(image: BaseImage, percent_blurry: float) -> None:
    """Ask for a rescan."""
    logger.warning("%s: %.1f %% of the tissue is blurry, please rescan", image.name, 100 * percent_blurry)


def save_result(image: BaseImage, image_work_size: str, tissue_fraction: float, percent_blurry: float | None,
                too_blurry: bool) -> dict:
    """Write the slide's row of the results; returns it."""
    status = "no_tissue" if percent_blurry is None else "rescan" if too_blurry else "ok"
    return results.save_row(image.output, image.name, status, **image.describe(image_work_size),
                            tissue_fraction=tissue_fraction, percent_blurry=percent_blurry)


def check_slide(file_name: str, image_work_size: str, blur_radius: float, blur_threshold: float, blur_max: float,
                output: str) -> dict:
    """Take one slide through every step; returns its row, also when a step could not do its work."""
    try:
        image = load_image(file_name, image_work_size, output)
        tissue_fraction = tissue_segmentation_simple(image, image_work_size)
        percent_blurry = identifyBlurryRegions(image, image_work_size, blur_radius, blur_threshold)
        too_blurry = check_blurry(percent_blurry, blur_max)
        if too_blurry:
            blurry_action(image, percent_blurry)
        return save_result(image, image_work_size, tissue_fraction, percent_blurry, too_blurry)
    except Exception as error:  # one bad slide must not keep the others waiting
        return results.save_failure(output, file_name, error)


@script
def main(argv: list[str] | None = None) -> int:
    """Check every slide of the folder; returns the exit status."""
    options = flags.parser(__doc__).parse_args(argv)
    run = Run(options)
    for file_name in progress(run.slides):
        show(check_slide(file_name, output=options.output, **flags.parameters(options)))
    return run.finish()


if __name__ == "__main__":
    sys.exit(main())
