"""1: no case holds blurry_action back"""

from pieces import measure, parameters
from prefect import Flow

from solutions.pipeline_prefect import blurry_action, check_blurry


def define_flow():
    with Flow("Check one slide") as flow:
        p = parameters()
        image, _, percent_blurry = measure(p)
        if check_blurry(percent_blurry, p.blur_max):
            blurry_action(image, percent_blurry)
    return flow
