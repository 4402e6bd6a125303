"""3: the case stands outside apply_map"""

from prefect import Flow, Parameter, case, unmapped

from solutions.pipeline_prefect import (
    blurry_action,
    check_blurry,
    identifyBlurryRegions,
    load_image,
    tissue_segmentation_simple,
)


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
        with case(check_blurry.map(percent_blurry, blur_max), True):
            blurry_action.map(image, percent_blurry)
    return flow
