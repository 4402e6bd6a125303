"""1: tissue_segmentation_simple changed image.tissue, which it was given"""

import numpy as np
from prefect import task

import pipeline
import solutions.pipeline_prefect as right


@task
def tissue_segmentation_simple(image, image_work_size):
    image.tissue = pipeline.tissue_mask(image.picture(image_work_size), image.scanned(image_work_size))


@task
def identifyBlurryRegions(image, image_work_size, blur_work_size, blur_radius, blur_threshold):  # noqa: N802
    rgb, tissue = image.picture(image_work_size), image.tissue
    blurry = pipeline.blurry_mask(rgb, tissue, blur_radius, blur_threshold)
    image.save("tissue_seg.png", tissue)
    image.save("blurry.png", blurry)
    return np.count_nonzero(blurry) / np.count_nonzero(tissue)


right.tissue_segmentation_simple = tissue_segmentation_simple
right.identifyBlurryRegions = identifyBlurryRegions
define_flow = right.define_flow
