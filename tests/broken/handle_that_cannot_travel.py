"""4: with LocalDaskExecutor(processes), """

from threading import Lock

from prefect import Flow, Parameter, apply_map, case, task, unmapped
from prefect.executors import LocalDaskExecutor

import pipeline
from solutions.pipeline_prefect import (
    blurry_action,
    check_blurry,
    identifyBlurryRegions,
    tissue_segmentation_simple,
)


@task
def load_image(file_name, image_work_size):
    image = pipeline.load_image(file_name, image_work_size)
    image.lock = Lock()
    return image


def rescan(image, percent_blurry, blur_max):
    with case(check_blurry(percent_blurry, blur_max), True):
        blurry_action(image, percent_blurry)

def define_flow():
    with Flow("Image QC") as flow:
        file_names = Parameter("file_names")
        image_work_size = unmapped(Parameter("image_work_size", default="1.25x"))
        blur_radius = unmapped(Parameter("blur_radius", default=7))
        blur_threshold = unmapped(Parameter("blur_threshold", default=0.05))
        blur_max = unmapped(Parameter("blur_max", default=0.05))

        image = load_image.map(file_names, image_work_size)
        result = tissue_segmentation_simple.map(image, image_work_size)
        percent_blurry = identifyBlurryRegions.map(image, image_work_size, blur_radius, blur_threshold,
                                                   upstream_tasks=[result])
        apply_map(rescan, image, percent_blurry, blur_max)
        flow.executor = LocalDaskExecutor(scheduler="threads", num_workers=2)
    return flow
