"""4: tissue_segmentation_simple changed the global variable seen"""

from prefect import task
from prefect.executors import LocalDaskExecutor

import pipeline
import solutions.pipeline_prefect_parallel as right

seen = {}


@task
def tissue_segmentation_simple(image, image_work_size):
    seen[image.name] = pipeline.tissue_segmentation_simple(image, image_work_size)


@task
def identifyBlurryRegions(image, image_work_size, blur_work_size, blur_radius, blur_threshold):  # noqa: N802
    return seen[image.name] and pipeline.identifyBlurryRegions(image, image_work_size, blur_work_size, blur_radius,
                                                               blur_threshold)


right.tissue_segmentation_simple = tissue_segmentation_simple
right.identifyBlurryRegions = identifyBlurryRegions


def define_flow():
    flow = right.define_flow()
    flow.executor = LocalDaskExecutor(scheduler="threads", num_workers=2)
    return flow
