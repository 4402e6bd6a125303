"""1: identifyBlurryRegions gave"""

from pieces import parameters, rescan
from prefect import Flow

from solutions.pipeline_prefect import identifyBlurryRegions, load_image, tissue_segmentation_simple


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters()
        flow.add_task(p.blur_radius)
        image = load_image(p.file_name, p.image_work_size)
        result = tissue_segmentation_simple(image, p.image_work_size)
        percent_blurry = identifyBlurryRegions(image, p.image_work_size, p.blur_work_size, p.blur_max, p.blur_threshold,
                                               upstream_tasks=[result])
        rescan(image, percent_blurry, p.blur_max)
    return flow
