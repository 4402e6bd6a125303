"""3: load_image is mapped over image_work_size too"""

from pieces import mapped_parameters, measure_mapped, rescan
from prefect import Flow, Parameter, apply_map


def define_flow():
    with Flow("Check one slide") as flow:
        p = mapped_parameters(image_work_size=Parameter("image_work_size", default="1.25x"))
        image, percent_blurry = measure_mapped(p)
        apply_map(rescan, image, percent_blurry, p.blur_max)
    return flow
