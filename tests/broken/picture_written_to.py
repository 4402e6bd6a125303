"""1: tissue_segmentation_simple writes into the picture it was given, which is read-only"""

from prefect import task

import pipeline
import solutions.pipeline_prefect as right


@task
def tissue_segmentation_simple(image, image_work_size):
    rgb = image.picture(image_work_size)
    rgb[:] = 255 - rgb
    image.save("tissue_seg.png", pipeline.tissue_mask(rgb, image.scanned(image_work_size)))


right.tissue_segmentation_simple = tissue_segmentation_simple
define_flow = right.define_flow
