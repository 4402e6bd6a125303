"""3: the case stands outside apply_map"""

from pieces import mapped_parameters, measure_mapped
from prefect import Flow, case

from solutions.pipeline_prefect import blurry_action, check_blurry


def define_flow():
    with Flow("Check one slide") as flow:
        p = mapped_parameters()
        image, percent_blurry = measure_mapped(p)
        with case(check_blurry.map(percent_blurry, p.blur_max), True):
            blurry_action.map(image, percent_blurry)
    return flow
