"""1: identifyBlurryRegions does not wait for tissue_segmentation_simple"""

from prefect import Flow, Parameter, case

from solutions.pipeline_prefect import (
    blurry_action,
    check_blurry,
    identifyBlurryRegions,
    load_image,
    tissue_segmentation_simple,
)


def define_flow():
    with Flow("Image QC") as flow:
        file_name = Parameter("file_name")
        image_work_size = Parameter("image_work_size", default="1.25x")
        blur_radius = Parameter("blur_radius", default=7)
        blur_threshold = Parameter("blur_threshold", default=0.05)
        blur_max = Parameter("blur_max", default=0.05)

        image = load_image(file_name, image_work_size)
        tissue_segmentation_simple(image, image_work_size)
        percent_blurry = identifyBlurryRegions(image, image_work_size, blur_radius, blur_threshold)
        with case(check_blurry(percent_blurry, blur_max), True):
            blurry_action(image, percent_blurry)
    return flow
