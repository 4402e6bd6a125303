"""3: identifyBlurryRegions does not wait for tissue_segmentation_simple"""

from pieces import mapped_parameters, rescan
from prefect import Flow, apply_map

from solutions.pipeline_prefect import identifyBlurryRegions, load_image, tissue_segmentation_simple


def define_flow():
    with Flow("Check one slide") as flow:
        p = mapped_parameters()
        image = load_image.map(p.file_names, p.image_work_size)
        tissue_segmentation_simple.map(image, p.image_work_size)
        percent_blurry = identifyBlurryRegions.map(image, p.image_work_size, p.blur_work_size, p.blur_radius,
                                                   p.blur_threshold)
        apply_map(rescan, image, percent_blurry, p.blur_max)
    return flow
